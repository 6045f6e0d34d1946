"""Open-Unmix-small with one trunk and one head a source.

The masks are independent of each other: they need not add up to one.  With two sources it has 3,483,150 parameters,
397,062 a head.

With `wiener` the estimates go through one step of expectation maximisation of openunmix's Wiener filter: a source is
the part of the mixture that its power and its place between the channels explain.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sepkit.models import openunmix_small
from sepkit.models.trunk_and_heads import Head
from sepkit.profiles import PROTOCOLS

WIENER_S = 7.0  # openunmix's windows: 300 frames of 1024 samples


class Model(openunmix_small.Model):
    """One mask a source from shared features; the settings are those of openunmix-small.

    wiener: filter the estimates when the network separates; training does not.
    """

    several: ClassVar[bool] = True

    def __init__(self, wiener: bool = False, **settings: Any) -> None:
        super().__init__(**{"sources": PROTOCOLS["2stem"], **settings})
        self.wiener = wiener

    def make_heads(self, fc3: nn.Linear) -> list[Head]:
        return [self.head(nn.Linear(fc3.in_features, fc3.out_features, bias=False)) for _ in self.sources]

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
    # each (frame, freq, channel, 2, source), in doubles, which its matrices need
    filtered = [filtering.wiener(*clip, iterations=1) for clip in zip(magnitudes, mixtures, strict=True)]
    real, imaginary = torch.stack(filtered).permute(4, 0, 5, 3, 2, 1).unbind()
    return torch.complex(real, imaginary).to(estimates.dtype)
