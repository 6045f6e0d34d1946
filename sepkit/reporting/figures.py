"""Figures, each returned and never shown: `Picture` displays itself in a notebook, `save` writes it.

Conventions: no pyplot, so no global state and nothing to close; every axis names its unit; colours are
Okabe and Ito's, which colour-blind readers can tell apart, and line styles repeat what colours say.
Scores are tables with the columns of scores.csv; runs are
`sepkit.storage.Run`s.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import LOWER_IS_BETTER
from sepkit.evaluation.statistics import compare_scores, summary
from sepkit.reporting.canvas import BETTER, COLOURS, GREY, WORSE, Picture, cycle, plain, save
from sepkit.reporting.rows import ordered
from sepkit.reporting.spectra import gradients, spectrograms
from sepkit.storage import WEEK_HOURS, Run

__all__ = [
    "Picture", "best_epoch", "budget_bars", "convergence", "gradients", "paired_differences", "save", "score_bars",
    "spectrograms", "training_curves",
]  # fmt: skip
REFERENCES = {"mixture": ":", "oracle": "--"}  # line styles


def best_epoch(history: pd.DataFrame) -> int:
    """Place in `history` of the epoch that is kept: the highest `valid_sdr`; without that column the least loss."""
    return int(history["valid_sdr"].argmax() if "valid_sdr" in history else history["valid_loss"].argmin())


def training_curves(runs: Iterable[Run] | Run) -> Picture:
    """Losses and learning rate over epochs; runs with another loss get a panel of their own."""
    groups, histories, colours = _by_loss(runs)
    figure, panels = _panels(len(groups), (3, 1), 5.6)
    for (losses, rates), (loss, names) in zip(panels, groups.items(), strict=True):
        for name in names:
            table, colour = histories[name], colours[name]
            best = best_epoch(table)
            losses.plot(table["epoch"], table["valid_loss"], color=colour, label=f"{name}, validation")
            losses.plot(
                table["epoch"], table["train_loss"], color=colour, ls="--", lw=1, label=f"{name}, training"
            )
            losses.plot(table["epoch"].iloc[best], table["valid_loss"].iloc[best], "o", color=colour, ms=6)
            rates.plot(table["epoch"], table["learning_rate"], color=colour, marker=".", ms=4)
        losses.set_title(f"loss: {loss}", fontsize=10)
        losses.set_ylabel("loss (no unit); ● best epoch")
        rates.set_ylabel("learning rate")
        rates.set_ylim(bottom=0)
        rates.set_xlabel("epoch")
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        losses.tick_params(labelbottom=False)
        losses.sharex(rates)
        losses.legend(fontsize=8, frameon=False)
        plain(losses, rates)
    return figure


def convergence(runs: Iterable[Run] | Run) -> Picture:
    """SDR of the vocals on the validation clips over minutes of training, all runs in one panel.

    Where a history lacks `valid_sdr`, validation losses, with a panel for each loss.
    """
    groups, histories, colours = _by_loss(runs)
    column, unit = "valid_sdr", "SDR of vocals on validation\nclips, dB; ● best epoch"
    if all(column in table for table in histories.values()):
        groups = {"": list(histories)}  # dB compare, whatever the loss
    else:
        column, unit = "valid_loss", "validation loss (no unit); ● best epoch"
    figure, panels = _panels(len(groups), (1,), 3.8)
    for (axes,), (loss, names) in zip(panels, groups.items(), strict=True):
        for name in names:
            table, best = histories[name], best_epoch(histories[name])
            minutes = table["seconds"].cumsum() / 60
            axes.plot(minutes, table[column], ".-", color=colours[name], label=name)
            axes.plot(minutes.iloc[best], table[column].iloc[best], "o", color=colours[name], ms=6)
        axes.set_title(loss and f"loss: {loss}", fontsize=10)
        axes.set_xlabel("training time in minutes")
        axes.set_ylabel(unit)
        axes.set_xlim(left=0)
        axes.legend(fontsize=8, frameon=False)
        plain(axes)
    return figure


def score_bars(scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals") -> Picture:
    """A bar a row: median over songs, whiskers to the quartiles, a dot a song (averaged over seeds).

    `mixture` and `oracle` are lines.  Raises SepkitError where rows were scored with unlike protocols.
    """
    rows = scores[(scores["metric"] == metric) & (scores["source"] == source)]
    protocols = sorted(map(str, rows["protocol"].unique()))
    if len(protocols) != 1:
        raise SepkitError(
            f"expected scores of {metric} of {source} with one protocol in one figure, got "
            f"{', '.join(protocols) or 'none at all'}."
        )
    names = ordered(rows["experiment"].unique())
    facts = {name: summary(rows[rows["experiment"] == name], metric, source) for name in names}
    bars = [name for name in names if name not in REFERENCES]
    figure = Picture(max(7.0, 1.15 * len(bars) + 2.2), 4.6)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    songs = {name: rows[rows["experiment"] == name].groupby("track")["value"].mean() for name in bars}
    dots = {name: values[np.isfinite(values)].to_numpy() for name, values in songs.items()}
    bottom = _bottom([*dots.values()], [float(facts[name]["median"]) for name in names])
    for place, name in enumerate(bars):
        fact, values = facts[name], dots[name]
        middle, low, high = (float(fact[key]) for key in ("median", "q25", "q75"))
        if fact["n"]:
            axes.bar(place, middle, width=0.7, color=COLOURS[5], edgecolor=COLOURS[0], zorder=1)
            axes.errorbar(
                place, middle, [[middle - low], [high - middle]], color="black", capsize=5, zorder=3
            )
        shown = values[values >= bottom]
        across = place + rng.uniform(-0.22, 0.22, len(shown))
        axes.scatter(across, shown, s=12, color=COLOURS[1], alpha=0.65, lw=0, zorder=2)
        below = np.sort(values[values < bottom])
        if len(below):
            told = ", ".join(f"{value:.0f}" for value in below[:3]) + (", …" if len(below) > 3 else "")
            axes.text(
                place,
                bottom,
                f"▼ {told}".replace("-", "−"),
                color=COLOURS[1],
                fontsize=8,
                ha="center",
                va="bottom",
            )
    if np.isfinite(bottom):
        levels = [float(facts[name]["median"]) for name in names]
        tops = np.concatenate([*dots.values(), levels])
        axes.set_ylim(bottom, float(tops[np.isfinite(tops)].max()) + 0.5)
    for name in filter(REFERENCES.__contains__, names):
        level = float(facts[name]["median"])
        axes.axhline(level, color="black", ls=REFERENCES[name], lw=1.2, zorder=0)
        axes.annotate(
            f"{name} {level:.1f}".replace("-", "−"), (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    axes.set_xticks(range(len(bars)), [_tick(name, facts[name]) for name in bars])
    axes.set_xlim(-0.6, max(len(bars), 1) - 0.4)
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set_ylabel(f"{metric} of {source} in dB ({protocols[0]})")
    axes.set_title(
        "bar: median over songs; whiskers: quartiles; dot: a song; ▼ songs below the axis",
        fontsize=9,
        loc="left",
    )
    plain(axes)
    return figure


def paired_differences(
    run_scores: pd.DataFrame, base_scores: pd.DataFrame, metric: str = "sdr_bsseval", source: str = "vocals"
) -> Picture:
    """Difference of each song, sorted, with the Hodges–Lehmann estimate and its 95 % interval."""
    result = compare_scores(run_scores, base_scores, metric=metric, source=source)
    means = [
        table[(table["metric"] == metric) & (table["source"] == source)].groupby("track")["value"].mean()
        for table in (run_scores, base_scores)
    ]
    gaps = (means[0] - means[1]).drop(index=list(result.dropped)).sort_values()
    gains = -gaps if metric in LOWER_IS_BETTER else gaps
    figure = Picture(8, 1.5 + 0.2 * max(len(gaps), 5))
    axes = figure.subplots()
    axes.barh(range(len(gaps)), gaps, color=[BETTER if gain > 0 else WORSE for gain in gains], height=0.7)
    axes.set_yticks(range(len(gaps)), [_short(song) for song in gaps.index], fontsize=8)
    axes.axvline(0, color="black", lw=0.8)
    if len(gaps):
        low, high = result.interval
        if np.isfinite([low, high]).all():
            axes.axvspan(
                low,
                high,
                color=COLOURS[4],
                alpha=0.35,
                lw=0,
                zorder=0,
                label=f"95 % interval {low:+.2f} to {high:+.2f} dB, artists resampled",
            )
        axes.axvline(
            result.median_difference,
            color=COLOURS[4],
            lw=2,
            label=f"Hodges–Lehmann {result.median_difference:+.2f} dB",
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    dropped = f", {result.n_dropped} undefined" if result.n_dropped else ""
    title = f"{result.run} − {result.base}: {result.n} songs{dropped}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes.set_xlabel(f"difference in {metric} of {source}, dB ({result.protocol})")
    axes.set_ylabel("test song")
    axes.margins(y=0.01)
    plain(axes)
    return figure


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
    total.set_xlim(0, 1.05 * max(gpu, limit_min))
    total.set_yticks([0], ["all runs"])
    total.set_xlabel("GPU minutes")
    total.set_title(
        f"{gpu:.1f} of {limit_min:g} GPU minutes spent (dashed: the limit)", fontsize=10, loc="left"
    )
    left = np.zeros(len(table))
    for colour, stage in zip(cycle(table.shape[1]), table.columns, strict=True):
        each.barh(range(len(table)), table[stage], left=left, color=colour, height=0.7, label=stage)
        left += table[stage].to_numpy()
    each.set_yticks(range(len(table)), table.index)
    each.set_xlabel(unit)
    each.set_ylabel("run")
    if len(table):
        each.legend(title="stage", fontsize=8, title_fontsize=8, loc="lower right")
    plain(total, each)
    return figure


def _bottom(dots: list[np.ndarray], medians: list[float]) -> float:
    """Where the axis ends: under every median and 95 % of the songs, so that one outlier squeezes nothing."""
    every = np.concatenate([*dots, np.zeros(1)])
    lowest = min([float(np.quantile(every, 0.05)), *(median for median in medians if np.isfinite(median))])
    return lowest - 1 if every.min() < lowest - 3 else min(lowest, float(every.min())) - 1


def _by_loss(
    runs: Iterable[Run] | Run,
) -> tuple[dict[str, list[str]], dict[str, pd.DataFrame], dict[str, str]]:
    """Run names by the loss that they were trained with, their histories, and a colour each."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    histories = {run.name: run.history() for run in runs}
    if not histories:
        raise SepkitError("expected at least one trained run to draw, got none.")
    groups: dict[str, list[str]] = {}
    for run in runs:
        loss = dict(run.config.get("loss") or {})
        settings = ", ".join(f"{key} {value}" for key, value in loss.items() if key != "name")
        name = str(loss.get("name", "unknown"))
        groups.setdefault(f"{name}\n{settings}" if settings else name, []).append(run.name)
    return groups, histories, dict(zip(histories, cycle(len(histories)), strict=True))


def _panels(count: int, heights: tuple[int, ...], height: float) -> tuple[Picture, list[list[Axes]]]:
    """`count` columns of panels, at most three side by side."""
    wide, high = min(count, 3), -(-count // 3)
    figure = Picture(4.4 * wide + 0.6, height * high)
    grid = figure.add_gridspec(high * len(heights), wide, height_ratios=heights * high)
    panels = []
    for i in range(count):
        top = i // 3 * len(heights)
        panels.append([figure.add_subplot(grid[top + row, i % 3]) for row in range(len(heights))])
    return figure, panels


def _short(song: str, most: int = 40) -> str:
    return song if len(song) <= most else song[: most - 1] + "…"


def _tick(name: str, fact: Mapping[str, Any]) -> str:
    undefined = f"\n{fact['n_undefined']} undefined" if fact["n_undefined"] else ""
    return f"{name}\n{fact['n']} songs{undefined}"
