"""What every figure shares: its size and fonts for a paper, colours, labels that keep apart, files whole or absent."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import isotonic_regression

from sepkit.storage import writing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
BETTER, WORSE, GREY = "#0072B2", "#D55E00", "#777777"
SINGLE, DOUBLE = 3.4, 7.0  # inches: one column of a paper, and both
TEXT, SMALL = 8, 7  # points, at these widths
DPI = 200
SCREEN_DPI = 110  # in notebooks, which must stay small
# Text stays text in SVG and PDF; the same figure gives the same bytes.
FILES: dict[str, Any] = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "sepkit"}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}

Draw = Callable[..., "Picture"]
REPORTED: dict[str, dict[Draw, str]] = {
    part: {} for part in ("scores", "differences", "songs", "minutes", "runs", "budget")
}


def reported(part: str, caption: str) -> Callable[[Draw], Draw]:
    """Puts a figure, with its caption, into a part of the milestone report.

    A section of the scoreboard gives "scores" its scores, "differences" its comparisons, "songs" the scores by experiment
    and those of the base, "minutes" its comparisons and the training minutes by experiment. "runs" are the trained runs,
    "budget" is budget.csv.
    """

    def register(draw: Draw) -> Draw:
        REPORTED[part][draw] = caption
        return draw

    return register


class Picture(Figure):
    """A figure that shows itself as PNG in a notebook, without pyplot's register of open figures.

    width, height: inches. Its axes have a paper's font sizes, a light grid and no frame at the top and right.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")

    def add_subplot(self, *arguments: Any, **settings: Any) -> Axes:
        axes: Axes = super().add_subplot(*arguments, **settings)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=SMALL)
        for words in (axes.xaxis.label, axes.yaxis.label, axes.title):
            words.set_fontsize(TEXT)
        return axes

    def encoded(self, kind: str = "png", dpi: int = DPI) -> bytes:
        """The bytes of a PNG, SVG or PDF file."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(FILES):
            self.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=UNDATED.get(kind))
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        image, buffer = Image.open(io.BytesIO(self.encoded(dpi=SCREEN_DPI))).convert("RGB"), io.BytesIO()
        # 256 colours: a spectrogram in a third of the bytes
        image.quantize(256, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def save(figure: Picture, path: Path | str) -> Path:
    """Writes the figure as PNG (200 dpi), SVG and PDF beside one another, each whole or not at all; returns the PNG.

    A suffix of these in `path` is dropped. Text stays text, spectrograms are pixels in SVG and PDF too.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".png", ".svg", ".pdf") else path
    files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "pdf", "png")}
    try:
        for kind, file in files.items():
            with writing(file) as part:
                part.write_bytes(figure.encoded(kind))
            figure.set_layout_engine("none")  # once for all three: half of the time
    finally:
        figure.set_layout_engine("constrained")
    return files["png"]


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names points (x, y, colour) in the right margin, in the order of their height, none over another.

    A dotted line leads from a point to its name. Call it last: it needs the axes' limits.
    """
    if not ends:
        return
    figure, fixed = axes.figure, axes.get_ylim()
    figure.draw_without_rendering()  # the height of the axes is known then
    line = 1.25 * SMALL / 72 * figure.dpi / axes.bbox.height
    names = sorted(ends, key=lambda name: ends[name][1])
    at = [axes.transAxes.inverted().transform(axes.transData.transform(ends[name][:2]))[1] for name in names]
    for name, height in zip(names, apart(at, line), strict=True):
        x, y, colour = ends[name]
        axes.annotate(
            name, (x, y), (1.02, height), textcoords="axes fraction", color=colour, fontsize=SMALL, va="center",
            arrowprops={"arrowstyle": "-", "ls": ":", "lw": 0.6, "color": colour, "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip
    axes.set_ylim(fixed)


def apart(places: Any, gap: float, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Ascending `places`, moved as little as possible (squares) to lie `gap` apart, between `low` and `high` if they fit.

    >>> apart([0.5, 0.5, 0.9], 0.1).round(2).tolist()
    [0.45, 0.55, 0.9]
    """
    steps = gap * np.arange(len(places))
    free = isotonic_regression(np.asarray(places, float) - steps).x
    return np.maximum(np.minimum(free, high - steps[-1]), low) + steps
