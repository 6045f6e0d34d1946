"""Is the difference real? Paired comparison of two runs, or two methods, over the same songs.

Conventions: scores are DataFrames with the columns of scores.csv, one row for each song, source and
metric; differences are run − base, in dB. A song's scores are averaged over seeds (and folds) first.
Silence or any other undefined score (NaN) takes the song out of both sides and is counted. Only equal
metric names, protocols and, for the accompaniment, equal origins are ever compared.

Two questions, two answers. Wilcoxon's signed-rank test over songs, two-sided, zero differences dropped
(`zero_method="wilcox"`; exact up to 50 pairs without ties, else the normal approximation) asks whether
these checkpoints differ; it can't see how another seed would have turned out. `method_interval` asks
whether the methods differ (`sepkit.evaluation.methods`), and needs two seeds a side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sepkit.data.songs import artist_of
from sepkit.evaluation.methods import components
from sepkit.evaluation.metrics import BSS_EVAL_METRICS, LOWER_IS_BETTER
from sepkit.evaluation.paired import (
    artist_bootstrap,
    artist_interval,
    hodges_lehmann,
    rank_biserial,
    wilcoxon,
)
from sepkit.evaluation.sides import COLUMNS, Side, refuse_mixing
from sepkit.evaluation.signals import Array

__all__ = ["COLUMNS", "Comparison", "compare_scores", "holm", "summary"]
# Scores are written with 6 decimals and museval's with 5, so that equal scores may differ by 1e-5.
ZERO_DB = 2e-5
# Test songs whose artists also sing in the training songs.
ARTIST_OVERLAP = ("Hollow Ground - Ill Fate", "Skelpolu - Resurrection", "The Long Wait - Dark Horses")
# Nearly silent vocals: −15 to −24 dB for good systems, which rules any mean.
OUTLIERS = ("PR - Happy Daze", "PR - Oh No")


@dataclass(frozen=True)
class Comparison:
    """A run against a base on one metric of one source.

    `sentence` says in words what the test over songs found, `method_sentence` what can be said of the
    methods.
    """

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
    interval: tuple[float, float]  # 95 %, songs independent; infinite with fewer than 6 pairs
    artists: int
    artist_interval: tuple[float, float]  # 95 %, artists resampled; infinite with fewer than 6
    share_improved: float  # of the n pairs
    rank_biserial: float  # −1 … 1, positive where the run is better
    method: str  # "exact", "normal approximation" or "none"
    zero_method: str
    significant: bool
    better: bool  # significantly better
    enough: bool  # pairs enough for p < alpha to be possible
    sentence: str
    seeds: tuple[int, int]  # of the run and of the base
    method_interval: tuple[float, float] | None  # 95 %, over songs and seeds; None with one seed a side
    method_sentence: str
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

    A side holds one run, or several seeds of one experiment. Differences below 2e-5 dB are rounding and
    count as zero. Every number is explained at `Comparison`, and where it is computed:
    `sepkit.evaluation.paired` and `.methods`.

    Raises:
        SepkitError: a column, the metric or the source is missing; protocols, or origins of the
        accompaniment, differ; the two sides hold different songs, or one song twice.

    >>> run, base = (pd.DataFrame({
    ...     "run": name, "experiment": name, "seed": 0, "fold": None, "track": list("abcdefghij"),
    ...     "source": "vocals", "metric": "sdr_bsseval", "value": np.arange(10.0) * slope,
    ...     "protocol": "2stem", "status": "ok"}) for name, slope in (("C", 1.1), ("Base", 1.0)))
    >>> result = compare_scores(run, base)
    >>> result.n, round(result.median_difference, 2), result.p_value, result.mark
    (10, 0.45, 0.00390625, '✓')
    >>> result.method_interval, result.method_sentence
    (None, 'C against Base: one seed: no claim about the method (seeds: 1 of C, 1 of Base).')
    """
    run, base = Side(scores, metric, source, "run"), Side(base_scores, metric, source, "base")
    refuse_mixing(run, base)
    dropped = {song: why for side in (base, run) for song, why in side.undefined.items()}
    songs = sorted(run.songs - set(dropped))
    raw = run.means[songs].to_numpy() - base.means[songs].to_numpy()
    differences = np.where(np.abs(raw) < ZERO_DB, 0.0, np.round(raw, 9))  # what rounding split is tied
    gains = -differences if metric in LOWER_IS_BETTER else differences
    moved = gains[gains != 0]
    fewest = 2 + math.floor(-math.log2(alpha))  # the least two-sided p is 2 · 2⁻ⁿ
    p_value, how = wilcoxon(moved) if len(moved) else (None, "none")
    effect = rank_biserial(moved)
    significant = len(moved) >= fewest and p_value is not None and p_value < alpha
    middle, interval = hodges_lehmann(differences)
    artists = len({artist_of(song) for song in songs})
    draws = artist_bootstrap(differences, songs) if songs else np.array([math.nan])
    over_artists = artist_interval(draws, artists)
    improved = int((gains > 0).sum())

    counts = f"n = {len(songs)} songs, {len(dropped)} dropped as undefined, {len(songs) - len(moved)} without change"
    uneven = int((run.frames[songs] != base.frames[songs]).sum())
    if uneven:
        counts += f", {uneven} with medians over unlike numbers of windows"
    about = f"{run.name} against {base.name}, {metric} of {source} ({run.protocol}{_origin(run)})"
    numbers = (
        f"{middle:+.2f} dB (95 % interval {_span(interval)}; {_span(over_artists)} with {artists} artists "
        f"resampled), {improved} of {len(songs)} songs better, rank-biserial {effect:+.2f}"
    )
    test = f"Wilcoxon two-sided, {how}, zeros dropped"
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
    if p_value is not None and not _seeds_vary(run, base) and not (run.reference or base.reference):
        sentence = (
            f"{sentence[:-1]}, and with one seed a side this compares two checkpoints, not two methods."
        )
    method_interval, method_sentence = _methods(run, base, songs, draws, artists, metric, len(moved))
    return Comparison(
        run=run.name, base=base.name, metric=metric, source=source, protocol=run.protocol,
        n=len(songs), n_dropped=len(dropped), n_zero=len(songs) - len(moved),
        p_value=p_value, alpha=alpha, median_difference=middle, interval=interval,
        artists=artists, artist_interval=over_artists,
        share_improved=improved / len(songs) if songs else math.nan, rank_biserial=effect,
        method=how, zero_method="wilcox", significant=significant, better=significant and effect > 0,
        enough=len(moved) >= fewest, sentence=sentence, seeds=(run.seeds, base.seeds),
        method_interval=method_interval, method_sentence=method_sentence, dropped=dropped,
    )  # fmt: skip


def _seeds_vary(run: Side, base: Side) -> bool:
    """Whether each side has two seeds, or is a reference, which has none."""
    return all(side.seeds > 1 or side.reference for side in (run, base))


def _methods(
    run: Side, base: Side, songs: list[str], draws: Array, artists: int, metric: str, moved: int
) -> tuple[tuple[float, float] | None, str]:
    """The interval over songs and seeds, and what it says."""
    about = f"{run.name} against {base.name}"
    seeds = "seeds: " + ", ".join(
        f"{'none' if side.reference else side.seeds} of {side.name}" for side in (run, base)
    )
    if not songs or not moved:
        return None, f"{about}: no differences, so there is nothing to claim about the method ({seeds})."
    if not _seeds_vary(run, base):
        return None, f"{about}: one seed: no claim about the method ({seeds})."
    parts = components(run.table[songs].to_numpy(), base.table[songs].to_numpy(), draws, artists)
    if parts is None:
        return None, f"{about}: one artist only: no claim about the method ({seeds})."
    low, high = parts.interval
    sign = -1 if metric in LOWER_IS_BETTER else 1
    verdict = "can't be told apart" if low <= 0 <= high else "better" if sign * low > 0 else "worse"
    return (low, high), (
        f"{about} as methods: {verdict}: {parts.estimate:+.2f} dB, 95 % interval {_span((low, high))} over "
        f"{len(songs)} songs of {artists} artists and over seeds ({seeds}; {parts.degrees:.1f} degrees of freedom)."
    )


def _origin(side: Side) -> str:
    return f", {side.origin}" if side.origin else ""


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.2f} to {interval[1]:+.2f}"


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
    side = Side(scores, metric, source, "run")
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
