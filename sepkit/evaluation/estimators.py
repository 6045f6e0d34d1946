"""What turns a mixture into estimates: a trained network, or one of the two references.

Conventions: (mixture, targets) -> {source: (channel, time)}, float32 at the mixture's rate, as long as the mixture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sepkit.dsp import STFT
from sepkit.models import Network, separate
from sepkit.profiles import SAMPLE_RATE, get_profile
from sepkit.storage import Run
from sepkit.storage.checkpoints import load_model

Signals = dict[str, np.ndarray]
Estimator = Callable[[np.ndarray, Signals], Signals]


@dataclass(eq=False)
class ModelEstimate:
    """The estimates of a network; a class and not a closure, so that it travels to workers."""

    model: Network
    device: str
    sample_rate: int = SAMPLE_RATE  # Hz, of mixtures and estimates

    def __call__(self, mixture: np.ndarray, target: Signals) -> Signals:
        return separate(self.model, mixture, self.sample_rate, device=self.device)


def mixture_estimate(mixture: np.ndarray, target: Signals) -> Signals:
    """The mixture as the estimate of every source."""
    return dict.fromkeys(target, mixture)


def oracle_estimate(mixture: np.ndarray, target: Signals) -> Signals:
    """Ideal ratio mask |V| / (|V| + |A|) times the mixture's spectrum; accompaniment is the rest.

    |A| is the magnitude of the spectrum of the summed other stems; STFT 1024/256, Hann window.
    """
    stft = STFT(n_fft=1024, hop_length=256)
    signals = (target["vocals"], target["accompaniment"], mixture)
    vocals, accompaniment, whole = (stft(torch.from_numpy(signal)) for signal in signals)
    mask = vocals.abs() / (vocals.abs() + accompaniment.abs()).clamp_min(1e-10)
    estimate = stft.inverse(mask * whole, mixture.shape[-1]).numpy()
    return {"vocals": estimate, "accompaniment": mixture - estimate}


def make_estimator(run: Run, device: str = "cpu") -> Estimator:
    """The run's best weights, at the rate at which its profile is scored, or a reference."""
    references, config = {"mixture": mixture_estimate, "oracle": oracle_estimate}, run.config
    if config["experiment"] in references:
        return references[config["experiment"]]
    return ModelEstimate(load_model(run), device, get_profile(config["profile"]).scored_at)


def accompaniment_of(estimator: Estimator) -> str:
    """How the accompaniment comes about: modelled; residual, mixture minus vocals; or the mixture itself."""
    if estimator is mixture_estimate:
        return "mixture"
    sources = estimator.model.sources if isinstance(estimator, ModelEstimate) else ("vocals",)
    return "residual" if sources == ("vocals",) else "modelled"
