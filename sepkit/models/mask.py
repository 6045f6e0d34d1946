"""What all masking networks share: STFT, mask, inverse STFT with the mixture's phase."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from sepkit.dsp import STFT
from sepkit.errors import UsageError


class MaskModel(nn.Module):
    """A network that estimates one mask a source.

    Subclasses give `mask(magnitude)`, of magnitudes: (batch, channel, freq, frame) -> (batch,
    source, channel, freq, frame); or, where the mask is complex, `spectra(spectrum)`, the sources'
    complex spectra in these shapes.  `forward` takes a waveform (batch, channel, time) and gives
    the sources' waveforms (batch, source, channel, time).
    """

    channels: ClassVar[int] = 2

    def __init__(self, sources: tuple[str, ...], sample_rate: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.sources, self.sample_rate = tuple(sources), sample_rate
        self.stft = STFT(n_fft, hop_length)

    def mask(self, magnitude: Tensor) -> Tensor:
        raise UsageError(
            f"{type(self).__module__} has no mask of magnitudes; train it with a loss on waveforms or spectra."
        )

    def spectra(self, spectrum: Tensor) -> Tensor:
        mask = self.mask(spectrum.abs()).to(spectrum.real.dtype)
        return mask * spectrum.unsqueeze(1)

    def forward(self, mixture: Tensor) -> Tensor:
        return self.stft.inverse(self.spectra(self.stft(mixture)), mixture.shape[-1])

    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        """Takes the training songs' mean and standard deviation of |X| a bin, both (freq,)."""


@torch.no_grad()
def magnitude_statistics(magnitudes: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channel-averaged |X| a bin over all frames, each (freq,).

    `magnitudes` yields mixtures' |X| (channel, freq, frame).  As openunmix does, deviations below
    1e-4 of the largest are raised to it, so that empty bins do not blow up.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for magnitude in magnitudes:
        mono = magnitude.mean(dim=0).double()  # (freq, frame)
        count += mono.shape[-1]
        total = total + mono.sum(dim=-1)
        squares = squares + mono.square().sum(dim=-1)
    mean = total / count
    scale = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), scale.clamp_min(1e-4 * float(scale.max()) + 1e-12).float()
