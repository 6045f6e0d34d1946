"""Figures of scores: a figure is one function that returns a `Picture`, which shows itself in a notebook; `save` writes it.

Conventions: no pyplot, so no global state; every axis names its unit; colours are Okabe and Ito's, which
colour-blind readers can tell apart. Scores are tables with the columns of scores.csv; rows keep the order in which
they are given, which is the scoreboard's. Blue is significantly better, orange significantly worse.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import LOWER_IS_BETTER
from sepkit.evaluation.paired import unbounded
from sepkit.evaluation.sides import Pair, Side
from sepkit.evaluation.statistics import Comparison, show_p, summary
from sepkit.reporting.canvas import BETTER, COLOURS, DOUBLE, GREY, SMALL, TEXT, WORSE, Picture, reported, save, tag_ends
from sepkit.reporting.curves import MANY, convergence, training_curves
from sepkit.reporting.rows import ordered
from sepkit.reporting.spectra import gradients, song_view
from sepkit.reporting.tables import interval
from sepkit.storage import WEEK_HOURS

__all__ = [
    "BETTER", "MANY", "WORSE", "Picture", "convergence", "gradients", "save", "song_view", "training_curves",
]  # fmt: skip
LINES = {"mixture": ":", "oracle": "--"}  # line styles of the references
ROW = 0.21  # inches


@reported(
    "differences",
    "Hodges–Lehmann estimate of each difference. Thick: 95 % interval over songs, artists resampled; thin: 95 % interval of "
    "the method, over songs and seeds, where both sides have two seeds. p after Holm's correction; ✓ better, ▼ worse.",
)
def forest(tests: Mapping[str, Comparison]) -> Picture:
    """All differences from the base with their 95 % intervals, one row a comparison, with p after Holm and mark."""
    figure, axes = _rows(tests)
    for place, test in enumerate(tests.values()):
        colour, (low, high) = _colour(test), test.interval
        if test.method_interval:
            axes.plot(test.method_interval, [place] * 2, color=colour, lw=0.8, solid_capstyle="butt")
        if np.isfinite(low):
            axes.plot((low, high), [place] * 2, color=colour, lw=2.5, solid_capstyle="butt", alpha=0.6)
        axes.plot(test.median_difference, place, "o", color=colour, ms=4.5)
        columns = f"{test.median_difference:+.2f} {interval(low, high, '+.2f')}", show_p(test.p_final), test.mark
        _beside(axes, place, [words.replace("-", "−") for words in columns])
    _beside(axes, -1, ("difference, dB", "p (Holm)", "Sig."))
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel(_difference(tests))
    return figure


def _difference(tests: Mapping[str, Comparison]) -> str:
    for test in tests.values():
        return f"difference from {test.base} in {test.metric} of {test.source}, dB ({test.protocol})"
    return "no experiment is compared yet"


def _beside(axes: Axes, place: int, columns: Iterable[str]) -> None:
    for x, words in zip((8, 98, 146), columns, strict=True):
        axes.annotate(
            words, (1, place), (x, 0), ("axes fraction", "data"), "offset points", fontsize=SMALL, va="center",
            annotation_clip=False,
        )  # fmt: skip


def _colour(test: Comparison) -> str:
    return {"✓": BETTER, "▼": WORSE}.get(test.mark, GREY)


def _rows(names: Iterable[str]) -> tuple[Picture, Axes]:
    """A figure with one row a name, the first at the top."""
    labels = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    figure = Picture(DOUBLE, 0.75 + ROW * max(3, len(labels)))  # the name of the axis needs three
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure, axes


@reported("songs", "A dot is a song; blue is better. Box: quartiles and median; ◀ ▶ songs beyond the axis.")
def strip(
    sides: Mapping[str, pd.DataFrame], base_scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals"
) -> Picture:
    """Each song's difference from the base, one row an experiment, with the median and the quartiles.

    Songs without a defined score on one side are left out. Raises SepkitError as `compare_scores` does.
    """
    base, gaps = Side(base_scores, metric, source, "base"), dict[str, pd.Series]()
    for name, scores in sides.items():
        pair = Pair(Side(scores, metric, source, "run"), base)
        gaps[name] = pd.Series(unbounded(pair.differences), pair.songs)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    figure, axes = _strips(gaps, lambda values: np.where(sign * values > 0, BETTER, WORSE))
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel(f"difference from {base.name} in {metric} of {source}, dB ({base.protocol})")
    return figure


def _strips(rows: Mapping[str, pd.Series], colours: Callable[[np.ndarray], Any], must: Iterable[float] = ()) -> Any:
    """Figure and axes with a dot a song, quartiles and median; what lies outside the axis is counted at its edge.

    The axis holds every quartile, `must` and 94 % of the dots, so that outliers do not squeeze the rest.
    """
    values = {name: row[np.isfinite(row)].to_numpy() for name, row in rows.items()}
    counts = {len(row) for row in values.values()}
    figure, axes = _rows(f"{name} ({len(row)})" if len(counts) > 1 else name for name, row in values.items())
    what = "experiment; " if len(values) > 2 else ""  # few rows have no room for more
    axes.set_ylabel(f"{what}{counts.pop()} songs" if len(counts) == 1 else "experiment (songs)")
    quartiles = {name: np.quantile(row, [0.25, 0.5, 0.75]) for name, row in values.items() if len(row)}
    dots = np.concatenate([*values.values(), [0.0]])
    inner = [*np.quantile(dots, [0.05, 0.99]), *np.ravel([*quartiles.values()]), *must]
    low, high = (limit if abs(limit - edge) > 3 else outer(limit, edge) for outer, limit, edge in
                 ((min, min(inner), dots.min()), (max, max(inner), dots.max())))  # fmt: skip
    rng = np.random.default_rng(0)
    for place, (name, row) in enumerate(values.items()):
        inside = row[(row >= low) & (row <= high)]
        across = place + rng.uniform(-0.28, 0.28, len(inside))
        axes.scatter(inside, across, s=7, c=colours(inside), alpha=0.6, lw=0)
        if name in quartiles:
            first, middle, third = quartiles[name]
            axes.barh(place, third - first, 0.62, first, fill=False, edgecolor="black", lw=0.8, zorder=3)
            axes.plot([middle] * 2, [place - 0.31, place + 0.31], color="black", lw=2, zorder=3)
        for edge, side, there in ((0, "left", row[row < low]), (1, "right", row[row > high])):
            if len(there):
                named = ", ".join(f"{value:.0f}" for value in np.sort(there)[:3]) + ", …" * (len(there) > 3)
                words = (f"◀ {named}" if side == "left" else f"{named} ▶").replace("-", "−")
                axes.annotate(words, (edge, place), None, ("axes fraction", "data"), fontsize=6, ha=side, va="center")
    room = [((high - low) or 1.0) * (0.17 if cut else 0.03) for cut in (dots.min() < low, dots.max() > high)]
    axes.set_xlim(low - room[0], high + room[1])
    return figure, axes


@reported("scores", "A dot is a song. Box: quartiles and median; ◀ ▶ songs beyond the axis.")
def score_bars(scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals") -> Picture:
    """Scores of each song, one row an experiment, with the median and the quartiles; `mixture` and `oracle` are lines.

    Raises SepkitError for scores of several protocols.
    """
    rows = scores[(scores["metric"] == metric) & (scores["source"] == source)]
    protocols = ", ".join(sorted(map(str, rows["protocol"].unique()))) or "none at all"
    if rows["protocol"].nunique() != 1:
        raise SepkitError(f"expected scores of {metric} of {source} with one protocol in one figure, got {protocols}.")
    parts = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    levels = {name: summary(part, metric, source)["median"] for name, part in parts.items() if name in LINES}
    songs = {name: Side(part, metric, source, "run").means for name, part in parts.items() if name not in LINES}
    figure, axes = _strips(songs, lambda values: [BETTER] * len(values), levels.values())
    for name, level in levels.items():
        axes.axvline(level, color="black", ls=LINES[name], lw=1)
        axes.annotate(
            f"{name} {level:.1f}".replace("-", "−"), (level, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=SMALL,
        )  # fmt: skip
    axes.set_xlabel(f"{metric} of {source} in dB ({protocols})")
    return figure


@reported("minutes", "The difference that a training's minutes bought; bars: 95 % intervals over songs.")
def gain_against_minutes(
    tests: Mapping[str, Comparison], minutes: Mapping[str, float], unit: str = "minutes"
) -> Picture:
    """Difference from the base over the minutes of one training, with its 95 % interval.

    minutes: by name in `tests`, and of the base, which stands at 0 dB; tests without minutes are left out.
    """
    figure = Picture(DOUBLE, max(3.6, 0.8 + 0.13 * len(tests)))  # names of one point stand in a column
    axes, ends = figure.subplots(), dict[str, tuple[float, float, str]]()
    for name, test in tests.items():
        if np.isfinite(minutes.get(name, np.nan)) and test.n:
            ends[name] = (minutes[name], test.median_difference, _colour(test))
            if np.isfinite(test.interval[0]):
                axes.plot([minutes[name]] * 2, test.interval, color=_colour(test), lw=1, alpha=0.6)
    ends |= {name: (x, 0.0, "black") for name, x in minutes.items() if name not in tests}
    for x, y, colour in ends.values():
        axes.plot(x, y, "o", color=colour, ms=4.5)
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel=f"training in {unit}", ylabel=_difference(tests).replace(" in ", "\nin "))
    axes.set_xlim(0, 1.04 * max([end[0] for end in ends.values()], default=1.0))
    tag_ends(axes, ends)
    return figure


@reported("budget", "All minutes in budget.csv, those of runs that died included.")
def budget_bars(budget: pd.DataFrame, limit_min: float = 60 * WEEK_HOURS) -> Picture:
    """Minutes by run and stage, and the GPU total against the limit; CPU minutes where no GPU was used.

    Of more than `MANY` runs, those of an experiment are one bar.
    """
    gpu = float(budget["gpu_min"].sum())
    column, unit = ("gpu_min", "GPU minutes") if gpu else ("minutes", "CPU minutes (no GPU was used)")
    table = budget.pivot_table(index="run", columns="stage", values=column, aggfunc="sum", fill_value=0)
    if many := len(table) > MANY:
        names = table.index.str.replace(r"-s\d+(-f\d+)?$", "", regex=True)
        table = table.groupby(names).sum().rename(lambda name: f"{name} ({sum(names == name)})")
    table = table.loc[table.sum(axis=1).sort_values().index, table.sum().sort_values(ascending=False).index]
    rows = max(len(table), 4)  # of bars, or of the names of stages beside few
    figure = Picture(DOUBLE, 0.85 + ROW * rows + 0.75 * bool(gpu))
    heights = ([1.0] if gpu else []) + [0.8 * rows]
    *top, each = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for total in top:
        total.barh(0, gpu, color=GREY, height=0.5)
        total.axvline(limit_min, color="black", ls="--", lw=1.5)
        total.set_yticks([0], ["all runs"])
        total.set(xlim=(0, 1.05 * max(gpu, limit_min)), xlabel="GPU minutes (dashed: the limit)")
    (top or [each])[0].set_title(f"{gpu:.1f} of {limit_min:g} GPU minutes spent", fontsize=TEXT, loc="left")
    left = np.zeros(len(table))
    kinds = [*COLOURS, *(str(level) for level in np.linspace(0.5, 0.9, max(len(table.columns) - len(COLOURS), 0)))]
    for colour, stage in zip(kinds, table.columns, strict=False):
        each.barh(range(len(table)), table[stage], left=left, color=colour, height=0.7, label=stage)
        left += table[stage].to_numpy()
    each.set_yticks(range(len(table)), table.index)
    each.set(xlabel=unit, ylabel="experiment (runs)" if many else "run")
    if len(table):
        beside: Any = "outside right upper"  # never over a bar
        columns = 1 + len(table.columns) // (2 * rows + 2)
        figure.legend(loc=beside, ncols=columns, title="stage", fontsize=SMALL, title_fontsize=SMALL, edgecolor="white")
    return figure
