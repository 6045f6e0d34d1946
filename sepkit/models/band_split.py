"""Band-split: a recurrent network over time and over frequency bands, with a complex mask.

After the band-split RNN of Luo & Yu (IEEE/ACM TASLP 2023, arXiv 2209.15174): the spectrum is cut into bands, narrow
ones where voices have their harmonics; each is normalised and mapped to the same number of features.  Blocks alternate
between the frames of each band and the bands of each frame, each with normalisation, BiLSTM, linear layer and a
residual connection.  An MLP a band gives the mask, real and imaginary part, not bounded.  Different from the paper:
both channels are processed together, the blocks are few and narrow enough for a CPU (3,597,896 parameters), and all
bands share one call of each BiLSTM, whose batch is clips times bands, or clips times frames.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.models.mask import MaskModel

# (up to this frequency in Hz, bands of this width in Hz); the last band takes the rest
BANDS = ((1000, 100), (4000, 300), (8000, 1000), (16000, 2000))
PARTS = 3  # inputs a bin: Re X, Im X, and |X|, which a linear layer can't compute


def band_edges(n_bins: int, bin_hz: float) -> list[int]:
    """First bins of the bands and, last, `n_bins`: strictly increasing from 0.

    Bands narrower than a bin, and bands above the highest bin, are left out.

    >>> edges = band_edges(2049, 44100 / 4096)
    >>> len(edges) - 1, edges[:3], edges[-2:]
    (29, [0, 9, 19], [1486, 2049])
    """
    edges, start = [0], 0
    for stop, width in BANDS:
        for frequency in range(start + width, stop + 1, width):
            bin_ = round(frequency / bin_hz)
            if edges[-1] < bin_ < n_bins:
                edges.append(bin_)
        start = stop
    return [*edges, n_bins]


class Block(nn.Module):
    """(step, sequence, features) -> the same: x + linear(BiLSTM(norm(x))), over the steps."""

    def __init__(self, features: int, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.lstm = nn.LSTM(features, hidden_size, bidirectional=True)
        self.fc = nn.Linear(2 * hidden_size, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(self.lstm(self.norm(x))[0])


class Model(MaskModel):
    """One complex mask a source.

    features: of each band and frame; hidden_size: of each direction of each BiLSTM.
    layers: pairs of a block over time and a block over bands.
    mask_hidden_size: of the MLPs that give the mask.
    """

    def __init__(
        self, features: int = 64, hidden_size: int = 64, layers: int = 3, mask_hidden_size: int = 128, **spectral: Any
    ) -> None:
        super().__init__(**{"n_fft": 4096, "hop_length": 1024, **spectral})
        self.edges = band_edges(self.stft.n_bins, self.sample_rate / self.stft.n_fft)
        widths = [stop - start for start, stop in pairwise(self.edges)]
        outputs = len(self.sources) * self.channels * 2 * 2  # real and imaginary, each with its gate
        self.split = nn.ModuleList(nn.Linear(width * self.channels * PARTS, features) for width in widths)
        self.blocks = nn.ModuleList(Block(features, hidden_size) for _ in range(2 * layers))
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(features),
                nn.Linear(features, mask_hidden_size),
                nn.Tanh(),
                nn.Linear(mask_hidden_size, width * outputs),
                nn.GLU(),
            )
            for width in widths
        )

    def complex_mask(self, spectrum: Tensor) -> Tensor:
        batch, channels, _, frames = spectrum.shape
        x = torch.stack([spectrum.real, spectrum.imag, spectrum.abs()], dim=-1).permute(3, 0, 2, 1, 4)
        x = x.flatten(3)  # (frame, batch, freq, channel · part)
        features = []
        for layer, (start, stop) in zip(self.split, pairwise(self.edges), strict=True):
            band = x[:, :, start:stop].flatten(2)
            # one scale for all frames of a clip: loud and soft ones stay so
            scale = band.square().mean(dim=(0, 2), keepdim=True).add(1e-10).rsqrt()
            features.append(layer(band * scale))
        x = torch.stack(features, dim=2)  # (frame, batch, band, features)
        for number, block in enumerate(self.blocks):
            if number % 2 == 0:  # over the frames of each band
                x = block(x.flatten(1, 2)).reshape(x.shape)
            else:  # over the bands of each frame
                bands = x.permute(2, 0, 1, 3)
                x = block(bands.flatten(1, 2)).reshape(bands.shape).permute(1, 2, 0, 3)
        masks = [
            head(x[:, :, number]).reshape(frames, batch, len(self.sources), channels, -1, 2)
            for number, head in enumerate(self.heads)
        ]
        mask = torch.cat(masks, dim=4).float().permute(1, 2, 3, 4, 0, 5)
        return torch.view_as_complex(mask.contiguous())
