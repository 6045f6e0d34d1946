"""Open-Unmix-small, the baseline: openunmix's layers with a GRU and a bounded mask.

Its LSTM is replaced by a GRU of the same sizes, and the mask is a sigmoid instead of an unbounded ReLU.
At 513 bins, stereo and 384 hidden units it has 3,086,088 parameters.
"""

from typing import Any

from torch import nn

from sepkit.models.trunk_and_heads import Head, Trunk, TrunkAndHeads, gru


class Model(TrunkAndHeads):
    """Three bidirectional GRU layers between linear layers with batch normalisation.

    mask_bound: sigmoid (the plan's soft mask), or the ablations relu (openunmix's) and clamp.
    """

    def __init__(
        self,
        hidden_size: int = 384,
        layers: int = 3,
        dropout: float = 0.4,
        mask_bound: str = "sigmoid",
        **spectral: Any,
    ) -> None:
        super().__init__(**spectral)
        self.set_bound(mask_bound)
        openunmix = self.layers(hidden_size, layers)
        self.core = Trunk(openunmix, gru(hidden_size, layers, dropout))
        self.heads = nn.ModuleList(self.make_heads(openunmix.fc3))

    def make_heads(self, fc3: nn.Linear) -> list[Head]:
        """One, of openunmix's own last layer."""
        return [self.head(fc3)]
