"""Open-Unmix-small with one trunk and one head a source.

The trunk is that of `openunmix_small`: everything up to the second batch normalisation.  A head
is what openunmix puts behind it: linear layer, batch normalisation, scale and mean a bin.  The
masks are independent of each other: they need not add up to one.  With two sources it has
3,483,150 parameters, 397,062 a head.

With `wiener` the estimates go through one step of expectation maximisation of openunmix's Wiener
filter: a source is what of the mixture its power and its place between the channels explain.
"""

import torch
from torch import Tensor, nn

from sepkit.errors import UsageError
from sepkit.models import openunmix_small

WIENER_S = 7.0  # openunmix's windows: 300 frames of 1024 samples


class Head(nn.Module):
    """Features (frame · batch, hidden) -> (batch, channel, freq, frame), before the bound."""

    def __init__(self, hidden_size: int, channels: int, n_bins: int) -> None:
        super().__init__()
        self.fc3 = nn.Linear(hidden_size, channels * n_bins, bias=False)
        self.bn3 = nn.BatchNorm1d(channels * n_bins)
        self.output_scale = nn.Parameter(torch.ones(n_bins))
        self.output_mean = nn.Parameter(torch.ones(n_bins))

    def forward(self, features: Tensor, shape: torch.Size) -> Tensor:
        batch, channels, bins, frames = shape
        x = self.bn3(self.fc3(features)).reshape(frames, batch, channels, bins)
        return (x * self.output_scale + self.output_mean).permute(1, 2, 3, 0)


class Model(openunmix_small.Model):
    """One mask a source from shared features; the settings are those of openunmix-small.

    wiener: whether estimates are filtered, which changes nothing of the training.
    """

    def __init__(
        self,
        sources: tuple[str, ...] = ("vocals", "accompaniment"),
        sample_rate: int = 44100,
        n_fft: int = 1024,
        hop_length: int = 256,
        hidden_size: int = 384,
        layers: int = 3,
        dropout: float = 0.4,
        mask_bound: str = "sigmoid",
        wiener: bool = False,
    ) -> None:
        super().__init__(
            ("vocals",), sample_rate, n_fft, hop_length, hidden_size, layers, dropout, mask_bound
        )
        self.sources, self.wiener = tuple(sources), wiener
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise UsageError(f"Expected one or more different sources, got {self.sources}.")
        for layer in ("fc3", "bn3", "output_scale", "output_mean"):  # these move into the heads
            delattr(self.core, layer)
        self.heads = nn.ModuleList(Head(hidden_size, self.channels, self.stft.n_bins) for _ in self.sources)

    def mask(self, magnitude: Tensor) -> Tensor:
        features = self.trunk(magnitude)
        return torch.stack([self.bound(head(features, magnitude.shape)) for head in self.heads], dim=1)

    def spectra(self, spectrum: Tensor) -> Tensor:
        estimates = super().spectra(spectrum)
        if not self.wiener or self.training:
            return estimates
        step = round(WIENER_S * self.sample_rate / self.stft.hop_length)
        pieces = zip(estimates.split(step, dim=-1), spectrum.split(step, dim=-1), strict=True)
        return torch.cat([wiener(*piece) for piece in pieces], dim=-1)


def wiener(estimates: Tensor, spectrum: Tensor) -> Tensor:
    """(batch, source, channel, freq, frame) and (batch, channel, freq, frame), complex -> filtered estimates."""
    from openunmix import filtering

    magnitudes = estimates.abs().double().permute(0, 4, 3, 2, 1)  # (batch, frame, freq, channel, source)
    mixtures = torch.view_as_real(spectrum.to(torch.complex128)).permute(0, 3, 2, 1, 4)
    filtered = [
        filtering.wiener(*clip, iterations=1) for clip in zip(magnitudes, mixtures, strict=True)
    ]  # each (frame, freq, channel, 2, source), in doubles, which its matrices need
    real, imaginary = torch.stack(filtered).permute(4, 0, 5, 3, 2, 1).unbind()
    return torch.complex(real, imaginary).to(estimates.dtype)
