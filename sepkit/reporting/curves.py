"""Figures of training: what each run reached after how many minutes, and its losses epoch by epoch."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sepkit.errors import SepkitError
from sepkit.reporting.canvas import BETTER, COLOURS, DOUBLE, GREY, SMALL, TEXT, WORSE, Picture, reported, tag_ends
from sepkit.storage import Run

SDR = "SDR of vocals on\nvalidation clips, dB"
PANELS = 4  # side by side


def best_epoch(history: pd.DataFrame) -> int:
    """Place in `history` of the epoch that is kept: the highest `valid_sdr`; without that column the least loss."""
    known = "valid_sdr" in history and history["valid_sdr"].notna().any()
    return int(history["valid_sdr"].argmax() if known else history["valid_loss"].argmin())


def _histories(runs: Iterable[Run] | Run) -> dict[str, tuple[Run, pd.DataFrame]]:
    """Runs and their histories by name; those of older versions have no SDR."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs:
        raise SepkitError("expected at least one trained run to draw, got none.")
    return {run.name: (run, pd.DataFrame({"valid_sdr": np.nan, **run.history()})) for run in runs}


@reported(
    "runs", "How far each training gets in how many minutes; ● the epoch that is kept, which has the highest SDR."
)
def convergence(runs: Iterable[Run] | Run) -> Picture:
    """SDR of vocals on the validation clips over minutes, with a mark where it chooses the best epoch.

    Seven runs at most have a colour: those with the highest SDR, and the first one given; others are grey and dashed.
    """
    histories = _histories(runs)
    top = {name: float(history["valid_sdr"].max()) for name, (_, history) in histories.items()}
    first, *others = histories
    coloured = [first, *sorted(others, key=lambda name: -top[name])[: len(COLOURS) - 1]]
    colours = dict(zip(coloured, ("#000000", *COLOURS), strict=False))
    styles = dict(zip([name for name in histories if name not in colours], ("--", ":", "-.") * len(top), strict=False))
    figure = Picture(DOUBLE, max(3.2, 0.8 + 0.13 * len(top)))
    axes, ends = figure.subplots(), {}
    for name, (_, history) in histories.items():
        minutes, sdr, best = history["seconds"].cumsum() / 60, history["valid_sdr"], best_epoch(history)
        colour, above = colours.get(name, GREY), 2 + (name in colours)
        axes.plot(minutes, sdr, color=colour, ls=styles.get(name, "-"), lw=1.2, zorder=above)
        axes.plot(minutes.iloc[best], sdr.iloc[best], "o", color=colour, ms=4, zorder=above)
        ends[name] = (float(minutes.iloc[-1]), float(sdr.iloc[-1]), colour)
    axes.set(xlabel="training time in minutes", ylabel=f"{SDR}; ● best epoch")
    axes.set_xlim(0, None)
    tag_ends(axes, ends)
    return figure


@reported(
    "runs",
    "Above: losses; runs with one loss share an axis. Below: SDR of vocals on validation clips; ● the epoch that is kept.",
)
def training_curves(runs: Iterable[Run] | Run) -> Picture:
    """Losses over epochs, a panel a run, and under them the SDR that chooses the epoch to keep."""
    histories = _histories(runs)
    wide, high = min(len(histories), PANELS), -(-len(histories) // PANELS)
    figure = Picture(DOUBLE, 0.3 + high * max(1.5, min(2.5, 9 / high)))  # a page, if it can be
    grid, scale = figure.add_gridspec(2 * high, wide, height_ratios=(3, 2) * high), None
    shared = dict[str, Axes]()
    for place, (name, (run, history)) in enumerate(histories.items()):
        row, column = divmod(place, wide)
        loss = str(run.config.get("loss"))
        losses = shared[loss] = figure.add_subplot(grid[2 * row, column], sharey=shared.get(loss))
        scale = sdr = figure.add_subplot(grid[2 * row + 1, column], sharex=losses, sharey=scale)
        epochs, best = history["epoch"], best_epoch(history)
        losses.plot(epochs, history["train_loss"], color=WORSE, ls="--", lw=1, label="training")
        losses.plot(epochs, history["valid_loss"], color=BETTER, lw=1.2, label="validation")
        sdr.plot(epochs, history["valid_sdr"], color="black", lw=1.2)
        sdr.plot(epochs.iloc[best], history["valid_sdr"].iloc[best], "o", color="black", ms=4)
        losses.set_title(name, fontsize=TEXT)
        losses.tick_params(labelbottom=False)
        sdr.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if not column:
            losses.set_ylabel("loss (no unit)")
            sdr.set_ylabel("SDR, dB")
    figure.supxlabel("epoch", fontsize=TEXT)
    entries = figure.axes[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper right", ncols=2, fontsize=SMALL, frameon=False)
    return figure
