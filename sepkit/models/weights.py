"""Weights into a network, or one sentence about what does not fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from sepkit.errors import SepkitError


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Puts `state` into `model`; SepkitError that lists what differs, instead of a wall of keys."""
    own = model.state_dict()
    differences = [
        f"{key} is {tuple(own[key].shape)} in the configuration and {tuple(state[key].shape)} in the file"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    differences += [f"{key} is not in the file" for key in own.keys() - state.keys()]
    differences += [f"{key} is not in the network" for key in state.keys() - own.keys()]
    if differences:
        shown = "; ".join(sorted(differences)[:3])
        raise SepkitError(
            f"The weights in {where} do not fit the network: {shown} ({len(differences)} differences in all)."
        )
    model.load_state_dict(state)
