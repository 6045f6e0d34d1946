"""Figures of training: what each run reached after how many minutes, and its losses epoch by epoch."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sepkit.errors import SepkitError
from sepkit.reporting.canvas import BETTER, COLOURS, DOUBLE, GREY, SMALL, TEXT, WORSE, Picture, reported, tag_ends
from sepkit.storage import Run

PANELS = 4  # side by side
MANY = 28  # runs, whose panels fill a page; of more, those of an experiment are drawn together
Groups = dict[str, list[tuple[Run, pd.DataFrame]]]


def _histories(runs: Iterable[Run] | Run) -> Groups:
    """Runs and their histories by name, of more than `MANY` by experiment."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs:
        raise SepkitError("expected at least one trained run to draw, got none.")
    found: Groups = {}
    for run in runs:
        name = run.name if len(runs) <= MANY else str(run.config.get("experiment", run.name))
        found.setdefault(name, []).append((run, run.history()))
    return found


def _first_and_best(groups: Groups, count: int) -> list[str]:
    """The first and those with the highest SDR, the mean over their runs, best first."""
    top = {name: np.mean([history["valid_sdr"].max() for _, history in group]) for name, group in groups.items()}
    first, *others = groups
    return [first, *sorted(others, key=lambda name: -top[name])[: count - 1]]


@reported(
    "runs", "How far each training gets in how many minutes; ● the epoch that is kept, which has the highest SDR."
)
def convergence(runs: Iterable[Run] | Run) -> Picture:
    """SDR of vocals on the validation clips over minutes, with a mark where it chooses the best epoch.

    Seven runs at most have a colour: those with the highest SDR, and the first one given; others are grey and dashed.
    Of more than `MANY` runs, seven experiments have curves, all others the marks alone.
    """
    groups = _histories(runs)
    colours = dict(zip(_first_and_best(groups, len(COLOURS)), ("#000000", *COLOURS), strict=False))
    styles = dict(zip([name for name in groups if name not in colours], ("--", ":", "-.") * len(groups), strict=False))
    named = colours if sum(map(len, groups.values())) > MANY else groups
    figure = Picture(DOUBLE, max(3.2, 0.8 + 0.13 * len(named)))
    axes, ends = figure.subplots(), {}
    for name, group in groups.items():
        colour, above, thin = colours.get(name, GREY), 2 + (name in colours), len(group) ** -0.5
        for _, history in group:
            minutes, sdr, best = history["seconds"].cumsum() / 60, history["valid_sdr"], history["valid_sdr"].argmax()
            if name in named:
                axes.plot(minutes, sdr, color=colour, ls=styles.get(name, "-"), lw=1.2 * thin, zorder=above)
                ends[name] = (float(minutes.iloc[-1]), float(sdr.iloc[-1]), colour)
            axes.plot(minutes.iloc[best], sdr.iloc[best], "o", color=colour, ms=4, zorder=above)
    axes.set(xlabel="training time in minutes", ylabel="SDR of vocals on\nvalidation clips, dB; ● best epoch")
    axes.set_xlim(0, None)
    tag_ends(axes, ends)
    return figure


@reported(
    "runs",
    "Above: losses; runs with one loss share an axis. Below: SDR of vocals on validation clips; ● the epoch that is kept.",
)
def training_curves(runs: Iterable[Run] | Run) -> Picture:
    """Losses over epochs, a panel a run, and under them the SDR that chooses the epoch to keep.

    Of more than `MANY` runs a panel an experiment: of the first, and of those with the highest SDR, as a page holds.
    """
    groups = _histories(runs)
    shown = _first_and_best(groups, MANY)
    groups = {name: group for name, group in groups.items() if name in shown}
    wide, high = min(len(groups), PANELS), -(-len(groups) // PANELS)
    figure = Picture(DOUBLE, 0.3 + high * max(1.5, min(2.5, 9 / high)))  # a page, if it can be
    grid, scale = figure.add_gridspec(2 * high, wide, height_ratios=(3, 2) * high), None
    shared = dict[str, Axes]()
    for place, (name, group) in enumerate(groups.items()):
        row, column = divmod(place, wide)
        loss, thin = str(group[0][0].config.get("loss")), len(group) ** -0.5
        losses = shared[loss] = figure.add_subplot(grid[2 * row, column], sharey=shared.get(loss))
        scale = sdr = figure.add_subplot(grid[2 * row + 1, column], sharex=losses, sharey=scale)
        for _, history in group:
            epochs, best = history["epoch"], history["valid_sdr"].argmax()
            losses.plot(epochs, history["train_loss"], color=WORSE, ls="--", lw=thin)
            losses.plot(epochs, history["valid_loss"], color=BETTER, lw=1.2 * thin)
            sdr.plot(epochs, history["valid_sdr"], color="black", lw=1.2 * thin)
            sdr.plot(epochs.iloc[best], history["valid_sdr"].iloc[best], "o", color="black", ms=4)
        losses.set_title(name, fontsize=TEXT)
        losses.tick_params(labelbottom=False)
        sdr.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if not column:
            losses.set_ylabel("loss (no unit)")
            sdr.set_ylabel("SDR, dB")
    figure.supxlabel("epoch", fontsize=TEXT)
    entries = figure.axes[0].lines[:2], ("training", "validation")
    figure.legend(*entries, loc="outside upper right", ncols=2, fontsize=SMALL, frameon=False)
    return figure
