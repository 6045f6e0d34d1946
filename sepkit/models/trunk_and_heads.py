"""Open-Unmix as a trunk and heads, of which this package's variants are composed.

The layers are those of `openunmix.model.OpenUnmix` (Stöter et al., JOSS 2019): the trunk up to its second batch
normalisation, a head what follows.  Weights are drawn in the order in which the layers are made.

With `wiener` the estimates go through one step of expectation maximisation of openunmix's Wiener filter: a source is
the part of the mixture that its power and its place between the channels explain.  Beside a single source stands the
residual.
"""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sepkit.errors import UsageError
from sepkit.models import importing
from sepkit.models.mask import MaskModel, level_of

WIENER_FRAMES, WIENER_HOP = 300, 1024  # openunmix's windows of the Wiener filter: as many frames of so many samples
EPSILON, LOUDEST = 1e-10, 10.0  # openunmix's: added to powers; the largest magnitude, louder clips are scaled to it
LEVELLED = ("separation", "always", "never")
TINY = 1e-6  # keeps a silent clip silent
BOUNDS: dict[str, Any] = {"sigmoid": torch.sigmoid, "relu": torch.relu, "clamp": partial(torch.clamp, min=0, max=1)}


def gru(hidden_size: int, layers: int, dropout: float) -> nn.GRU:
    """A bidirectional GRU of the size of openunmix's LSTM."""
    dropout = dropout if layers > 1 else 0.0
    return nn.GRU(hidden_size, hidden_size // 2, layers, bidirectional=True, dropout=dropout)


class Trunk(nn.Module):
    """Magnitudes (batch, channel, freq, frame) -> features (frame · batch, hidden).

    layers: openunmix's network; lstm, fc1: what replaces its layers of these names.
    level: the `level_of` to which an input is brought; 0 takes it as it is, as openunmix does.
    """

    level: Tensor

    def __init__(self, layers: Any, lstm: nn.Module | None = None, fc1: nn.Module | None = None) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(()))
        # batch normalisation takes any mean away again, so its gradient is rounding, which Adam makes whole steps; the
        # running means lagged behind, and a validation read up to 5 dB less than its network was worth (LOG.md)
        self.input_mean, self.input_scale = layers.input_mean.requires_grad_(False), layers.input_scale
        self.fc1, self.bn1, self.lstm = fc1 or layers.fc1, layers.bn1, lstm or layers.lstm
        self.fc2, self.bn2 = layers.fc2, layers.bn2

    def scaled(self, magnitude: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> (frame, batch, channel, freq), of mean 0 and deviation 1 a bin."""
        bins = len(self.input_mean)  # those above openunmix's bandwidth are not looked at
        return (magnitude[..., :bins, :].permute(3, 0, 1, 2) + self.input_mean) * self.input_scale

    def levelled(self, magnitude: Tensor) -> Tensor:
        gain = self.level / level_of(magnitude).clamp_min(TINY)
        return magnitude * torch.where(self.level > 0, gain, 1.0)

    def forward(self, magnitude: Tensor, levelled: bool = False) -> Tensor:
        x = self.scaled(self.levelled(magnitude) if levelled else magnitude)
        frames, batch = x.shape[:2]
        x = self.bn1(self.fc1(x.reshape(frames * batch, -1)))
        x = torch.tanh(x).reshape(frames, batch, -1)
        x = torch.cat([x, self.lstm(x)[0]], dim=-1)
        return torch.relu(self.bn2(self.fc2(x.reshape(frames * batch, -1))))


class Head(nn.Module):
    """Features (frame · batch, hidden) -> (frame, batch, channel, …, freq), before the bound.

    scale, mean: (…, freq), what the output starts with.
    """

    def __init__(self, fc3: nn.Linear, scale: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.fc3, self.bn3 = fc3, nn.BatchNorm1d(fc3.out_features)
        self.output_scale, self.output_mean = nn.Parameter(scale), nn.Parameter(mean)

    def forward(self, features: Tensor, batch: int) -> Tensor:
        shape = self.output_scale.shape
        x = self.bn3(self.fc3(features))
        return x.reshape(-1, batch, x.shape[1] // shape.numel(), *shape) * self.output_scale + self.output_mean


class TrunkAndHeads(MaskModel):
    """A mask a source; subclasses make `core`, the trunk, and `heads`, one a source or one for the only one.

    levelled: when clips are brought to the training songs' mean level before the layers see them, so that the mask does
        not depend on how loud a song is: in separation (and validation), always, or never.
    wiener: filter the estimates when the network separates; training does not.
    """

    several: ClassVar[bool] = False  # whether it estimates several sources
    core: Trunk
    heads: nn.ModuleList

    def __init__(self, levelled: str = "separation", wiener: bool = False, **spectral: Any) -> None:
        super().__init__(**spectral)
        self.wiener = wiener
        if levelled not in LEVELLED:
            raise UsageError(f"Expected levelled to be one of {', '.join(LEVELLED)}, got {levelled!r}.")
        self.levelled = levelled
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise UsageError(f"Expected one or more different sources, got {self.sources}.")
        if len(self.sources) > 1 and not self.several:
            raise UsageError(f"{self.name} estimates one source, got {self.sources}; use openunmix-multitask.")

    def set_bound(self, name: str) -> None:
        if name not in BOUNDS:
            raise UsageError(f"There is no mask bound {name!r}; expected one of {', '.join(BOUNDS)}.")
        self.bound = BOUNDS[name]

    def layers(self, hidden_size: int, layers: int, bins: int | None = None) -> Any:
        """openunmix's own network, which sees the lowest `bins`; None for all."""
        with importing("openunmix", "pip install torch torchaudio, both from the same index."):
            from openunmix.model import OpenUnmix
        return OpenUnmix(self.stft.n_bins, self.channels, hidden_size, layers, max_bin=bins)

    def head(self, fc3: nn.Linear) -> Head:
        return Head(fc3, torch.ones(self.stft.n_bins), torch.ones(self.stft.n_bins))

    def set_statistics(self, mean: Tensor, scale: Tensor, level: Tensor) -> None:
        bins = len(self.core.input_mean)
        with torch.no_grad():
            self.core.level.copy_(level)
            self.core.input_mean.copy_(-mean[:bins])
            self.core.input_scale.copy_(1 / scale[:bins])

    def features(self, spectrum: Tensor) -> Tensor:
        """What the trunk gives for magnitudes, or for a spectrum where it sees phases."""
        return self.core(spectrum, self.levelled == "always" or (self.levelled == "separation" and not self.training))

    def mask(self, magnitude: Tensor) -> Tensor:
        features = self.features(magnitude)
        masks = [self.bound(head(features, len(magnitude)).permute(1, 2, 3, 0)) for head in self.heads]
        return torch.stack(masks, dim=1) if self.several else masks[0].unsqueeze(1)

    def spectra(self, spectrum: Tensor) -> Tensor:
        estimates = super().spectra(spectrum)
        if not self.wiener or self.training:
            return estimates
        step = max(1, WIENER_FRAMES * WIENER_HOP // self.stft.hop_length)
        pieces = zip(estimates.split(step, dim=-1), spectrum.split(step, dim=-1), strict=True)
        return torch.cat([wiener(*piece) for piece in pieces], dim=-1)


def wiener(estimates: Tensor, spectrum: Tensor) -> Tensor:
    """(batch, source, channel, freq, frame) and (batch, channel, freq, frame), complex -> filtered estimates.

    A source's estimate y has the power v = |y|² / 2 in a bin and the place R = Σ y yᴴ / (Σ v + ε), over frames, at a
    frequency.  It is given v R z, where z solves (√ε + Σ v R) z = x, the mixture (Nugraha et al., EUSIPCO 2016, as
    openunmix's `filtering`, which takes five times as long).  In doubles: the R of a mono mixture is nearly singular.
    """
    mixture = spectrum.to(torch.complex128)
    scale = (mixture.abs().amax(dim=(1, 2, 3), keepdim=True) / LOUDEST).clamp_min(1)
    mixture, y = mixture / scale, estimates / scale.unsqueeze(1)
    if y.shape[1] == 1:
        y = torch.cat([y, mixture.unsqueeze(1) - y], dim=1)
    v = torch.view_as_real(y).square().sum(dim=-1).mean(dim=2)
    place = torch.einsum("bscft,bsdft->bscdf", y, y.conj()) / (v.sum(dim=-1) + EPSILON)[:, :, None, None]
    (a, b), (c, d) = torch.einsum("bsft,bscdf->cdbft", v.to(y.dtype), place)
    a, d, (left, right) = a + EPSILON**0.5, d + EPSILON**0.5, mixture.unbind(dim=1)
    z = torch.stack([d * left - b * right, a * right - c * left], dim=1) / (a * d - b * c).unsqueeze(1)
    filtered = torch.einsum("bscdf,bdft->bscft", place, z) * (v * scale).unsqueeze(2)
    return filtered[:, : estimates.shape[1]].to(estimates.dtype)
