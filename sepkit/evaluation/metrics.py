"""Every score of one separated track, each under a name that says its definition.

Conventions: a signal is `(channel, time)`, floating point, full scale at 1, NumPy or torch; `estimate`
and `target` are keyword-only. Scores are dB over the whole track; higher is better, except
`silence_energy_db`. What has no value is NaN, and `score_track` gives the reason in `status`; silence
is never an exception, while wrong axes, lengths and NaN samples are.

| metric | definition |
|---|---|
| `sdr_bsseval`, `isr_…`, `sir_…`, `sar_bsseval` | BSS Eval v4 (`bss_eval`), median over valid windows |
| `sdr_global` | 10·log10(Σs² / Σ(s − ŝ)²), channels pooled |
| `si_sdr` | the same after scaling s to fit ŝ, both channels as one vector |
| `sdr_torchmetrics` | torchmetrics' SDR, any 512-tap filter allowed, mean of the channels |
| `sdr_onsets` | `sdr_global` of the 50 ms at each onset of s (`onsets`): transients |
| `silence_energy_db` | level of ŝ where s is silent: what BSS Eval cannot see |
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg

from sepkit.errors import SepkitError
from sepkit.evaluation.bss_eval import References, reasons
from sepkit.evaluation.filters import Array, correlations
from sepkit.evaluation.onsets import at_onsets
from sepkit.evaluation.signals import checked

AXES = "(channel, time)"
PROTOCOLS = {
    "2stem": ("vocals", "accompaniment"),
    "4stem": ("vocals", "drums", "bass", "other"),
}
BSS_EVAL_METRICS = ("sdr_bsseval", "isr_bsseval", "sir_bsseval", "sar_bsseval")
METRICS = (*BSS_EVAL_METRICS, "sdr_global", "si_sdr", "sdr_torchmetrics", "sdr_onsets", "silence_energy_db")
LOWER_IS_BETTER = frozenset({"silence_energy_db"})
SILENT_BELOW_DBFS = -80.0  # above the dither of 16 bits (−98), below anything heard in a song
FLOOR_DBFS = -120.0  # digital silence is reported as this, so that it can be averaged


def sdr_global(*, estimate: Any, target: Any) -> float:
    """Signal-to-distortion ratio of the whole track, channels pooled, in dB.

    10·log10(Σs² / Σ(s − ŝ)²): the MDX challenge's SDR (Mitsufuji et al. 2022), without its ε.
    +inf for a perfect estimate. NaN where target or estimate is silent: the formula's 0 for silence would
    flatter it, as it beats many a mixture. `(channel, time)`.

        >>> target = np.ones((2, 1000))
        >>> round(sdr_global(estimate=0.9 * target, target=target), 6)
        20.0
    """
    return _sdr_global(*_pair(estimate, target))[0]


def si_sdr(*, estimate: Any, target: Any) -> float:
    """Scale-invariant SDR of the whole track, both channels as one vector, mean kept, in dB.

    10·log10(|αs|² / |αs − ŝ|²), α = ⟨ŝ, s⟩ / |s|² (Le Roux et al. 2019). NaN where target or estimate is
    silent. `(channel, time)`.

        >>> target = np.tile([1.0, 0.0], (2, 500))
        >>> round(si_sdr(estimate=3 * target + 0.3 * np.tile([0.0, 1.0], (2, 500)), target=target), 6)
        20.0
    """
    return _si_sdr(*_pair(estimate, target))[0]


def sdr_torchmetrics(*, estimate: Any, target: Any) -> float:
    """torchmetrics' `signal_distortion_ratio` in float64, mean of the channels, in dB.

    10·log10(c / (1 − c)), c = bᵀR⁻¹b: R the autocorrelation of s and b its correlation with ŝ at 512
    lags, both scaled to energy 1 (Scheibler 2021). It forgives any 512-tap filter, so it is not BSS Eval
    v4's SDR, and reads far higher on a filtered estimate. The correlations come from blocks: torchmetrics
    itself takes 13 s and 5 GB for 4 minutes; the tests hold the two together. NaN where a channel of
    either is silent, or the equations are singular. `(channel, time)`.

        >>> target = np.random.default_rng(0).standard_normal((2, 4000))
        >>> filtered = np.stack([np.convolve(row, [1, 0.5])[:4000] for row in target])
        >>> sdr_torchmetrics(estimate=filtered, target=target) > 30 > sdr_global(estimate=filtered, target=target)
        True
    """
    return _sdr_torchmetrics(*_pair(estimate, target))[0]


def sdr_onsets(*, estimate: Any, target: Any, sample_rate: int = 44100) -> float:
    """SDR at the onsets of the target, channels pooled, in dB: how well attacks are kept.

    10·log10(Σs² / Σ(s − ŝ)²) as in `sdr_global`, over the samples in 50 ms at each onset of s, each sample
    once; `sepkit.evaluation.onsets` says where these are. NaN where the target has no onset, or target or
    estimate is silent in all of them. `(channel, time)`.

        >>> target = np.zeros((2, 44100)); target[:, 20000] = 1
        >>> estimate = 0.9 * target; estimate[:, 30000:] = 0.5
        >>> round(sdr_onsets(estimate=estimate, target=target), 6)
        20.0
    """
    return _sdr_onsets(*_pair(estimate, target), sample_rate)[0]


def silence_energy_db(*, estimate: Any, target: Any, sample_rate: int = 44100) -> float:
    """Level of the estimate, in dBFS (RMS, 0 = constant 1), in the seconds where the target is silent.

    Silent: below −80 dBFS RMS over a one-second window, the windows of BSS Eval. Lower is better; never
    below −120. NaN where the target has no silent second. `(channel, time)`.

        >>> target = np.zeros((1, 4000)); target[0, 2000:] = 1
        >>> round(silence_energy_db(estimate=target + 0.01, target=target, sample_rate=2000), 6)
        -40.0
    """
    return _silence_energy(*_pair(estimate, target), sample_rate)[0]


def prepare(
    target: Mapping[str, Any], sample_rate: int = 44100, protocol: str = "2stem", track: str = ""
) -> References:
    """The shared part of `score_track`, for several runs on one track: targets by source name.

    >>> target = {name: np.ones((2, 8000)) for name in PROTOCOLS["2stem"]}
    >>> prepare(target, sample_rate=4000).windows
    2
    """
    return References(_stack(target, "target", protocol, track), sample_rate)


def score_track(
    *,
    estimate: Mapping[str, Any],
    target: Mapping[str, Any],
    sample_rate: int = 44100,
    protocol: str = "2stem",
    references: References | None = None,
    track: str = "",
) -> list[dict[str, Any]]:
    """All scores of one track: a row for every source and metric.

    Args:
        estimate, target: `(channel, time)` by source; exactly the sources of the protocol.
        sample_rate: Hz.
        protocol: "2stem" or "4stem", the targets scored together.
        references: `prepare(target, …)`, where several estimates of the track are scored.
        track: the song's name, for error messages.

    Returns:
        Rows with source, metric, value (dB or NaN), protocol, frames (windows that count),
        frames_dropped, and status: "ok" or "undefined: " with the reason.

    Raises:
        SepkitError: sources missing, shapes or lengths that differ, or samples that are not finite; names
        the track and the source.

    >>> target = {name: np.random.default_rng(0).standard_normal((2, 8000)) for name in PROTOCOLS["2stem"]}
    >>> rows = score_track(estimate=target, target=target, sample_rate=4000)
    >>> rows[0]["source"], rows[0]["metric"], rows[0]["value"], rows[0]["frames"], rows[0]["status"]
    ('vocals', 'sdr_bsseval', inf, 2, 'ok')
    """
    return score_windows(
        estimate=estimate, target=target, sample_rate=sample_rate, protocol=protocol, references=references,
        track=track,
    )[0]  # fmt: skip


def score_windows(
    *,
    estimate: Mapping[str, Any],
    target: Mapping[str, Any],
    sample_rate: int = 44100,
    protocol: str = "2stem",
    references: References | None = None,
    track: str = "",
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """(rows of `score_track`, the scores of every window that its medians are taken from).

    The latter by the names of BSS_EVAL_METRICS, each `(source, window)` in dB.
    """
    truth = _stack(target, "target", protocol, track)
    guess = _stack(estimate, "estimate", protocol, track, truth)
    if references is None:
        references = References(truth, sample_rate)
    elif references.sample_rate != sample_rate or not np.array_equal(references.target, truth):
        raise SepkitError(
            f"references were prepared from other targets than track {track!r}'s; prepare them again."
        )

    names, windows = list(PROTOCOLS[protocol]), references.windows
    windowed = {f"{name}_bsseval": scores for name, scores in references.score(guess).items()}
    statuses = reasons(estimate=guess, target=truth, sample_rate=sample_rate, names=names)
    rows = []
    for i, source in enumerate(names):
        for metric in METRICS:
            count = windows
            if metric in BSS_EVAL_METRICS:
                scores = windowed[metric][i]
                count = int((~np.isnan(scores)).sum())
                value, status = (float(np.nanmedian(scores)) if count else math.nan), statuses[i]
            elif metric == "silence_energy_db":
                value, status, count = _silence_energy(guess[i], truth[i], sample_rate)
            elif metric == "sdr_onsets":
                value, status = _sdr_onsets(guess[i], truth[i], sample_rate)
            else:
                value, status = _WHOLE_TRACK[metric](guess[i], truth[i])
            rows.append(
                {
                    "source": source,
                    "metric": metric,
                    "value": value,
                    "protocol": protocol,
                    "frames": count,
                    "frames_dropped": windows - count,
                    "status": status,
                }
            )
    return rows, windowed


def _pair(estimate: Any, target: Any) -> tuple[Array, Array]:
    truth = checked(target, "target", AXES)
    return checked(estimate, "estimate", AXES, like=truth), truth


def _stack(
    signals: Mapping[str, Any], kind: str, protocol: str, track: str, like: Array | None = None
) -> Array:
    """`(source, channel, time)` in the protocol's order, each source checked under its own name."""
    if protocol not in PROTOCOLS:
        raise SepkitError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}.")
    names, place = PROTOCOLS[protocol], f" in track {track!r}" if track else ""
    if set(signals) != set(names):
        raise SepkitError(
            f"protocol {protocol} scores {', '.join(names)} together; the {kind}{place} has "
            f"{', '.join(signals) or 'nothing'}."
        )
    arrays: list[Array] = []
    for i, name in enumerate(names):
        # A target must look like the first target, an estimate like its own target.
        model = like[i] if like is not None else (arrays[0] if arrays else None)
        arrays.append(checked(signals[name], f"{kind} of {name!r}{place}", AXES, like=model))
    return np.stack(arrays)


def _sdr_global(estimate: Array, target: Array) -> tuple[float, str]:
    if not (target.any() and estimate.any()):
        return math.nan, f"undefined: silent {'estimate' if target.any() else 'target'}"
    return _db(_energy(target), _energy(target - estimate)), "ok"


def _sdr_onsets(estimate: Array, target: Array, sample_rate: int) -> tuple[float, str]:
    near = at_onsets(target, sample_rate)
    if target.any() and not near.any():
        return math.nan, "undefined: the target has no onset"
    if estimate.any() and near.any() and not estimate[:, near].any():
        return math.nan, "undefined: silent estimate at the onsets"
    return _sdr_global(estimate[:, near], target[:, near])


def _si_sdr(estimate: Array, target: Array) -> tuple[float, str]:
    if not (target.any() and estimate.any()):
        return math.nan, f"undefined: silent {'estimate' if target.any() else 'target'}"
    scaled = np.vdot(estimate, target) / _energy(target) * target
    return _db(_energy(scaled), _energy(scaled - estimate)), "ok"


def _sdr_torchmetrics(estimate: Array, target: Array) -> tuple[float, str]:
    for name, signal in (("target", target), ("estimate", estimate)):
        if not signal.any():
            return math.nan, f"undefined: silent {name}"
        if not signal.any(axis=1).all():
            return math.nan, f"undefined: a channel of the {name} is silent"
    values = []
    for wanted, given in zip(target, estimate, strict=True):
        auto, cross = correlations(wanted / np.linalg.norm(wanted), given / np.linalg.norm(given))
        try:
            coherence = cross @ np.linalg.solve(scipy.linalg.toeplitz(auto), cross)
        except np.linalg.LinAlgError:
            return math.nan, "undefined: singular equations, as in torchmetrics"
        # Rounding takes a perfect estimate to either side of 1, and torchmetrics to +inf or NaN.
        perfect = coherence >= 1 or np.array_equal(wanted, given)
        values.append(math.inf if perfect else _db(float(coherence), float(1 - coherence)))
    return float(np.mean(values)), "ok"


def _silence_energy(estimate: Array, target: Array, sample_rate: int) -> tuple[float, str, int]:
    """Level in dBFS, status, and how many windows of the target are silent."""
    power = [_window_power(signal, sample_rate) for signal in (estimate, target)]
    silent = power[1] < 10 ** (SILENT_BELOW_DBFS / 10)
    if not silent.any():
        return math.nan, "undefined: the target is never silent", 0
    floor = 10 ** (FLOOR_DBFS / 10)
    return 10 * math.log10(max(power[0][silent].mean(), floor)), "ok", int(silent.sum())


def _window_power(signal: Array, sample_rate: int) -> Array:
    window = min(sample_rate, signal.shape[1])
    windows = signal.shape[1] // window
    parts = signal[:, : windows * window].reshape(len(signal), windows, window)
    return np.einsum("cwt,cwt->w", parts, parts) / (len(signal) * window)


def _energy(signal: Array) -> float:
    return float(np.vdot(signal, signal))


def _db(above: float, below: float) -> float:
    if below == 0:
        return math.inf
    return 10 * math.log10(above / below) if above else -math.inf


_WHOLE_TRACK = {
    "sdr_global": _sdr_global,
    "si_sdr": _si_sdr,
    "sdr_torchmetrics": _sdr_torchmetrics,
}
