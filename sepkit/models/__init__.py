"""The networks, one file each, and what they all answer.

`build("name", **settings)` makes the `Model` of the file of that name; `separate` takes a whole song.
A new network is one new file with a class `Model`, an nn.Module and a `Network`; one outside this package is
`build("package.module:Class", **settings)`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sepkit.dsp import STFT
from sepkit.errors import SepkitError, UsageError
from sepkit.models import own
from sepkit.models.separation import separate

__all__ = ["Network", "build", "names", "separate"]

# trained on MUSDB18's test songs, too
CONTAMINATED = ("mdx_extra", "mdx_extra_q", "HDEMUCS_HIGH_MUSDB_PLUS")


class Network(Protocol):
    """Called with a waveform (batch, channel, time), it gives the sources' (batch, source, channel, time).

    stft: of a network on spectra; None of one on waveforms.
    normalizes_over_time: whether an output depends on all of the input; it then separates best in pieces as long as
        its training clips, `chunk_s`, which is set when a checkpoint is loaded.
    """

    sources: tuple[str, ...]
    sample_rate: int
    stft: STFT | None
    training: bool
    channels: int = 2
    normalizes_over_time: bool = False
    chunk_s: float | None = None

    @property
    def name(self) -> str:
        here, _, file = type(self).__module__.rpartition(".")
        return file.replace("_", "-") if here == __name__ else f"{type(self).__module__}:{type(self).__name__}"

    def __call__(self, mixture: Tensor) -> Tensor: ...

    def mask(self, magnitude: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> a real mask a source, (batch, source, channel, freq, frame)."""
        raise UsageError(f"{self.name} has no mask of magnitudes; train it with a loss on waveforms or spectra.")

    def spectra(self, spectrum: Tensor) -> Tensor:
        """Complex (batch, channel, freq, frame) -> the sources', (batch, source, channel, freq, frame)."""
        raise UsageError(f"{self.name} works on waveforms; train it with waveform_l1.")

    def set_statistics(self, mean: Tensor, scale: Tensor, level: Tensor) -> None:
        """Takes the training songs' `magnitude_statistics`, if it uses them."""

    def load_pretrained(self) -> None:
        """Loads its published weights."""
        raise UsageError(f"{self.name} has no published weights; give start_from the name of an experiment.")

    # of nn.Module
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def to(self, device: Any) -> Any: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


def names() -> list[str]:
    """All networks: the files of this folder that have a class Model."""
    files = [file.name for file in pkgutil.iter_modules(__path__)]
    return [name.replace("_", "-") for name in files if hasattr(importlib.import_module(f"{__name__}.{name}"), "Model")]


def refuse_contaminated(name: str) -> None:
    """UsageError for a published model whose scores on the test songs mean nothing."""
    if name in CONTAMINATED:
        raise UsageError(f"{name} was trained on MUSDB18's test songs, on which it would be scored; use umxhq instead.")


def build(name: str, **settings: Any) -> Any:
    """The network `name`; UsageError for an unknown name or setting.

    >>> model = build("openunmix-small")
    >>> sum(parameter.numel() for parameter in model.parameters())
    3086088
    """
    accepted = settings_of(name)
    if unknown := sorted(settings.keys() - accepted.keys()):
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; it takes {', '.join(accepted) or 'none'}.")
    return own.made(name, settings) if ":" in name else _class(name)(**settings)


def settings_of(name: str) -> dict[str, Any]:
    """What the network `name` takes: {setting: its default, or inspect.Parameter.empty}."""
    return _settings(_class(name))


def _class(name: str) -> Any:
    refuse_contaminated(name)
    if ":" in name:
        return own.network_class(name)
    if name not in names():
        raise UsageError(f"There is no model {name!r}; expected one of {', '.join(names())}, or your own module:Class.")
    return importlib.import_module(f"sepkit.models.{name.replace('-', '_')}").Model


def _settings(model: type) -> dict[str, Any]:
    """What the constructor takes, and before it that of its base, where it passes on what it does not know."""
    parameters = inspect.signature(model).parameters.values()
    known = {each.name: each.default for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    passed = model is not nn.Module and len(known) < len(parameters)
    return {**(_settings(model.__mro__[1]) if passed else {}), **known}


@contextmanager
def importing(library: str, fix: str) -> Iterator[None]:
    """SepkitError where `library` can't be imported, as where its torchaudio does not fit torch."""
    try:
        yield
    except (ImportError, OSError) as error:
        raise SepkitError(
            f"{library} can't be imported ({error}); it needs a torchaudio that fits torch {torch.__version__}: {fix}"
        ) from error
