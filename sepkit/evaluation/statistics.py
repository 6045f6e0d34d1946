"""Is the difference real? Paired comparison of two runs, or two methods, over the same songs.

Conventions: scores are DataFrames with the columns of scores.csv, one row for each song, source and metric;
differences are run − base, in dB. `sides` pairs the songs, over the windows that both sides have.

Two questions. Wilcoxon's signed-rank test over songs asks whether these checkpoints differ, seeds fixed.
`method_interval` asks whether the methods differ, and needs two seeds a side. `paired` has the formulas of both.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sepkit.data.tracks import artist_of
from sepkit.errors import SepkitError
from sepkit.evaluation import paired
from sepkit.evaluation.comparison import Comparison, show_p
from sepkit.evaluation.metrics import BSS_EVAL_METRICS, LOWER_IS_BETTER
from sepkit.evaluation.sides import Pair, Side

__all__ = ["ALPHA", "Comparison", "compare_all", "compare_scores", "corrected", "holm", "show_p", "summary"]
ALPHA = 0.01  # the level of every test here, after Holm's correction where there are several
# Test songs whose artists also sing in the training songs.
ARTIST_OVERLAP = ("Hollow Ground - Ill Fate", "Skelpolu - Resurrection", "The Long Wait - Dark Horses")
# Nearly silent vocals: −15 to −24 dB for good systems, which rules any mean.
OUTLIERS = ("PR - Happy Daze", "PR - Oh No")


def compare_scores(
    scores: pd.DataFrame, base_scores: pd.DataFrame, *, metric: str = "sdr_bsseval", source: str = "vocals"
) -> Comparison:
    """Paired comparison over songs, run − base; a side holds one run, or several seeds of one experiment.

    BSS Eval's scores are compared over the windows that are valid in both, where the tables have `windows` (as those of
    `Run.scores`). Differences below 2e-5 dB are rounding and count as zero; a perfect estimate beats every finite one.

    Raises:
        SepkitError: see `Side` and `Pair`.

    >>> run, base = (pd.DataFrame({
    ...     "run": name, "experiment": name, "seed": 0, "fold": None, "track": list("abcdefghij"),
    ...     "source": "vocals", "metric": "sdr_bsseval", "value": np.arange(10.0) * slope,
    ...     "protocol": "2stem", "status": "ok"}) for name, slope in (("C", 1.1), ("Base", 1.0)))
    >>> result = compare_scores(run, base)
    >>> result.n, result.p_value, result.mark, result.method_interval
    (10, 0.00390625, '✓', None)
    >>> result.sentence
    'C is 0.45 dB better than Base in sdr_bsseval of vocals (95 % interval +0.25 to +0.65 dB, p = 0.0039).'
    """
    run, base = Side(scores, metric, source, "run"), Side(base_scores, metric, source, "base")
    pair = Pair(run, base)
    songs, differences = pair.songs, pair.differences
    gains = -differences if metric in LOWER_IS_BETTER else differences
    moved = gains[gains != 0]
    p_value, method = paired.wilcoxon(moved) if len(moved) else (None, "none")
    artists = len({artist_of(song) for song in songs})
    draws = paired.artist_bootstrap(differences, songs) if songs else np.array([math.nan])
    parts = None
    if len(moved) and run.seeds != 1 and base.seeds != 1:
        parts = paired.components(pair.run[songs].to_numpy(), pair.base[songs].to_numpy(), draws, artists)
    return Comparison(
        run=run.name, base=base.name, metric=metric, source=source, protocol=run.protocol, origin=run.origin,
        n=len(songs), n_zero=len(songs) - len(moved), n_uneven=pair.n_uneven, n_better=int((gains > 0).sum()),
        p_value=p_value, method=method, alpha=ALPHA, rank_biserial=paired.rank_biserial(moved), artists=artists,
        median_difference=float(paired.unbounded(paired.pseudo_median(differences))),
        interval=paired.artist_interval(draws, artists), seeds=(run.seeds, base.seeds), components=parts,
        dropped=pair.dropped, silent=pair.silent, whole_track=_whole_track(run, base) if any(pair.silent) else math.nan,
    )  # fmt: skip


def _whole_track(run: Side, base: Side) -> float:
    """The pseudo-median of the differences in sdr_global, which no silence leaves out; NaN where it is not scored."""
    try:
        sides = [Side(side.scores, "sdr_global", run.source, of) for side, of in ((run, "run"), (base, "base"))]
        return paired.pseudo_median(Pair(*sides).differences)
    except SepkitError:  # museval's files have BSS Eval's scores alone
        return math.nan


def compare_all(
    sides: Mapping[str, pd.DataFrame], base_scores: pd.DataFrame, *, metric: str = "sdr_bsseval", source: str = "vocals"
) -> tuple[dict[str, Comparison], dict[str, str]]:
    """Every side against `base_scores`, p corrected by Holm; and {side: reason} where there is no test."""
    found, refused = dict[str, Comparison](), dict[str, str]()
    for name, scores in sides.items():
        try:
            found[name] = compare_scores(scores, base_scores, metric=metric, source=source)
        except SepkitError as error:
            refused[name] = str(error)
    return corrected(found), refused


def corrected(tests: Mapping[Any, Comparison]) -> dict[Any, Comparison]:
    """The same tests with `p_holm`, Holm's correction over all of them; a single test needs none."""
    if len(tests) < 2:
        return dict(tests)
    p_values = holm({key: test.p_value for key, test in tests.items()})
    return {key: replace(test, p_holm=p_values[key]) for key, test in tests.items()}


def holm(p_values: Mapping[Any, float | None]) -> dict[Any, float | None]:
    """Holm's correction; a test that did not apply stays None and isn't counted.

    >>> holm({"C": 0.01, "D": 0.04, "E": None})
    {'C': 0.02, 'D': 0.04, 'E': None}
    """
    from statsmodels.stats.multitest import multipletests  # 0.2 s to import

    found = {name: p for name, p in p_values.items() if p is not None}
    corrected = multipletests(list(found.values()), method="holm")[1] if found else []
    return {**p_values, **dict(zip(found, map(float, corrected), strict=True))}


def summary(scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals") -> dict[str, Any]:
    """One run, or the seeds of one experiment, in numbers over songs, in dB.

    Returns q25, q75, and n, mean and median over the n defined songs, again `_without_outliers` and `_without_overlap`
    (of artists with training), n_undefined, the windows that counted and were dropped (where the columns are there),
    metric, source, protocol, and the two aggregation steps in words.
    """
    side = Side(scores, metric, source, "run")
    values = side.means.drop(index=list(side.undefined)).clip(-paired.PERFECT_DB, paired.PERFECT_DB)
    over = "median over 1 s windows (BSS Eval v4)" if metric in BSS_EVAL_METRICS else "whole track"
    facts: dict[str, Any] = {
        "metric": metric, "source": source, "protocol": side.protocol, "aggregation": f"{over}, then over songs",
        "n_undefined": len(side.undefined), **{f"q{q}": values.quantile(q / 100) for q in (25, 75)},
    }  # fmt: skip
    for which, left_out in (("", ()), ("_without_outliers", OUTLIERS), ("_without_overlap", ARTIST_OVERLAP)):
        kept = values[~values.index.isin(left_out)]
        facts |= {f"n{which}": len(kept), f"mean{which}": kept.mean(), f"median{which}": kept.median()}
    facts = {name: float(paired.unbounded(of)) if isinstance(of, float) else of for name, of in facts.items()}
    return facts | {name: int(side.rows[name].sum()) for name in ("frames", "frames_dropped") if name in side.rows}
