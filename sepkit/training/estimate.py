"""What a network makes of a mixture, in every form that a loss or the criterion asks for."""

from functools import cached_property
from typing import Any

from torch import Tensor

from sepkit.models.mask import masked


class Estimate:
    """Each form is computed when it is first asked for, and kept: one pass serves loss and criterion.

    mixture: a waveform (batch, channel, time), or its magnitudes (batch, channel, freq, frame) from a
    stft cache, of which there are neither spectra nor waveforms.
    """

    def __init__(self, model: Any, mixture: Tensor) -> None:
        self.model, self.mixture = model, mixture

    @property
    def on_magnitudes(self) -> bool:
        return self.mixture.ndim == 4

    @cached_property
    def spectrum(self) -> Tensor:
        """The mixture's, complex (batch, channel, freq, frame)."""
        return self.model.stft(self.mixture)

    @cached_property
    def magnitude(self) -> Tensor:
        """The mixture's, (batch, channel, freq, frame)."""
        return self.mixture if self.on_magnitudes else self.spectrum.abs()

    @cached_property
    def mask(self) -> Tensor:
        """(batch, source, channel, freq, frame); UsageError from a model that has none of magnitudes."""
        return self.model.mask(self.magnitude)

    @cached_property
    def magnitudes(self) -> Tensor:
        """The sources', (batch, source, channel, freq, frame)."""
        return masked(self.mask, self.magnitude)

    @cached_property
    def spectra(self) -> Tensor:
        """The sources', complex (batch, source, channel, freq, frame)."""
        if "mask" in self.__dict__:  # a loss has asked for it before
            return masked(self.mask, self.spectrum)
        return self.model.spectra(self.spectrum)

    @cached_property
    def waveform(self) -> Tensor:
        """The sources', float32 (batch, source, channel, time)."""
        if self.model.stft:
            return self.model.stft.inverse(self.spectra, self.mixture.shape[-1])
        return self.model(self.mixture).float()
