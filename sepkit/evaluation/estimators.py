"""What turns a mixture into estimates: a trained network, or one of the two references.

Conventions: (mixture, targets) -> {source: (channel, time)}, float32 at 44.1 kHz, as long as the mixture.
"""

from collections.abc import Callable

import numpy as np
import torch

from sepkit.dsp import STFT
from sepkit.models import Network, separate
from sepkit.profiles import SAMPLE_RATE
from sepkit.storage import Run
from sepkit.storage.checkpoints import load_model

# each signal {source: (channel, time)} or (channel, time), at 44.1 kHz
Estimator = Callable[[np.ndarray, dict[str, np.ndarray]], dict[str, np.ndarray]]


def make_estimator(run: Run, device: str = "cpu") -> Estimator:
    """What turns a mixture into estimates: the run's best weights, or a reference."""
    experiment = run.config["experiment"]
    if experiment == "mixture":
        return mixture_estimate
    if experiment == "oracle":
        return oracle_estimate
    return ModelEstimate(load_model(run), device)


class ModelEstimate:
    """The estimates of a network; a class and not a closure, so that it travels to workers."""

    def __init__(self, model: Network, device: str) -> None:
        self.model, self.device = model, device

    def __call__(self, mixture: np.ndarray, target: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return separate(self.model, mixture, SAMPLE_RATE, device=self.device)


def accompaniment_of(estimator: Estimator) -> str:
    """How the accompaniment comes about: modelled; residual, mixture minus vocals; or the mixture itself."""
    if estimator is mixture_estimate:
        return "mixture"
    sources = estimator.model.sources if isinstance(estimator, ModelEstimate) else ("vocals",)
    return "residual" if sources == ("vocals",) else "modelled"


def mixture_estimate(mixture: np.ndarray, target: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mixture as the estimate of every source."""
    return dict.fromkeys(target, mixture)


def oracle_estimate(
    mixture: np.ndarray, target: dict[str, np.ndarray], n_fft: int = 1024, hop_length: int = 256
) -> dict[str, np.ndarray]:
    """Ideal ratio mask |V| / (|V| + |A|) times the mixture's spectrum; accompaniment is the rest.

    |A| is the magnitude of the spectrum of the summed other stems; Hann window.
    """
    stft = STFT(n_fft, hop_length)
    vocals, accompaniment, whole = (
        stft(torch.from_numpy(audio)) for audio in (target["vocals"], target["accompaniment"], mixture)
    )
    mask = vocals.abs() / (vocals.abs() + accompaniment.abs()).clamp_min(1e-10)
    estimate = stft.inverse(mask * whole, mixture.shape[-1]).numpy()
    return {"vocals": estimate, "accompaniment": mixture - estimate}
