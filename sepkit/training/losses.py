"""Losses: one function an idea, called with what the network made and the true sources.

A loss takes (estimate, target), an `Estimate` and `target` (batch, source, channel, time) in the order
of `model.sources`, and gives a scalar in float32.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sepkit.dsp import STFT
from sepkit.errors import UsageError
from sepkit.training.estimate import Estimate

Loss = Callable[[Estimate, Tensor], Tensor]

TINY = 1e-12  # keeps 0 / 0 at 0; far below the spectrum of the quietest 24-bit sample


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
    estimate: Estimate, target: Tensor, *, alpha: str = "flat", weights: Sequence[float] = ()
) -> Tensor:
    """Mean of α(f) · | mask · |X| − |S| | over batch, channel, frequency and frame.

    `weights`: one factor a source, for a network of several; the sum over sources is taken.
    """
    return _weighted_l1(estimate.magnitudes, _magnitudes(estimate, target), alpha, weights)


def magnitude_mse(estimate: Estimate, target: Tensor) -> Tensor:
    """Mean of (mask · |X| − |S|)²: what openunmix and its umxhq weights were trained with."""
    return (estimate.magnitudes - _magnitudes(estimate, target)).square().mean()


def _magnitudes(estimate: Estimate, target: Tensor) -> Tensor:
    """|S| of waveforms; a stft cache gives it as it is."""
    return target if estimate.on_magnitudes else estimate.model.stft(target).abs()


def magnitude_phase(
    estimate: Estimate,
    target: Tensor,
    *,
    alpha: str = "flat",
    weights: Sequence[float] = (),
    phase_weight: float = 0.1,
) -> Tensor:
    """`magnitude_l1` + phase_weight · `phase_loss`.

    Training draws the half of the bins anew each step; validation keeps to one half, so that its
    epochs can be compared.
    """
    model, truth = estimate.model, estimate.model.stft(target)
    magnitude = _weighted_l1(estimate.magnitudes, truth, alpha, weights)
    heard = model.stft(estimate.waveform.flatten(0, 1))
    generator = None if model.training else torch.Generator().manual_seed(0)
    # the truth is a waveform's spectrum already: its round trip would change nothing
    return magnitude + phase_weight * _phase_distance(heard, truth.flatten(0, 1), generator)


def waveform_l1(estimate: Estimate, target: Tensor) -> Tensor:
    """Mean of |ŝ − s| over batch, source, channel and time, as Demucs is trained."""
    return (estimate.waveform - target.float()).abs().mean()


def spectrum_waveform_l1(estimate: Estimate, target: Tensor) -> Tensor:
    """Mean of |Re Ŝ − Re S| + |Im Ŝ − Im S| over the bins, over √n_fft, + mean of |ŝ − s|.

    The terms of Luo & Yu (IEEE/ACM TASLP 2023), means instead of sums.  Over √n_fft, as in a
    normalised STFT, both are of one size; else the spectrum, some fifty times the waveform, rules.
    """
    stft = estimate.model.stft
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

    A real mask leaves the mixture's phase as it is, so the phase of mask · X has no gradient at
    all.  What is heard is the waveform: both spectra go through iSTFT and STFT, which mixes
    neighbouring bins, and there the phase depends on the mask.

    A bin weighs |Ŝ| · |S|, without gradient, over the sum of these weights in the batch.  So an empty
    bin or a silent clip, whose phase is noise, counts nothing; a bin's gradient is |S| · sin Δφ over
    that sum, however small Ŝ is there; and the loss sees phases alone.  1 − cos Δφ is computed as
    ½ |Ŝ/|Ŝ| − S/|S||², which is 0 exactly where they agree.

    Args:
        estimate, target: complex spectra (batch, channel, freq, frame), Hann, centred.
        n_fft, hop_length: of these spectra.
        generator: draws the half, the same for all clips and channels; None takes torch's own,
            which the trainer seeds with (seed, epoch, step).

    Returns:
        A float32 scalar from 0 to 2: 0 where estimate == target and where one of them is silent, the
        same for any positive scale of either.

    Raises:
        UsageError: the shapes differ, or do not belong to n_fft.

    >>> waveform = torch.sin(torch.arange(4096) / 10).expand(1, 2, -1)
    >>> spectrum = STFT(1024, 256)(waveform)
    >>> float(phase_loss(estimate=3 * spectrum, target=spectrum)) < 1e-6
    True
    >>> round(float(phase_loss(estimate=-spectrum, target=spectrum)), 3)
    2.0
    """
    if estimate.shape != target.shape or estimate.ndim != 4 or estimate.shape[-2] != n_fft // 2 + 1:
        raise UsageError(
            f"Expected two spectra (batch, channel, {n_fft // 2 + 1}, frame) of the same shape for n_fft {n_fft}, "
            f"got estimate {tuple(estimate.shape)} and target {tuple(target.shape)}."
        )
    stft = STFT(n_fft, hop_length).to(estimate.device)
    length = max(1, estimate.shape[-1] - 1) * hop_length
    heard, truth = (stft(stft.inverse(spectrum, length)) for spectrum in (estimate, target))
    return _phase_distance(heard, truth, generator)


def _phase_distance(estimate: Tensor, target: Tensor, generator: torch.Generator | None) -> Tensor:
    """`phase_loss` of two spectra that have been through iSTFT and STFT."""
    device = estimate.device if generator is None else generator.device
    half = torch.rand(estimate.shape[-2:], generator=generator, device=device) < 0.5
    with torch.autocast(estimate.device.type, enabled=False):
        (unit, weight), (true_unit, true_weight) = (_unit_and_weight(it) for it in (estimate, target))
        weight = weight * true_weight * half.to(weight.device)
        difference = torch.view_as_real(unit - true_unit).square().sum(dim=-1) / 2  # 1 − cos Δφ
        return (weight * difference).sum() / weight.sum().clamp_min(TINY)


def _unit_and_weight(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """S/|S|, and |S| over its largest without gradient; both 0 where there is nothing."""
    magnitude = spectrum.abs()
    weight = magnitude.detach()
    return spectrum / magnitude.clamp_min(TINY), weight / weight.max().clamp_min(TINY)


def _weighted_l1(estimate: Tensor, spectrum: Tensor, alpha: str, weights: Sequence[float]) -> Tensor:
    """Σ over sources of weight · mean of α(f) · | estimate − |spectrum| |."""
    error = (estimate - spectrum.abs()).abs()
    error = error * frequency_weights(error.shape[-2], alpha).to(error.device)[:, None]
    per_source = error.mean(dim=(0, 2, 3, 4))
    if weights and len(weights) != len(per_source):
        raise UsageError(f"Expected {len(per_source)} weights, one a source, got {len(weights)}.")
    return (per_source * per_source.new_tensor(weights or [1.0] * len(per_source))).sum()


LOSSES = {
    loss.__name__: loss
    for loss in (magnitude_l1, magnitude_mse, magnitude_phase, spectrum_waveform_l1, waveform_l1)
}


def make_loss(name: str, **settings: Any) -> Loss:
    """The loss `name` with its settings; UsageError for an unknown name."""
    if name not in LOSSES:
        raise UsageError(f"There is no loss {name!r}; expected one of {', '.join(LOSSES)}.")
    return partial(LOSSES[name], **settings)
