"""Open-Unmix-small with a complex mask: the trunk of `openunmix_small`, phases in and phases out.

The mask's real and imaginary part are not bounded: 22 % of bins ask for more than 1 (Kong et al.,
arXiv 2109.05418).  It begins near a half, as the sigmoid's.  The first layer sees a bin's real and
imaginary part beside its magnitude: magnitudes alone do not tell to which side a phase is to be
turned.  At 513 bins, stereo and 384 hidden units it has 4,271,118 parameters.
"""

import torch
from torch import Tensor, nn

from sepkit.models import openunmix_small
from sepkit.models.mask import MaskModel

PARTS = 3  # of a bin that goes in: |X|, Re X, Im X


class Model(openunmix_small.Model):
    """One complex mask; the settings are those of openunmix-small, but for the bound."""

    def __init__(
        self,
        sources: tuple[str, ...] = ("vocals",),
        sample_rate: int = 44100,
        n_fft: int = 1024,
        hop_length: int = 256,
        hidden_size: int = 384,
        layers: int = 3,
        dropout: float = 0.4,
    ) -> None:
        super().__init__(sources, sample_rate, n_fft, hop_length, hidden_size, layers, dropout)
        core, bins = self.core, self.stft.n_bins
        core.fc1 = nn.Linear(PARTS * self.channels * bins, hidden_size, bias=False)
        core.fc3 = nn.Linear(hidden_size, 2 * self.channels * bins, bias=False)
        core.bn3 = nn.BatchNorm1d(2 * self.channels * bins)
        core.output_scale = nn.Parameter(torch.full((2, bins), 0.1))
        core.output_mean = nn.Parameter(torch.tensor([0.5, 0.0])[:, None].repeat(1, bins))

    def scaled(self, spectrum: Tensor) -> Tensor:
        """As the trunk's input: the magnitude less its mean, all parts over the magnitude's deviation."""
        x = spectrum.permute(3, 0, 1, 2)  # (frame, batch, channel, freq)
        parts = (x.abs() + self.core.input_mean, x.real, x.imag)
        return torch.stack(parts, dim=2) * self.core.input_scale

    mask = MaskModel.mask  # there is none of magnitudes alone

    def spectra(self, spectrum: Tensor) -> Tensor:
        batch, channels, bins, frames = spectrum.shape
        core = self.core
        x = core.bn3(core.fc3(self.trunk(spectrum))).float().reshape(frames, batch, channels, 2, bins)
        x = (x * core.output_scale + core.output_mean).permute(1, 2, 4, 0, 3)
        mask = torch.view_as_complex(x.contiguous())  # (batch, channel, freq, frame)
        return (mask * spectrum).unsqueeze(1)
