"""Every score of one separated track, each under a name that says its definition.

Conventions: a signal is `(channel, time)`, floating point, full scale at 1, NumPy or torch; `estimate` and `target` are
keyword-only. Scores are dB over the whole track; higher is better, except `silence_energy_db`. An undefined score is
NaN, and `score_track` gives the reason in `status`; silence never raises, while wrong axes, unequal lengths and NaN
samples do.

`sdr_bsseval`, `isr_bsseval`, `sir_bsseval` and `sar_bsseval` are BSS Eval v4 (`bss_eval`), the median over valid windows.
Every other metric is one function here under `@metric`; scores.csv, tables and reports follow from METRICS. Importing
this module loads neither torch nor scipy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepkit.errors import SepkitError
from sepkit.evaluation.signals import Array, checked, in_windows
from sepkit.profiles import SAMPLE_RATE
from sepkit.storage.scores import BSS_EVAL_METRICS

AXES = "(channel, time)"
SILENT_BELOW_DBFS = -80.0  # above the dither of 16 bits (−98), below anything heard in a song
FLOOR_DBFS = -120.0  # digital silence is reported as this, so that it can be averaged


class Undefined(Exception):
    """A metric has no value for this song; the message says why."""


@dataclass(eq=False)
class Target:
    """One source's true signal `(channel, time)`, and what metrics need of it alone, each computed once."""

    signal: Array
    sample_rate: int
    own_lags: Callable[[], Array | None] = lambda: None  # where something else gathers `lags`

    @cached_property
    def lags(self) -> Array:
        """`(channel, lag)`: the autocorrelation of each channel at 512 lags."""
        from sepkit.evaluation.filters import correlations

        found = self.own_lags()
        return np.stack([correlations(row, row) for row in self.signal]) if found is None else found

    @cached_property
    def equations(self) -> list[Any]:
        """The factorised Toeplitz matrix of each channel's `lags`, for filters of 512 taps; None where it is singular."""
        from scipy.linalg import toeplitz
        from scipy.linalg.lapack import dgetrf

        factors = [dgetrf(toeplitz(lags / lags[0])) if lags[0] else (None, None, 1) for lags in self.lags]
        return [factor[:2] if factor[2] == 0 else None for factor in factors]

    @cached_property
    def sounds(self) -> bool:
        return bool(self.signal.any())

    @cached_property
    def onsets(self) -> NDArray[np.bool_]:
        """`(time,)`: True in the 50 ms at each onset."""
        from sepkit.evaluation.onsets import at_onsets

        return at_onsets(self.signal, self.sample_rate)

    @cached_property
    def near_onsets(self) -> Array:
        """`(channel, time)`: the samples in the 50 ms at each onset."""
        return self.signal.compress(self.onsets, axis=1)  # row by row in memory, which indexing would not give

    @cached_property
    def silent(self) -> NDArray[np.bool_]:
        """`(window,)`: seconds below −80 dBFS RMS."""
        return _window_power(self.signal, self.sample_rate) < 10 ** (SILENT_BELOW_DBFS / 10)


Score = Callable[..., float]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric beside its scores.

    score: (estimate, target) -> dB, or raises Undefined; None for the four that BSS Eval gives together.
    with_lags: score takes `lags=` too, what BSS Eval has: correlations of the target's channels with the estimate's.
    sources: names of the sources that it is for; None is all.
    n_windows: how many windows of the target it looks at; None is all.
    """

    score: Score | None = None
    with_lags: bool = False
    lower_is_better: bool = False
    sources: tuple[str, ...] | None = None
    n_windows: Callable[[Target], int] | None = None


METRICS = {name: Metric() for name in BSS_EVAL_METRICS}
LOWER_IS_BETTER: set[str] = set()


def metric(**facts: Any) -> Callable[[Score], Callable[..., float]]:
    """Registers a function (estimate, target) -> dB as a metric of its name; `facts` are fields of Metric.

    The function gets checked float64 arrays, and raises Undefined where it has no value. It becomes a call
    `name(*, estimate, target, sample_rate=44100) -> float` that checks both signals and returns NaN there.
    """

    def register(score: Score) -> Callable[..., float]:
        METRICS[score.__name__] = Metric(score, **facts)
        if METRICS[score.__name__].lower_is_better:
            LOWER_IS_BETTER.add(score.__name__)

        @wraps(score)
        def call(*, estimate: Any, target: Any, sample_rate: int = SAMPLE_RATE) -> float:
            target = checked(target, "target", AXES)
            estimate = checked(estimate, "estimate", AXES, like=target)
            try:
                return score(estimate, Target(target, sample_rate))
            except Undefined:
                return math.nan

        return call

    return register


@metric()
def sdr_global(estimate: Array, target: Target) -> float:
    """Signal-to-distortion ratio of the whole track, channels pooled, in dB.

    10·log10(Σs² / Σ(s − ŝ)²): the MDX challenge's SDR (Mitsufuji et al. 2022), without its ε. +inf for a perfect
    estimate. Undefined where target or estimate is silent: 0 dB for a silent estimate is better than many a mixture.

        >>> target = np.ones((2, 1000))
        >>> round(sdr_global(estimate=0.9 * target, target=target), 6)
        20.0
    """
    _refuse_silence(estimate, target)
    return _sdr(estimate, target.signal)


@metric()
def si_sdr(estimate: Array, target: Target) -> float:
    """Scale-invariant SDR of the whole track, both channels as one vector, mean kept, in dB.

    10·log10(|αs|² / |αs − ŝ|²), α = ⟨ŝ, s⟩ / |s|² (Le Roux et al. 2019), by torchmetrics in float64; a perfect estimate
    reads more than 150 dB. Undefined where target or estimate is silent.

        >>> target = np.tile([1.0, 0.0], (2, 500))
        >>> round(si_sdr(estimate=3 * target + 0.3 * np.tile([0.0, 1.0], (2, 500)), target=target), 6)
        20.0
    """
    import torch
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    _refuse_silence(estimate, target)
    given, wanted = (torch.from_numpy(signal.reshape(-1)) for signal in (estimate, target.signal))
    return float(scale_invariant_signal_distortion_ratio(given, wanted, zero_mean=False))


@metric(with_lags=True)
def sdr_torchmetrics(estimate: Array, target: Target, lags: Array | None = None) -> float:
    """torchmetrics' `signal_distortion_ratio` in float64, mean of the channels, in dB.

    10·log10(c / (1 − c)), c = bᵀR⁻¹b: R the autocorrelation of s and b its correlation with ŝ at 512 lags, both scaled
    to energy 1 (Scheibler 2021). It forgives any 512-tap filter, so it is not BSS Eval v4's SDR, and reads far higher
    on a filtered estimate. The correlations are BSS Eval's, or are computed in blocks: torchmetrics itself takes 13 s
    and 5 GB for 4 minutes; tests compare the two. Undefined where a channel of either is silent, or the equations are
    singular.

        >>> target = np.random.default_rng(0).standard_normal((2, 4000))
        >>> filtered = np.stack([np.convolve(row, [1, 0.5])[:4000] for row in target])
        >>> sdr_torchmetrics(estimate=filtered, target=target) > 30 > sdr_global(estimate=filtered, target=target)
        True
    """
    from scipy.linalg.lapack import dgetrs

    from sepkit.evaluation.filters import correlations

    _refuse_silence(estimate, target)
    for name, signal in (("target", target.signal), ("estimate", estimate)):
        if not signal.any(axis=1).all():
            raise Undefined(f"a channel of the {name} is silent")
    if any(factors is None for factors in target.equations):
        raise Undefined("singular equations, as in torchmetrics")
    values = []
    for channel, (wanted, given) in enumerate(zip(target.signal, estimate, strict=True)):
        cross = correlations(wanted, given) if lags is None else lags[channel]
        cross = cross / (np.linalg.norm(wanted) * np.linalg.norm(given))
        coherence = cross @ dgetrs(*target.equations[channel], cross)[0]
        # For a perfect estimate rounding gives a little more or less than 1; torchmetrics says +inf or NaN.
        perfect = coherence >= 1 or np.array_equal(wanted, given)
        values.append(math.inf if perfect else _db(float(coherence), float(1 - coherence)))
    return float(np.mean(values))


@metric()
def sdr_onsets(estimate: Array, target: Target) -> float:
    """SDR at the onsets of the target, channels pooled, in dB: how well attacks are kept.

    10·log10(Σs² / Σ(s − ŝ)²) as in `sdr_global`, over the samples in 50 ms at each onset of s, each sample once;
    `sepkit.evaluation.onsets` says where these are. Undefined where the target has no onset, or target or estimate
    is silent in all of them.

        >>> target = np.zeros((2, 44100)); target[:, 20000] = 1
        >>> estimate = 0.9 * target; estimate[:, 30000:] = 0.5
        >>> round(sdr_onsets(estimate=estimate, target=target), 6)
        20.0
    """
    _refuse_silence(estimate, target)
    try:
        near = target.near_onsets
    except SepkitError as error:
        raise Undefined(str(error)) from error
    if not near.size:
        raise Undefined("the target has no onset")
    estimate = estimate.compress(target.onsets, axis=1)
    if not estimate.any():
        raise Undefined("silent estimate at the onsets")
    return _sdr(estimate, near)


@metric(lower_is_better=True, n_windows=lambda target: int(target.silent.sum()))
def silence_energy_db(estimate: Array, target: Target) -> float:
    """Level of the estimate, in dBFS (RMS, 0 = constant 1), in the seconds where the target is silent.

    Silent: below −80 dBFS RMS over a one-second window, the windows of BSS Eval. Lower is better; never below −120.
    Undefined where the target has no silent second.

        >>> target = np.zeros((1, 4000)); target[0, 2000:] = 1
        >>> round(silence_energy_db(estimate=target + 0.01, target=target, sample_rate=2000), 6)
        -40.0
    """
    if not target.silent.any():
        raise Undefined("the target is never silent")
    power = _window_power(estimate, target.sample_rate)[target.silent].mean()
    return 10 * math.log10(max(power, 10 ** (FLOOR_DBFS / 10)))


def metrics_of(source: str) -> dict[str, Metric]:
    """The metrics that a source is scored with."""
    return {name: entry for name, entry in METRICS.items() if entry.sources is None or source in entry.sources}


def _refuse_silence(estimate: Array, target: Target) -> None:
    if not (target.sounds and estimate.any()):
        raise Undefined(f"silent {'estimate' if target.sounds else 'target'}")


def _window_power(signal: Array, sample_rate: int) -> Array:
    parts = in_windows(signal, sample_rate)
    return np.einsum("cwt,cwt->w", parts, parts) / (len(parts) * parts.shape[2])


def _sdr(estimate: Array, target: Array) -> float:
    error = target - estimate
    return _db(float(np.vdot(target, target)), float(np.vdot(error, error)))


def _db(above: float, below: float) -> float:
    if below == 0:
        return math.inf
    return 10 * math.log10(above / below) if above else -math.inf
