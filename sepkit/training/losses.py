"""Losses, one function each; a new one is one more function with the decorator `loss`.

A loss takes an `Estimate` and `target` (batch, source, channel, time), in the order of the network's sources, and gives
a scalar in float32.  Its keyword arguments are its settings.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sepkit.dsp import STFT
from sepkit.errors import UsageError

if TYPE_CHECKING:
    from sepkit.training.step import Estimate

Loss = Callable[["Estimate", Tensor], Tensor]
LOSSES: dict[str, Callable[..., Tensor]] = {}
ON_MAGNITUDES: set[str] = set()  # those for which a stft cache is enough

TINY = 1e-12  # keeps 0 / 0 at 0; far below the spectrum of the quietest 24-bit sample


def loss(*, on_magnitudes: bool = False) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Registers a loss by its function's name; on_magnitudes: it needs no waveforms."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        LOSSES[function.__name__] = function
        if on_magnitudes:
            ON_MAGNITUDES.add(function.__name__)
        return function

    return register


def make_loss(name: str, **settings: Any) -> Loss:
    """The loss `name` with its settings; UsageError for an unknown name."""
    loss_settings(name)
    return partial(LOSSES[name], **settings)


def loss_settings(name: str) -> dict[str, Any]:
    """What the loss `name` takes: {setting: its default}; UsageError for an unknown name."""
    if name not in LOSSES:
        raise UsageError(f"There is no loss {name!r}; expected one of {', '.join(LOSSES)}.")
    return {
        key: each.default
        for key, each in inspect.signature(LOSSES[name]).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }


def frequency_weights(n_bins: int, alpha: str = "flat") -> Tensor:
    """α(f) over the bins, (n_bins,), mean 1.

    `sqrt`: √bin, more weight on high frequencies; `inverse_sqrt`: 1/√bin, more on low ones; `flat`: 1.
    Bin 0 counts as bin 1, so that no weight is zero or infinite.

    >>> frequency_weights(3, "sqrt")
    tensor([0.8787, 0.8787, 1.2426])
    """
    bins = torch.arange(n_bins, dtype=torch.float64).clamp_min(1)
    weights = {"sqrt": bins.sqrt(), "inverse_sqrt": bins.rsqrt(), "flat": torch.ones_like(bins)}
    if alpha not in weights:
        raise UsageError(f"There is no frequency weight {alpha!r}; expected one of {', '.join(weights)}.")
    return (weights[alpha] / weights[alpha].mean()).float()


@loss(on_magnitudes=True)
def magnitude_l1(estimate: "Estimate", target: Tensor, *, alpha: str = "flat", weights: Sequence[float] = ()) -> Tensor:
    """Mean of α(f) · | mask · |X| − |S| | over batch, channel, frequency and frame.

    weights: one factor a source; the weighted means of the sources are added.
    """
    return _weighted_l1(estimate.magnitudes, _magnitudes(estimate, target), alpha, weights)


@loss(on_magnitudes=True)
def magnitude_mse(estimate: "Estimate", target: Tensor) -> Tensor:
    """Mean of (mask · |X| − |S|)²: the loss with which umxhq was trained."""
    return (estimate.magnitudes - _magnitudes(estimate, target)).square().mean()


def _magnitudes(estimate: "Estimate", target: Tensor) -> Tensor:
    """|S| of waveforms; from a stft cache, the target itself."""
    return target if estimate.on_magnitudes else estimate.stft(target).abs()


@loss()
def magnitude_phase(
    estimate: "Estimate",
    target: Tensor,
    *,
    alpha: str = "flat",
    weights: Sequence[float] = (),
    phase_weight: float = 0.1,
) -> Tensor:
    """`magnitude_l1` + phase_weight · `phase_loss`.

    Training draws another half of the bins at each step; validation always uses the same half, so its epochs compare.
    """
    spectra = estimate.stft(target)
    magnitude = _weighted_l1(estimate.magnitudes, spectra.abs(), alpha, weights)
    heard = estimate.stft(estimate.waveform.flatten(0, 1))
    generator = None if estimate.network.training else torch.Generator().manual_seed(0)
    # the target's spectra are those of waveforms: a round trip would not change them
    return magnitude + phase_weight * _phase_distance(heard, spectra.flatten(0, 1), generator)


@loss()
def waveform_l1(estimate: "Estimate", target: Tensor) -> Tensor:
    """Mean of |ŝ − s| over batch, source, channel and time, Demucs' loss."""
    return (estimate.waveform - target.float()).abs().mean()


@loss()
def spectrum_waveform_l1(estimate: "Estimate", target: Tensor) -> Tensor:
    """Mean of |Re Ŝ − Re S| + |Im Ŝ − Im S| over the bins, over √n_fft, + mean of |ŝ − s|.

    The terms of Luo & Yu (IEEE/ACM TASLP 2023), as means.  Dividing by √n_fft balances them; otherwise the spectral
    term is about 50 times larger.
    """
    stft = estimate.stft
    error = torch.view_as_real(estimate.spectra - stft(target)).abs().sum(dim=-1).mean()
    return error / stft.n_fft**0.5 + waveform_l1(estimate, target)


def phase_loss(
    *,
    estimate: Tensor,
    target: Tensor,
    n_fft: int = 1024,
    hop_length: int = 256,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Weighted mean of 1 − cos Δφ over a random half of the bins, Δφ between Ŝ and S after a round trip.

    A real mask keeps the mixture's phase, so the phase of mask · X has no gradient.  After iSTFT and STFT, which mix
    neighbouring bins, the phase depends on the mask; so both spectra make this round trip.

    A bin's weight is |Ŝ| · |S|, without gradient, over the sum of these weights in the batch.  So empty bins and silent
    clips, whose phases are noise, have no weight; a bin's gradient is |S| · sin Δφ over that sum, however small Ŝ is;
    and the loss depends on phases only.  1 − cos Δφ is computed as ½ |Ŝ/|Ŝ| − S/|S||², which is exactly 0 where they
    agree.

    estimate, target: complex spectra (batch, channel, freq, frame), Hann, centred, of `n_fft` and `hop_length`.
    generator: draws the half, the same for all clips and channels; None uses torch's own, which training seeds with
        (seed, epoch, step).

    Gives a float32 scalar from 0 to 2: 0 where estimate == target or one of them is silent; independent of the
    positive scale of either.  Raises UsageError where the shapes differ, or do not belong to n_fft.

    >>> waveform = torch.sin(torch.arange(4096) / 10).expand(1, 2, -1)
    >>> spectrum = STFT(1024, 256)(waveform)
    >>> float(phase_loss(estimate=3 * spectrum, target=spectrum)) < 1e-6
    True
    >>> round(float(phase_loss(estimate=-spectrum, target=spectrum)), 3)
    2.0
    """
    if estimate.shape != target.shape or estimate.ndim != 4 or estimate.shape[-2] != n_fft // 2 + 1:
        raise UsageError(
            f"Expected two spectra (batch, channel, {n_fft // 2 + 1}, frame) of the same shape for n_fft {n_fft}, got estimate {tuple(estimate.shape)} and target {tuple(target.shape)}."
        )
    stft = STFT(n_fft, hop_length).to(estimate.device)
    length = max(1, estimate.shape[-1] - 1) * hop_length
    heard, wanted = (stft(stft.inverse(spectrum, length)) for spectrum in (estimate, target))
    return _phase_distance(heard, wanted, generator)


def _phase_distance(estimate: Tensor, target: Tensor, generator: torch.Generator | None) -> Tensor:
    """`phase_loss` of two spectra after the round trip."""
    device = estimate.device if generator is None else generator.device
    half = torch.rand(estimate.shape[-2:], generator=generator, device=device) < 0.5
    with torch.autocast(estimate.device.type, enabled=False):
        (unit, weight), (target_unit, target_weight) = (_unit_and_weight(it) for it in (estimate, target))
        weight = weight * target_weight * half.to(weight.device)
        difference = torch.view_as_real(unit - target_unit).square().sum(dim=-1) / 2  # 1 − cos Δφ
        return (weight * difference).sum() / weight.sum().clamp_min(TINY)


def _unit_and_weight(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """S/|S|, and |S| over its largest without gradient; both 0 where there is nothing."""
    magnitude = spectrum.abs()
    return spectrum / magnitude.clamp_min(TINY), magnitude.detach() / magnitude.detach().max().clamp_min(TINY)


def _weighted_l1(estimate: Tensor, target: Tensor, alpha: str, weights: Sequence[float]) -> Tensor:
    """Σ over sources of weight · mean of α(f) · | estimate − target |."""
    error = (estimate - target).abs()
    error = error * frequency_weights(error.shape[-2], alpha).to(error.device)[:, None]
    per_source = error.mean(dim=(0, 2, 3, 4))
    if weights and len(weights) != len(per_source):
        raise UsageError(f"Expected {len(per_source)} weights, one a source, got {len(weights)}.")
    return (per_source * per_source.new_tensor(weights or [1.0] * len(per_source))).sum()
