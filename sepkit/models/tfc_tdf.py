"""TFC-TDF U-Net: convolutions over time and frequency, and layers over all frequencies of a frame.

After Choi et al. (ISMIR 2020, arXiv 1912.02591) and its third version by Kim et al. (arXiv 2306.09382).  The lowest
bins of the spectrum are cut into bands that become channels, so that a convolution sees the same few neighbours in
every band at once.  A block is two 3×3 convolutions (TFC) with a narrow pair of linear layers over the frequencies of
each frame between them (TDF), which tell harmonics from their neighbours.  Three scales each halve time and frequency.
The network gives the sources' spectra, not a mask; above its bins they are zero.

Different from the papers: one block a scale and few channels, for a CPU (605,504 parameters for one source), and the
input is scaled to deviation 1, so that levels do not matter.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.errors import UsageError
from sepkit.models.mask import MaskModel

TINY = 1e-6  # keeps a silent clip silent; 50 dB below the spectrum of a 16-bit step


class Block(nn.Module):
    """(batch, inputs, frame, freq) -> (batch, outputs, frame, freq): TFC, TDF, TFC and a shortcut."""

    def __init__(self, inputs: int, outputs: int, bins: int, bottleneck: int) -> None:
        super().__init__()
        self.before = nn.Sequential(_norm(inputs), nn.GELU(), _convolution(inputs, outputs, 3))
        self.frequencies = nn.Sequential(
            _norm(outputs), nn.GELU(), nn.Linear(bins, bins // bottleneck, bias=False),
            _norm(outputs), nn.GELU(), nn.Linear(bins // bottleneck, bins, bias=False),
        )  # fmt: skip
        self.after = nn.Sequential(_norm(outputs), nn.GELU(), _convolution(outputs, outputs, 3))
        self.shortcut = _convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        return self.shortcut(x) + self.after(y + self.frequencies(y))


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    padding = size // 2 if stride == 1 else 0
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False)


class Model(MaskModel):
    """The sources' spectra of a mixture's.

    Its normalisation averages over all frames of its input, so it separates best in pieces as long as its
    training clips: `chunk_s` (LOG.md).

    bins: how many of the lowest ones it sees and fills; bands: of equal width, into which they are cut.
    features: channels of the first scale; each further scale has `growth` more.
    bottleneck: the factor by which the layers over frequencies are narrower in their middle.
    """

    normalizes_over_time = True

    def __init__(
        self, bins: int = 1024, bands: int = 4, features: int = 32, growth: int = 16, scales: int = 3,
        bottleneck: int = 8, **spectral: Any,
    ) -> None:  # fmt: skip
        super().__init__(**{"n_fft": 4096, "hop_length": 1024, **spectral})
        self.bins, self.bands, self.stride = bins, bands, 2**scales
        smallest = bands * self.stride * bottleneck
        if bins > self.stft.n_bins or bins % smallest or min(features, growth, scales) < 1:
            raise UsageError(
                f"Expected bins a multiple of {smallest} (bands, scales and bottleneck), at most {self.stft.n_bins}, and features, growth and scales above 0; got {bins}, {features}, {growth} and {scales}."
            )
        parts = 2 * self.channels * bands  # real and imaginary
        widths = [features + growth * scale for scale in range(scales + 1)]
        sizes = [bins // bands // 2**scale for scale in range(scales + 1)]
        self.first = _convolution(parts, features, 1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for width, wider, size in zip(widths, widths[1:], sizes, strict=False):
            self.encoder.append(Block(width, width, size, bottleneck))
            self.down.append(nn.Sequential(_norm(width), nn.GELU(), _convolution(width, wider, 2, stride=2)))
            rise = nn.ConvTranspose2d(wider, width, 2, stride=2, bias=False)
            self.up.append(nn.Sequential(_norm(wider), nn.GELU(), rise))
            self.decoder.append(Block(2 * width, width, size, bottleneck))
        self.middle = Block(widths[-1], widths[-1], sizes[-1], bottleneck)
        self.last = nn.Sequential(
            _convolution(features + parts, features, 1), nn.GELU(), _convolution(features, parts * len(self.sources), 1)
        )

    def spectra(self, spectrum: Tensor) -> Tensor:
        batch, channels, bins, frames = spectrum.shape
        parts = torch.view_as_real(spectrum[:, :, : self.bins]).permute(0, 1, 4, 3, 2)
        parts = F.pad(parts.flatten(1, 2), (0, 0, 0, -frames % self.stride))  # whole strides of frames
        scale = parts.std(dim=(1, 2, 3), keepdim=True) + TINY
        mixture = self._cut(parts / scale)
        estimate = self._join(self.last(torch.cat([mixture, self._features(mixture)], dim=1)).float() * scale)
        estimate = estimate[:, :, :frames].reshape(batch, len(self.sources), channels, 2, frames, self.bins)
        spectra = torch.view_as_complex(estimate.permute(0, 1, 2, 5, 4, 3).contiguous())
        return F.pad(spectra, (0, 0, 0, bins - self.bins))

    def _features(self, mixture: Tensor) -> Tensor:
        x = first = self.first(mixture)
        passed = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            passed.append(x)
            x = down(x)
        x = self.middle(x)
        for block, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = block(torch.cat([up(x), passed.pop()], dim=1))
        return x * first

    def _cut(self, parts: Tensor) -> Tensor:
        """(batch, part, frame, freq) -> (batch, part · band, frame, freq / bands), channels last: faster on a CPU."""
        x = parts.unflatten(3, (self.bands, -1)).permute(0, 1, 3, 2, 4).flatten(1, 2)
        return x.contiguous(memory_format=torch.channels_last)

    def _join(self, x: Tensor) -> Tensor:
        """The inverse of `_cut`."""
        return x.unflatten(1, (-1, self.bands)).permute(0, 1, 3, 2, 4).flatten(3)
