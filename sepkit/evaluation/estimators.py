"""What turns a mixture into estimates: a trained network, one of the two references, or files of another program.

Conventions: (mixture, targets, name of the song) -> {source: (channel, time)}, float32 at the mixture's rate, as long as the mixture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sepkit.dsp import STFT
from sepkit.errors import SepkitError
from sepkit.evaluation.files import FileEstimate
from sepkit.models import Network, separate
from sepkit.profiles import SAMPLE_RATE, get_profile
from sepkit.storage import Run
from sepkit.storage.checkpoints import load_model

Signals = dict[str, np.ndarray]
Estimator = Callable[[np.ndarray, Signals, str], Signals]


@dataclass(eq=False)
class ModelEstimate:
    """The estimates of a network; a class and not a closure, so that it travels to workers."""

    model: Network
    device: str
    sample_rate: int = SAMPLE_RATE  # Hz, of mixtures and estimates

    def __call__(self, mixture: np.ndarray, target: Signals, song: str = "") -> Signals:
        return separate(self.model, mixture, self.sample_rate, device=self.device)


def mixture_estimate(mixture: np.ndarray, target: Signals, song: str = "") -> Signals:
    """The mixture as the estimate of every source."""
    return dict.fromkeys(target, mixture)


def oracle_estimate(mixture: np.ndarray, target: Signals, song: str = "") -> Signals:
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
    """The run's best weights, at the rate at which its profile is scored, or a reference, or its files."""
    references, config = {"mixture": mixture_estimate, "oracle": oracle_estimate}, run.config
    if config["experiment"] in references:
        return references[config["experiment"]]
    if "estimates" in config:
        if not (files := files_of(run)):
            raise SepkitError(f"The estimates of {run.name} are gone: {config['estimates']} is absent; give a folder.")
        return files
    return ModelEstimate(load_model(run), device, get_profile(config["profile"]).scored_at)


def files_of(run: Run) -> FileEstimate | None:
    """The estimates that another program made for `run`, where they are here."""
    config = run.config
    if "estimates" not in config or not Path(config["estimates"]).is_dir():
        return None
    return FileEstimate(Path(config["estimates"]), config["protocol"], get_profile(config["profile"]).scored_at)


def accompaniment_of(estimator: Estimator) -> str:
    """How the accompaniment comes about: modelled; residual, mixture minus vocals; or the mixture itself."""
    if estimator is mixture_estimate:
        return "mixture"
    made = estimator.model if isinstance(estimator, ModelEstimate) else estimator
    return "residual" if getattr(made, "sources", ("vocals",)) == ("vocals",) else "modelled"
