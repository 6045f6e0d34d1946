"""Open-Unmix-small with one trunk and one head a source.

The masks are independent of each other: they need not add up to one.  With two sources it has 3,483,150 parameters,
397,062 a head.
"""

from typing import Any, ClassVar

from torch import nn

from sepkit.models import openunmix_small
from sepkit.models.trunk_and_heads import Head
from sepkit.profiles import PROTOCOLS


class Model(openunmix_small.Model):
    """One mask a source from shared features; the settings are those of openunmix-small."""

    several: ClassVar[bool] = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"sources": PROTOCOLS["2stem"], **settings})

    def make_heads(self, fc3: nn.Linear) -> list[Head]:
        return [self.head(nn.Linear(fc3.in_features, fc3.out_features, bias=False)) for _ in self.sources]
