"""Open-Unmix-small with a complex mask: it sees phases and turns them.

The mask's real and imaginary part are not bounded: 22 % of bins ask for more than 1 (Kong et al., arXiv 2109.05418).
It begins near a half, as the sigmoid's.  The first layer sees a bin's real and imaginary part beside its magnitude:
magnitudes alone do not tell which way to turn a phase.  At 513 bins, stereo and 384 hidden units it has 4,271,118
parameters.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sepkit.models import Network
from sepkit.models.trunk_and_heads import Head, Trunk, TrunkAndHeads, gru

PARTS = 3  # inputs a bin: |X|, Re X, Im X


class ComplexTrunk(Trunk):
    """The trunk with three inputs a bin: the magnitude less its mean, all parts over the magnitude's deviation."""

    def scaled(self, spectrum: Tensor) -> Tensor:
        x = spectrum.permute(3, 0, 1, 2)  # (frame, batch, channel, freq)
        parts = (x.abs() + self.input_mean, x.real, x.imag)
        return torch.stack(parts, dim=2) * self.input_scale


class Model(TrunkAndHeads):
    """One complex mask; the settings are those of openunmix-small, without the bound."""

    def __init__(self, hidden_size: int = 384, layers: int = 3, dropout: float = 0.4, **spectral: Any) -> None:
        super().__init__(**spectral)
        openunmix, recurrent = self.layers(hidden_size, layers), gru(hidden_size, layers, dropout)
        bins, outputs = self.stft.n_bins, self.channels * self.stft.n_bins
        self.core = ComplexTrunk(openunmix, recurrent, nn.Linear(PARTS * outputs, hidden_size, bias=False))
        half = torch.tensor([0.5, 0.0])[:, None].repeat(1, bins)  # real and imaginary part
        head = Head(nn.Linear(hidden_size, 2 * outputs, bias=False), torch.full((2, bins), 0.1), half)
        self.heads = nn.ModuleList([head])

    mask = Network.mask  # none of magnitudes alone

    def complex_mask(self, spectrum: Tensor) -> Tensor:
        mask = self.heads[0](self.features(spectrum), len(spectrum))  # (frame, batch, channel, part, freq)
        return torch.view_as_complex(mask.permute(1, 2, 4, 0, 3).contiguous()).unsqueeze(1)
