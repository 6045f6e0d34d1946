"""Weights into a network, or one sentence about what does not fit."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from sepkit.errors import SepkitError

HEAD = re.compile(r"\bcore\.(?=(fc3|bn3|output_scale|output_mean)\b)")  # of openunmix's layers behind the trunk
LEVEL = "core.level"


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of openunmix's networks under today's names: its last layers moved from `core` to `heads.0`.

    >>> list(renamed({"model.core.fc1.weight": None, "model.core.fc3.weight": None}))
    ['model.core.fc1.weight', 'model.heads.0.fc3.weight']
    """
    return {HEAD.sub("heads.0.", key): value for key, value in state.items()}


def differences(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """How the names and shapes of `state` differ from those of `model`."""
    own = model.state_dict()
    found = [
        f"{key} is {tuple(own[key].shape)} in the configuration and {tuple(state[key].shape)} in the file"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    found += [f"{key} is not in the file" for key in own.keys() - state.keys()]
    return sorted(found + [f"{key} is not in the network" for key in state.keys() - own.keys()])


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Puts `state` into `model`; SepkitError that lists what differs, instead of a wall of keys."""
    state = renamed(state)
    # weights that say no level, as published ones, keep that of this network
    state = {**{key: value for key, value in model.state_dict().items() if key == LEVEL}, **state}
    if found := differences(model, state):
        few = "; ".join(found[:3])
        raise SepkitError(f"The weights in {where} do not fit the network: {few} ({len(found)} differences in all).")
    model.load_state_dict(state)
