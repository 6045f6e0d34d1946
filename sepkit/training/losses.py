"""Losses: one function an idea, called with the model and the true sources.

A loss takes (model, mixture, target) with `mixture` (batch, channel, time) and `target` (batch,
source, channel, time) in the order of `model.sources`, and gives a scalar in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sepkit.errors import UsageError

Loss = Callable[[Any, Tensor, Tensor], Tensor]


def frequency_weights(n_bins: int, alpha: str = "flat") -> Tensor:
    """α(f) over the bins, (n_bins,), mean 1.

    `sqrt`: √bin, which weighs high frequencies more; `inverse_sqrt`: 1/√bin, low ones; `flat`: 1.
    Bin 0 counts as bin 1, so that no weight is zero or infinite.

    >>> frequency_weights(3, "sqrt")
    tensor([0.8787, 0.8787, 1.2426])
    """
    bins = torch.arange(n_bins, dtype=torch.float64).clamp_min(1)
    weights = {"sqrt": bins.sqrt(), "inverse_sqrt": bins.rsqrt(), "flat": torch.ones_like(bins)}
    if alpha not in weights:
        raise UsageError(f"There is no frequency weight {alpha!r}; expected one of {', '.join(weights)}.")
    return (weights[alpha] / weights[alpha].mean()).float()


def magnitude_l1(
    model, mixture: Tensor, target: Tensor, *, alpha: str = "flat", weights: tuple[float, ...] = ()
) -> Tensor:
    """Mean of α(f) · | mask · |X| − |S| | over batch, channel, frequency and frame.

    `weights`: one factor a source, for a network of several; the sum over sources is taken.
    """
    spectrum = model.stft(mixture).abs()  # (batch, channel, freq, frame)
    estimate = model.mask(spectrum).float() * spectrum.unsqueeze(1)
    error = (estimate - model.stft(target).abs()).abs()
    error = error * frequency_weights(spectrum.shape[-2], alpha).to(error.device)[:, None]
    per_source = error.mean(dim=(0, 2, 3, 4))
    factors = torch.tensor(weights or (1.0,) * len(per_source), device=error.device)
    return (per_source * factors).sum()


LOSSES = {"magnitude_l1": magnitude_l1}


def make_loss(name: str, **settings: Any) -> Loss:
    """The loss `name` with its settings; UsageError for an unknown name."""
    if name not in LOSSES:
        raise UsageError(f"There is no loss {name!r}; expected one of {', '.join(LOSSES)}.")
    return partial(LOSSES[name], **settings)
