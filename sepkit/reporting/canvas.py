"""What every figure shares: its size and fonts for a paper, colours, labels that keep apart, files whole or absent."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sepkit.storage import writing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
BETTER, WORSE, GREY = "#0072B2", "#D55E00", "#777777"
DOUBLE = 7.0  # inches: the two columns of a paper, or a page's width
TEXT, SMALL = 8, 7  # points, at that width
DPI = 200
SCREEN_DPI = 110  # in notebooks, which must stay small
# Text stays text in SVG and PDF; the same figure gives the same bytes.
FILES: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "sepkit"}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}

Draw = Callable[..., "Picture"]
PARTS = ("scores", "differences", "songs", "minutes", "runs", "budget")
REPORTED: dict[str, dict[Draw, str]] = {part: {} for part in PARTS}


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
        super().__init__(figsize=(width, height), layout="constrained", dpi=SCREEN_DPI, facecolor="white")
        FigureCanvasAgg(self)  # measures all texts on one bitmap, where the default makes one a text

    def add_subplot(self, *arguments: Any, **settings: Any) -> Axes:
        axes: Axes = super().add_subplot(*arguments, **settings)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=SMALL)
        for words in (axes.xaxis.label, axes.yaxis.label, axes.title):
            words.set_fontsize(TEXT)
        return axes

    def encoded(self, kind: str) -> bytes:
        """The bytes of a file: "png" at 200 dpi, "svg" or "pdf"."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(FILES):
            self.savefig(buffer, format=kind, dpi=DPI, metadata=UNDATED.get(kind))
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        canvas, buffer = FigureCanvasAgg(self), io.BytesIO()
        canvas.draw()  # savefig draws twice
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        # 64 colours: a spectrogram in a quarter of the bytes, its levels in steps of 1.3 dB
        image.quantize(64, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def save(figure: Picture, path: Path | str) -> Path:
    """Writes the figure as PNG (200 dpi), SVG and PDF beside one another, each whole or not at all; returns the PNG.

    A suffix of these in `path` is dropped. Text stays text, spectrograms are pixels in SVG and PDF too.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".png", ".svg", ".pdf") else path
    files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "pdf", "png")}
    layout = figure.get_layout_engine()
    try:
        for kind, file in files.items():
            with writing(file) as part:
                part.write_bytes(figure.encoded(kind))
            figure.set_layout_engine("none")  # once for all three: half of the time
    finally:
        figure.set_layout_engine(layout)
    return files["png"]


def tag_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names points (x, y, colour) beside them: no name over another, and over as little of the lines as can be.

    A dotted line leads to a name that had to move. Call it last: it needs all lines, and the axes' limits stay as they
    are, but for room on the right.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    pixel = axes.figure.dpi / 72
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # pixels are known then
    style: Any = {"textcoords": "offset points", "fontsize": SMALL, "va": "center"}
    leader = {"arrowstyle": "-", "ls": ":", "lw": 0.6, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)}
    names = {
        name: axes.annotate(name, (x, y), (5, 0), color=colour, arrowprops={**leader, "color": colour}, **style)
        for name, (x, y, colour) in sorted(ends.items(), key=lambda item: item[1][1])
    }
    sizes = {name: Text.get_window_extent(text).size for name, text in names.items()}
    (left, right), width = axes.get_xlim(), axes.bbox.width
    room = {name: width / (width - size[0] - 8 * pixel) for name, size in sizes.items()}
    axes.set_xlim(left, max([right, *(left + (ends[name][0] - left) * room[name] for name in names)]))
    drawn = [line.get_transform().transform(line.get_path().interpolated(40).vertices) for line in axes.lines]
    low = high = np.concatenate([*drawn, np.zeros((0, 2))])  # corners of boxes: a point of a line is one without size
    steps, weights = np.array(sorted(range(-len(names) - 2, len(names) + 3), key=abs)), np.full(len(low), 2.0)
    for name, text in names.items():
        rise = 1.15 * sizes[name][1]
        first = axes.transData.transform(ends[name][:2]) + np.array([5 * pixel, -sizes[name][1] / 2])
        lows = first + np.outer(steps, (0, rise))
        highs = lows + sizes[name]
        near = (low[:, 0] < highs[0, 0]) & (lows[0, 0] < high[:, 0])  # the places differ in height alone
        over = ((lows[:, 1:] < high[near, 1]) & (low[near, 1] < highs[:, 1:])) @ weights[near]
        outside = (lows < axes.bbox.min).any(axis=1) | (highs > np.add(axes.bbox.max, 1)).any(axis=1)
        best = int(np.argmin(over + 4.0 * np.abs(steps) + 1000.0 * outside))
        text.set_position((5, steps[best] * rise / pixel))
        low, high, weights = np.vstack([low, lows[best]]), np.vstack([high, highs[best]]), np.append(weights, 5000.0)
