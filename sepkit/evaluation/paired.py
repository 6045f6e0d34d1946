"""Paired differences over songs: the test, the estimate, and intervals for checkpoints and for methods.

Conventions: `differences` is run − base in dB, one a song, `(song,)`, ±PERFECT_DB where one side is perfect. The
estimate everywhere is the Hodges–Lehmann pseudo-median, the median of all pairwise means (a song with itself included).

A test over songs holds the trained checkpoints fixed. A claim about methods counts the seeds as well: each side was
trained k times, and another k trainings would score otherwise. Songs and seeds are crossed, so their variances add:

    V = V_songs + S²_run / k_run + S²_base / k_base

V_songs: variance of the pseudo-median when artists are resampled (seed-averaged differences). S²: variance over one
side's seeds of the pseudo-median against the other side's average. The interval is the pseudo-median ± t·√V, t with
Satterthwaite's degrees of freedom (Welch 1947), since 2 to 5 seeds estimate a variance poorly. The noise of single
songs is counted in V_songs and in S² too, which errs to the wide side. Percentiles of a bootstrap over songs and seeds
are not used: with k seeds a side it captures only (k − 1)/k of the variance between seeds, and excludes zero far too
often (docs/statistics.md shows both).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose modules are imported where they are first used

from sepkit.data.tracks import artist_of
from sepkit.evaluation.signals import Array

EXACT_UP_TO = 50  # pairs
FEWEST_ARTISTS = 6  # with fewer, percentiles of a bootstrap say nothing at 95 %
PERFECT_DB = 1e9  # stands for infinity, so that ranks, means and medians stay defined


def unbounded(db: Any) -> Any:
    """What was computed with ±PERFECT_DB as ±inf, the rest as it is; a number, an array or a table."""
    return db + np.where(np.abs(db) > PERFECT_DB / 1000, np.copysign(np.inf, db), 0.0)


def wilcoxon(moved: Array) -> tuple[float, str]:
    """Two-sided p of non-zero differences, and how it was found: exact up to 50 pairs without ties."""
    exact = len(moved) <= EXACT_UP_TO and len(np.unique(np.abs(moved))) == len(moved)
    method: Any = "exact" if exact else "asymptotic"
    p_value = float(scipy.stats.wilcoxon(moved, zero_method="wilcox", method=method).pvalue)
    return p_value, "exact" if exact else "normal approximation"


def rank_biserial(moved: Array) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): rank sum of gains less that of losses, −1 … 1."""
    ranks = scipy.stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0


def pseudo_median(differences: Array) -> float:
    """Hodges–Lehmann estimate of `(song,)`: the median of all pairwise means; NaN for no song.

    >>> pseudo_median(np.array([1.0, 2.0, 6.0]))
    2.75
    """
    i, j = np.triu_indices(len(differences))
    return float(np.median((differences[i] + differences[j]) / 2)) if len(i) else math.nan


def artist_bootstrap(differences: Array, songs: Sequence[str], resamples: int = 2000) -> Array:
    """Pseudo-medians `(resample,)` of songs whose artists are drawn with replacement, all songs of each.

    A cluster bootstrap: songs of one artist are not independent. The draws are the same at every call.
    A resample that holds song i w_i times weighs its mean with song j by w_i·w_j, and by w_i·(w_i + 1)/2
    with itself, so all pseudo-medians come from one sorted list of pairwise means.
    """
    names, number = np.unique([artist_of(song) for song in songs], return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    i, j = np.triu_indices(len(differences))
    means = (differences[i] + differences[j]) / 2
    order = np.argsort(means)
    i, j, means = i[order], j[order], means[order]
    alone = np.flatnonzero(i == j)
    weights = drawn[:, number].astype(np.int32).T  # (song, resample)
    medians = []
    for part in np.array_split(weights, 1 + resamples * len(means) // 10_000_000, axis=1):
        double = part[i] * part[j]
        double[alone] = (double[alone] + part[i[alone]]) // 2
        double = 2 * np.cumsum(double, axis=0, dtype=np.int32)
        total = double[-1] // 2
        # the two middle ones: the same where the count is odd
        low, high = (double < total).sum(axis=0), (double <= total).sum(axis=0)
        medians.append((means[low] + means[high.clip(max=len(means) - 1)]) / 2)
    return np.concatenate(medians)


def artist_interval(draws: Array, artists: int) -> tuple[float, float]:
    """95 %: percentiles of `artist_bootstrap`; infinite with fewer than 6 artists, and where draws are."""
    if artists < FEWEST_ARTISTS:
        return -math.inf, math.inf
    low, high = unbounded(np.quantile(draws, [(1 - 0.95) / 2, (1 + 0.95) / 2]))
    return float(low), float(high)


@dataclass(frozen=True)
class Components:
    """What a method's interval is made of; variances in dB², of the estimate."""

    estimate: float  # dB
    songs: float
    run: float  # S² / k of the run's seeds; 0 for a reference, which has none
    base: float
    degrees: float  # Satterthwaite's, of the sum

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        half = scipy.stats.t.ppf(0.975, self.degrees) * np.sqrt(self.songs + self.run + self.base)
        return float(unbounded(self.estimate - half)), float(unbounded(self.estimate + half))


def components(run: Array, base: Array, draws: Array, artists: int) -> Components | None:
    """Variance components of run − base, each `(seed, song)` in dB, all defined; None where nothing varies.

    draws: `artist_bootstrap` of the seed-averaged differences; artists: how many there are. A side with
    one row counts as fixed: the caller allows that (a reference) or not (one seed).

    >>> rng, songs = np.random.default_rng(0), [f"artist {i}" for i in range(30)]
    >>> run, base = (shift + rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.5, (3, 30)) for shift in (1, 0))
    >>> draws = artist_bootstrap(run.mean(axis=0) - base.mean(axis=0), songs)
    >>> low, high = components(run, base, draws, artists=30).interval
    >>> low < 1 < high and bool(high - low > 4 * draws.std())
    True
    """
    if artists < 2:
        return None
    run_mean, base_mean = run.mean(axis=0), base.mean(axis=0)
    songs = float(draws.var()) * artists / (artists - 1)
    of_run = _between([pseudo_median(seed - base_mean) for seed in run])
    of_base = _between([pseudo_median(run_mean - seed) for seed in base])
    total = songs + of_run + of_base
    if total == 0:
        return None
    parts = ((songs, artists - 1), (of_run, len(run) - 1), (of_base, len(base) - 1))
    degrees = total**2 / sum(part**2 / free for part, free in parts if part)
    return Components(pseudo_median(run_mean - base_mean), songs, of_run, of_base, degrees)


def _between(estimates: list[float]) -> float:
    """Variance of the mean of k seeds, estimated from the k."""
    return float(np.var(estimates, ddof=1)) / len(estimates) if len(estimates) > 1 else 0.0
