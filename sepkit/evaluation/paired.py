"""Paired differences over songs: the test, the estimate, and intervals.

Conventions: `differences` is run − base in dB, one a song, `(song,)`. The estimate everywhere is the
Hodges–Lehmann pseudo-median, the median of all pairwise means (a song with itself included).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from sepkit.data.songs import artist_of
from sepkit.evaluation.signals import Array

EXACT_UP_TO = 50  # pairs
FEWEST_ARTISTS = 6  # with fewer, percentiles of a bootstrap say nothing at 95 %


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
    """95 %: percentiles of `artist_bootstrap`; infinite with fewer than 6 artists."""
    low, high = (
        np.quantile(draws, [(1 - 0.95) / 2, (1 + 0.95) / 2]) if artists >= FEWEST_ARTISTS else (-math.inf, math.inf)
    )
    return float(low), float(high)
