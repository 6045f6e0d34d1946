"""Figures: a figure is one function that returns a `Picture`, which shows itself in a notebook; `save` writes it.

Conventions: no pyplot, so no global state; every axis names its unit; colours are Okabe and Ito's, which
colour-blind readers can tell apart, and line styles repeat what colours say. Scores are tables with the
columns of scores.csv; runs are `sepkit.storage.Run`s.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import LOWER_IS_BETTER
from sepkit.evaluation.sides import Side
from sepkit.evaluation.statistics import compare_scores, summary
from sepkit.reporting.canvas import BETTER, COLOURS, GREY, WORSE, Picture, panels, plain, reported, save
from sepkit.reporting.rows import ordered
from sepkit.reporting.spectra import gradients, spectrograms
from sepkit.storage import WEEK_HOURS, Run

__all__ = ["BETTER", "WORSE", "Picture", "gradients", "save", "spectrograms"]  # with the figures below
LINES = {"mixture": ":", "oracle": "--"}  # line styles of the references


def best_epoch(history: pd.DataFrame) -> int:
    """Place in `history` of the epoch that is kept: the highest `valid_sdr`; without that column the least loss."""
    return int(history["valid_sdr"].argmax() if "valid_sdr" in history else history["valid_loss"].argmin())


@reported("runs", "Runs with another loss have a panel of their own, since their losses do not compare.")
def training_curves(runs: Iterable[Run] | Run) -> Picture:
    """Losses and learning rate over epochs."""
    groups, histories, colours = _by_loss(runs)
    figure, columns = panels(len(groups), (3, 1), 5.6)
    for (losses, rates), (loss, names) in zip(columns, groups.items(), strict=True):
        for name in names:
            table, colour = histories[name], colours[name]
            best = table.iloc[best_epoch(table)]
            losses.plot(table["epoch"], table["valid_loss"], color=colour, label=f"{name}, validation")
            losses.plot(table["epoch"], table["train_loss"], color=colour, ls="--", lw=1, label=f"{name}, training")
            losses.plot(best["epoch"], best["valid_loss"], "o", color=colour, ms=6)
            rates.plot(table["epoch"], table["learning_rate"], color=colour, marker=".", ms=4)
        losses.set_title(f"loss: {loss}", fontsize=10)
        losses.set(ylabel="loss (no unit); ● best epoch")
        rates.set(ylabel="learning rate", xlabel="epoch", ylim=(0, None))
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        losses.tick_params(labelbottom=False)
        losses.sharex(rates)
        losses.legend(fontsize=8, frameon=False)
        plain(losses, rates)
    return figure


@reported(
    "runs",
    "How far each run gets in how many minutes. The epoch is kept whose vocals have the highest SDR on the validation "
    "clips; runs without that column keep the least validation loss.",
)
def convergence(runs: Iterable[Run] | Run) -> Picture:
    """SDR of vocals on the validation clips over minutes; where a history lacks it, losses, a panel for each."""
    groups, histories, colours = _by_loss(runs)
    column, unit = "valid_loss", "validation loss (no unit); ● best epoch"
    if all("valid_sdr" in table for table in histories.values()):
        column, unit = "valid_sdr", "SDR of vocals on validation\nclips, dB; ● best epoch"
        groups = {"": list(histories)}  # dB compare, whatever the loss
    figure, columns = panels(len(groups), (1,), 3.8)
    for (axes,), (loss, names) in zip(columns, groups.items(), strict=True):
        for name in names:
            table, best = histories[name], best_epoch(histories[name])
            minutes = table["seconds"].cumsum() / 60
            axes.plot(minutes, table[column], ".-", color=colours[name], label=name)
            axes.plot(minutes.iloc[best], table[column].iloc[best], "o", color=colours[name], ms=6)
        axes.set_title(loss and f"loss: {loss}", fontsize=10)
        axes.set(xlabel="training time in minutes", ylabel=unit, xlim=(0, None))
        axes.legend(fontsize=8, frameon=False)
        plain(axes)
    return figure


def _by_loss(runs: Iterable[Run] | Run) -> tuple[dict[str, list[str]], dict[str, pd.DataFrame], dict[str, str]]:
    """Names of the runs by their loss, their histories, and a colour each."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    histories = {run.name: run.history() for run in runs}
    if not histories:
        raise SepkitError("expected at least one trained run to draw, got none.")
    groups: dict[str, list[str]] = {}
    for run in runs:
        loss = dict(run.config.get("loss") or {})
        name = str(loss.pop("name", "unknown"))
        settings = ", ".join(f"{key} {value}" for key, value in loss.items())
        groups.setdefault(f"{name}\n{settings}".strip(), []).append(run.name)
    return groups, histories, dict(zip(histories, cycle(COLOURS), strict=False))


@reported("scores", "Medians over songs with quartiles; a dot is a song; the lines are mixture and ideal ratio mask.")
def score_bars(scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals") -> Picture:
    """A bar an experiment: median over songs, whiskers to the quartiles, a dot a song (averaged over seeds).

    `mixture` and `oracle` are lines. Raises SepkitError for scores of several protocols.
    """
    rows = scores[(scores["metric"] == metric) & (scores["source"] == source)]
    protocols = ", ".join(sorted(map(str, rows["protocol"].unique()))) or "none at all"
    if rows["protocol"].nunique() != 1:
        raise SepkitError(f"expected scores of {metric} of {source} with one protocol in one figure, got {protocols}.")
    parts = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    facts = {name: summary(part, metric, source) for name, part in parts.items()}
    levels = {name: fact["median"] for name, fact in facts.items()}
    songs = {name: part.groupby("track")["value"].mean() for name, part in parts.items() if name not in LINES}
    dots = {name: values[np.isfinite(values)].to_numpy() for name, values in songs.items()}
    figure = Picture(max(7.0, 1.15 * len(dots) + 2.2), 4.6)
    axes, rng = figure.subplots(), np.random.default_rng(0)
    bottom, top = _limits([*dots.values()], [level for level in levels.values() if np.isfinite(level)])
    for place, (name, values) in enumerate(dots.items()):
        middle, low, high = (facts[name][key] for key in ("median", "q25", "q75"))
        if facts[name]["n"]:
            axes.bar(place, middle, width=0.7, color=COLOURS[5], edgecolor=COLOURS[0], zorder=1)
            whiskers: Any = [[middle - low], [high - middle]]
            axes.errorbar(place, middle, whiskers, color="black", capsize=5, zorder=3)
        shown, below = values[values >= bottom], np.sort(values[values < bottom])
        across = place + rng.uniform(-0.22, 0.22, len(shown))
        axes.scatter(across, shown, s=12, color=COLOURS[1], alpha=0.65, lw=0, zorder=2)
        if len(below):
            named = ", ".join(f"{value:.0f}" for value in below[:3]) + (", …" if len(below) > 3 else "")
            axes.annotate(
                f"▼ {named}".replace("-", "−"), (place, bottom), color=COLOURS[1], fontsize=8, ha="center", va="bottom",
            )  # fmt: skip
    for name in filter(LINES.__contains__, parts):
        axes.axhline(levels[name], color="black", ls=LINES[name], lw=1.2, zorder=0)
        axes.annotate(
            f"{name} {levels[name]:.1f}".replace("-", "−"), (1, levels[name]), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    counts = [f"{name}\n{facts[name]['n']} songs\n{facts[name]['n_undefined']} undefined" for name in dots]
    axes.set_xticks(range(len(dots)), [label.removesuffix("\n0 undefined") for label in counts])
    limits = {"xlim": (-0.6, max(len(dots), 1) - 0.4), "ylim": (bottom, top)}
    axes.set(**limits, ylabel=f"{metric} of {source} in dB ({protocols})")
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set_title("bar: median over songs; whiskers: quartiles; dot: a song; ▼ below the axis", fontsize=9, loc="left")
    plain(axes)
    return figure


def _limits(dots: list[np.ndarray], medians: list[float]) -> tuple[float, float]:
    """The axis holds every median and 95 % of the songs, so that one outlier does not squeeze the rest."""
    every = np.concatenate([*dots, np.zeros(1)])
    lowest = min([float(np.quantile(every, 0.05)), *medians])
    bottom = lowest if every.min() < lowest - 3 else min(lowest, float(every.min()))
    return bottom - 1, max([float(every.max()), *medians]) + 0.5


@reported("pair")  # the caption is the comparison's sentence
def paired_differences(
    run_scores: pd.DataFrame, base_scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals"
) -> Picture:
    """Difference of each song, sorted, with the Hodges–Lehmann estimate and its 95 % interval."""
    result = compare_scores(run_scores, base_scores, metric=metric, source=source)
    (low, high), middle = result.interval, result.median_difference
    run, base = (Side(scores, metric, source, "figure").means for scores in (run_scores, base_scores))
    gaps = (run - base).drop(index=list(result.dropped)).sort_values()
    gains = -gaps if metric in LOWER_IS_BETTER else gaps
    figure = Picture(8, 1.5 + 0.2 * max(len(gaps), 5))
    axes = figure.subplots()
    axes.barh(range(len(gaps)), gaps, color=[BETTER if gain > 0 else WORSE for gain in gains], height=0.7)
    axes.set_yticks(range(len(gaps)), [song if len(song) <= 40 else f"{song[:39]}…" for song in gaps.index], fontsize=8)
    axes.axvline(0, color="black", lw=0.8)
    if len(gaps):
        if np.isfinite(low):
            words = f"95 % interval {low:+.2f} to {high:+.2f} dB, artists resampled"
            axes.axvspan(low, high, color=COLOURS[4], alpha=0.35, lw=0, zorder=0, label=words)
        axes.axvline(middle, color=COLOURS[4], lw=2, label=f"Hodges–Lehmann {middle:+.2f} dB")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    dropped = f", {len(result.dropped)} undefined" if result.dropped else ""
    figure.suptitle(f"{result.run} − {result.base}: {result.n} songs{dropped}", x=0.01, ha="left", fontsize=10)
    axes.set(xlabel=f"difference in {metric} of {source}, dB ({result.protocol})", ylabel="test song")
    axes.margins(y=0.01)
    plain(axes)
    return figure


@reported("budget", "All minutes in budget.csv, those of runs that died included.")
def budget_bars(budget: pd.DataFrame, limit_min: float = 60 * WEEK_HOURS) -> Picture:
    """Minutes by run and stage, and the GPU total against the limit; CPU minutes where no GPU was used."""
    gpu = float(budget["gpu_min"].sum())
    column, unit = ("gpu_min", "GPU minutes") if gpu else ("minutes", "CPU minutes (no GPU was used)")
    table = budget.pivot_table(index="run", columns="stage", values=column, aggfunc="sum", fill_value=0)
    table = table.loc[table.sum(axis=1).sort_values().index]
    figure = Picture(8, 2.2 + 0.32 * max(len(table), 1))
    total, each = figure.subplots(2, 1, height_ratios=(1, max(len(table), 1) * 0.55 + 0.4))
    total.barh(0, gpu, color=WORSE if gpu > limit_min else GREY, height=0.5)
    total.axvline(limit_min, color="black", ls="--", lw=1.5)
    total.set_yticks([0], ["all runs"])
    total.set(xlim=(0, 1.05 * max(gpu, limit_min)), xlabel="GPU minutes")
    total.set_title(f"{gpu:.1f} of {limit_min:g} GPU minutes spent (dashed: the limit)", fontsize=10, loc="left")
    left = np.zeros(len(table))
    for colour, stage in zip(cycle(COLOURS), table.columns, strict=False):
        each.barh(range(len(table)), table[stage], left=left, color=colour, height=0.7, label=stage)
        left += table[stage].to_numpy()
    each.set_yticks(range(len(table)), table.index)
    each.set(xlabel=unit, ylabel="run")
    if len(table):
        each.legend(title="stage", fontsize=8, title_fontsize=8, loc="lower right")
    plain(total, each)
    return figure
