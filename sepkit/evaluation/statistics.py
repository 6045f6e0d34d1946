"""Is the difference real? Paired comparison of two runs over the same songs.

Conventions: scores are DataFrames with the columns of scores.csv, one row for each song, source and
metric; differences are run − base, in dB. A song's scores are averaged over seeds (and folds) first.
Silence or any other undefined score (NaN) takes the song out of both sides and is counted. Only
equal metric names and equal protocols are ever compared.

The test is Wilcoxon's signed-rank test, two-sided, zero differences dropped (`zero_method="wilcox"`):
exact up to 50 pairs without ties, else the normal approximation. It asks whether these two sets of
checkpoints differ over songs; it can't see how another training seed would have turned out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from sepkit.errors import SepkitError
from sepkit.evaluation.filters import Array
from sepkit.evaluation.metrics import BSS_EVAL_METRICS, LOWER_IS_BETTER

COLUMNS = ("run", "experiment", "seed", "fold", "track", "source", "metric", "value", "protocol", "status")
ZERO_DB = 1e-9  # smaller differences are rounding
EXACT_UP_TO = 50  # pairs
# Test songs whose artists also sing in the training songs.
ARTIST_OVERLAP = ("Hollow Ground - Ill Fate", "Skelpolu - Resurrection", "The Long Wait - Dark Horses")
# Nearly silent vocals: −15 to −24 dB for good systems, which rules any mean.
OUTLIERS = ("PR - Happy Daze", "PR - Oh No")


@dataclass(frozen=True)
class Comparison:
    """A run against a base on one metric of one source; `sentence` says it all in words."""

    run: str
    base: str
    metric: str
    source: str
    protocol: str
    n: int  # pairs compared, zero differences included
    n_dropped: int
    n_zero: int
    p_value: float | None  # None where the test does not apply
    alpha: float
    median_difference: float  # Hodges–Lehmann pseudo-median, dB
    interval: tuple[float, float]  # 95 %; infinite with fewer than 6 pairs
    share_improved: float  # of the n pairs
    rank_biserial: float  # −1 … 1, positive where the run is better
    method: str  # "exact", "normal approximation" or "none"
    zero_method: str
    significant: bool
    better: bool  # significantly better
    enough: bool  # pairs enough for p < alpha to be possible
    sentence: str
    dropped: dict[str, str] = field(default_factory=dict)  # song: reason

    @property
    def mark(self) -> str:
        """For a scoreboard: ✓ better, ▼ worse, "n too small", or nothing."""
        if self.significant:
            return "✓" if self.better else "▼"
        return "" if self.enough or self.n == self.n_zero else "n too small"


def compare_scores(
    scores: pd.DataFrame,
    base_scores: pd.DataFrame,
    *,
    metric: str = "sdr_bsseval",
    source: str = "vocals",
    alpha: float = 0.01,
) -> Comparison:
    """Paired comparison over songs, run − base.

    The estimate is the Hodges–Lehmann pseudo-median (median of all pairwise means of differences) with
    the interval that inverts the signed-rank test (Hollander, Wolfe, Chicken 2014, ch. 3); the effect
    size is the matched-pairs rank-biserial correlation (Kerby 2014).

    Raises:
        SepkitError: a column, the metric or the source is missing; protocols differ; the two sides hold
        different songs, or one song twice.

    >>> run, base = (pd.DataFrame({
    ...     "run": name, "experiment": name, "seed": 0, "fold": None, "track": list("abcdefghij"),
    ...     "source": "vocals", "metric": "sdr_bsseval", "value": np.arange(10.0) * slope,
    ...     "protocol": "2stem", "status": "ok"}) for name, slope in (("C", 1.1), ("Base", 1.0)))
    >>> result = compare_scores(run, base)
    >>> result.n, round(result.median_difference, 2), result.p_value, result.mark
    (10, 0.45, 0.00390625, '✓')
    """
    run, base = _Side(scores, metric, source, "run"), _Side(base_scores, metric, source, "base")
    if run.protocol != base.protocol:
        raise SepkitError(
            f"{run.name} was scored as {run.protocol} and {base.name} as {base.protocol}: they count different "
            "windows, so score both with one protocol before comparing."
        )
    only = (("run", run.songs - base.songs), ("base", base.songs - run.songs))
    listed = "; ".join(f"only in the {side}: {', '.join(sorted(songs))}" for side, songs in only if songs)
    if listed:
        raise SepkitError(f"both sides must hold the same songs; {listed}: score what is missing.")

    dropped = {song: why for side in (base, run) for song, why in side.undefined.items()}
    songs = sorted(run.songs - set(dropped))
    raw = run.means[songs].to_numpy() - base.means[songs].to_numpy()
    differences = np.where(np.abs(raw) < ZERO_DB, 0.0, np.round(raw, 9))  # what rounding split is tied
    gains = -differences if metric in LOWER_IS_BETTER else differences
    moved = gains[gains != 0]
    ranks = scipy.stats.rankdata(np.abs(moved))
    fewest = 2 + math.floor(-math.log2(alpha))  # the least two-sided p is 2 · 2⁻ⁿ
    p_value, method = _wilcoxon(moved) if len(moved) else (None, "none")
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0
    significant = len(moved) >= fewest and p_value is not None and p_value < alpha
    middle, interval = hodges_lehmann(differences)
    improved = int((gains > 0).sum())

    counts = f"n = {len(songs)} songs, {len(dropped)} dropped as undefined, {len(songs) - len(moved)} without change"
    uneven = int((run.frames[songs] != base.frames[songs]).sum())
    if uneven:
        counts += f", {uneven} with medians over unlike numbers of windows"
    about = f"{run.name} against {base.name}, {metric} of {source} ({run.protocol})"
    numbers = (
        f"{middle:+.2f} dB (95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}), {improved} of {len(songs)} "
        f"songs better, rank-biserial {effect:+.2f}"
    )
    test = f"Wilcoxon two-sided, {method}, zeros dropped"
    shown = "" if p_value is None else "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.4f}"
    if not songs:
        sentence = f"{about}: no song is defined on both sides; the test does not apply ({counts})."
    elif p_value is None:
        sentence = f"{about}: no differences; the test does not apply ({counts})."
    elif len(moved) < fewest:
        sentence = (
            f"{about}: {numbers}; n = {len(moved)} is too small: a two-sided Wilcoxon test cannot reach "
            f"p < {alpha:g} with fewer than {fewest} pairs ({shown}, {test}; {counts})."
        )
    else:
        verdict = ("better" if effect > 0 else "worse") if significant else "no significant difference"
        sentence = f"{about}: {verdict} at p < {alpha:g}: {numbers}, {shown} ({test}; {counts})."
    if (
        p_value is not None
        and min(run.seeds, base.seeds) == 1
        and not {run.name, base.name} & {"mixture", "oracle"}
    ):
        sentence = (
            f"{sentence[:-1]}, and with one seed a side this compares two checkpoints, not two methods."
        )
    return Comparison(
        run=run.name, base=base.name, metric=metric, source=source, protocol=run.protocol,
        n=len(songs), n_dropped=len(dropped), n_zero=len(songs) - len(moved),
        p_value=p_value, alpha=alpha, median_difference=middle, interval=interval,
        share_improved=improved / len(songs) if songs else math.nan, rank_biserial=effect,
        method=method, zero_method="wilcox", significant=significant, better=significant and effect > 0,
        enough=len(moved) >= fewest, sentence=sentence, dropped=dropped,
    )  # fmt: skip


def hodges_lehmann(differences: Array, level: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Pseudo-median of paired differences and its distribution-free interval.

    The k-th smallest and largest pairwise means, k the largest with P(T < k) ≤ (1 − level) / 2 for the
    signed-rank statistic T under its null. Infinite where n is too small for the level; NaN for n = 0.

    >>> hodges_lehmann(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    (3.5, (1.0, 6.0))
    """
    n = len(differences)
    if n == 0:
        return math.nan, (math.nan, math.nan)
    means = np.sort(np.add.outer(differences, differences)[np.triu_indices(n)] / 2)
    null = np.ones(1)  # distribution of T: a sum of ranks, each there or not with probability 1/2
    for rank in range(1, n + 1):
        null = (np.pad(null, (0, rank)) + np.pad(null, (rank, 0))) / 2
    k = int(np.searchsorted(np.cumsum(null), (1 - level) / 2, side="right"))
    interval = (float(means[k - 1]), float(means[-k])) if k else (-math.inf, math.inf)
    return float(np.median(means)), interval


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's correction over the rows that ran; a test that did not apply stays None and isn't counted.

    >>> holm({"C": 0.01, "D": 0.04, "E": None})
    {'C': 0.02, 'D': 0.04, 'E': None}
    """
    from statsmodels.stats.multitest import multipletests  # slow to import, used late

    found = {name: p for name, p in p_values.items() if p is not None}
    corrected = multipletests(list(found.values()), method="holm")[1] if found else []
    adjusted = dict(zip(found, map(float, corrected), strict=True))
    return {name: adjusted.get(name) for name in p_values}


def summary(
    scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals"
) -> dict[str, float | int | str]:
    """One run in numbers over songs: how it is aggregated, what was dropped, and what rules the mean.

    Returns median, q25, q75 and mean over the n defined songs, n_undefined, the windows that counted
    and were dropped (where the columns are there), means and medians without the outlier songs and
    without the artist-overlap songs, the protocol and the two aggregation steps in words. In dB.
    """
    side = _Side(scores, metric, source, "run")
    values = side.means.drop(index=list(side.undefined))
    plain = values[~values.index.isin(OUTLIERS)]
    unrelated = values[~values.index.isin(ARTIST_OVERLAP)]
    over = "median over 1 s windows (BSS Eval v4)" if metric in BSS_EVAL_METRICS else "whole track"
    return {
        "metric": metric,
        "source": source,
        "protocol": side.protocol,
        "aggregation": f"{over}, then over songs",
        "median": float(values.median()),
        "q25": float(values.quantile(0.25)),
        "q75": float(values.quantile(0.75)),
        "mean": float(values.mean()),
        "n": len(values),
        "n_undefined": len(side.undefined),
        "mean_without_outliers": float(plain.mean()),
        "median_without_overlap": float(unrelated.median()),
        "mean_without_overlap": float(unrelated.mean()),
        "n_without_overlap": len(unrelated),
        **{name: int(side.rows[name].sum()) for name in ("frames", "frames_dropped") if name in side.rows},
    }


class _Side:
    """The rows of one side for a metric and source: seed-averaged score by song, what is undefined."""

    def __init__(self, scores: pd.DataFrame, metric: str, source: str, side: str) -> None:
        missing = [name for name in COLUMNS if name not in scores]
        if missing:
            raise SepkitError(f"the {side}'s scores lack the columns {', '.join(missing)} of scores.csv.")
        for column, wanted in (("metric", metric), ("source", source)):
            there = sorted(map(str, scores[column].unique()))
            if wanted not in there:
                raise SepkitError(
                    f"the {side} has no scores of {column} {wanted!r}, only {', '.join(there) or 'none at all'}; "
                    "scores with different definitions are never compared."
                )
        rows = scores[(scores["metric"] == metric) & (scores["source"] == source)]
        self.rows = rows = rows.astype({"value": np.float64})
        if rows.empty:
            raise SepkitError(f"the {side} has no scores of metric {metric!r} for source {source!r}.")
        for column in ("protocol", "experiment"):
            if rows[column].nunique() != 1:
                kinds = ", ".join(sorted(map(str, rows[column].unique())))
                raise SepkitError(f"the {side} must hold scores of one {column}; got {kinds}.")
        twice = rows[rows.duplicated(["seed", "fold", "track"])]
        if len(twice):
            raise SepkitError(
                f"the {side} holds two {metric} scores of {twice['track'].iloc[0]!r} for one seed."
            )
        self.protocol = str(rows["protocol"].iloc[0])
        runs = rows["run"].unique()
        self.name = str(runs[0] if len(runs) == 1 else rows["experiment"].iloc[0])
        self.seeds = int(rows["seed"].nunique())
        # A song with one undefined seed is undefined: a mean over other seeds is another quantity.
        self.means: pd.Series = rows.groupby("track")["value"].agg(lambda v: v.mean(skipna=False))
        self.songs = set(self.means.index)
        frames = rows["frames"] if "frames" in rows else pd.Series(0, index=rows.index)
        self.frames: pd.Series = frames.groupby(rows["track"]).mean()
        bad = rows[~np.isfinite(rows["value"])].drop_duplicates("track")
        reasons = bad["status"].where(bad["status"] != "ok", "no finite score")
        self.undefined = {
            song: f"{why} ({self.name})" for song, why in zip(bad["track"], reasons, strict=True)
        }


def _wilcoxon(moved: Array) -> tuple[float, str]:
    """Two-sided p of non-zero differences, and how it was found."""
    if len(moved) <= EXACT_UP_TO and len(np.unique(np.abs(moved))) == len(moved):
        return float(scipy.stats.wilcoxon(moved, zero_method="wilcox", method="exact").pvalue), "exact"
    method: Any = "asymptotic"
    try:
        result = scipy.stats.wilcoxon(moved, zero_method="wilcox", method=method)
    except ValueError:
        method = "approx"  # what older scipy calls it
        result = scipy.stats.wilcoxon(moved, zero_method="wilcox", method=method)
    return float(result.pvalue), "normal approximation"
