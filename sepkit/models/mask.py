"""What all masking networks share: STFT, mask, inverse STFT with the mixture's phase."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sepkit.dsp import STFT
from sepkit.models import Network
from sepkit.profiles import SAMPLE_RATE

EMPTY = 1e-3  # of the largest deviation: songs from AAC have 0.3e-3 above its bandwidth and 20e-3 just below


def masked(mask: Tensor, spectrum: Tensor) -> Tensor:
    """Mask × spectrum, the only place where a mask is applied.

    mask: (batch, source, channel, freq, frame), real or complex; spectrum: the mixture's (batch, channel, freq,
    frame), complex or magnitudes.  Gives the sources', of the mask's shape.
    """
    return (mask if mask.is_complex() else mask.float()) * spectrum.unsqueeze(1)


class MaskModel(nn.Module, Network):
    """A network that estimates one mask a source; its subclasses take these settings, too.

    Subclasses give `mask` where it is real, `complex_mask` where it is complex, or `spectra` where the network makes
    the sources' spectra without a mask.
    """

    stft: STFT

    def __init__(
        self,
        sources: Iterable[str] = ("vocals",),
        sample_rate: int = SAMPLE_RATE,
        n_fft: int = 1024,
        hop_length: int = 256,
    ) -> None:
        super().__init__()
        self.sources, self.sample_rate = tuple(sources), sample_rate
        self.stft = STFT(n_fft, hop_length)

    def complex_mask(self, spectrum: Tensor) -> Tensor:
        """Complex (batch, channel, freq, frame) -> (batch, source, channel, freq, frame)."""
        return self.mask(spectrum.abs())

    def spectra(self, spectrum: Tensor) -> Tensor:
        return masked(self.complex_mask(spectrum), spectrum)

    def forward(self, mixture: Tensor) -> Tensor:
        length = mixture.shape[-1]
        padded = nn.functional.pad(mixture, (0, self.stft.missing(length)))
        return self.stft.inverse(self.spectra(self.stft(padded)), length)


def level_of(spectrum: Tensor) -> Tensor:
    """Root mean square of |X| over channels, bins and frames: (batch, channel, freq, frame) -> (batch, 1, 1, 1)."""
    return spectrum.abs().float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


@torch.no_grad()
def magnitude_statistics(magnitudes: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of the channel-averaged |X| a bin over all frames, each (freq,), and the level.

    `magnitudes` yields mixtures' |X| (channel, freq, frame).  Empty bins, as above the bandwidth of AAC or MP3, have an
    infinite deviation, so that what another song has there is not heard.  The level is the mean of `level_of`.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    levels = []
    for magnitude in magnitudes:
        levels.append(level_of(magnitude[None]).flatten())
        mono = magnitude.mean(dim=0).double()  # (freq, frame)
        count += mono.shape[-1]
        total = total + mono.sum(dim=-1)
        squares = squares + mono.square().sum(dim=-1)
    mean = total / count
    scale = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), scale.masked_fill(scale <= EMPTY * scale.max(), torch.inf).float(), torch.cat(levels).mean()
