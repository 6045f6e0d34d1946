"""What every figure shares: the figure itself, colours, plain axes, a file that is whole or absent."""

import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sepkit.storage import writing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BETTER, WORSE, GREY = "#0072B2", "#D55E00", "#777777"
DPI = 130
SCREEN_DPI = 80  # in notebooks, which must stay small

Draw = Callable[..., "Picture"]
REPORTED: dict[str, dict[Draw, str]] = {"scores": {}, "pair": {}, "runs": {}, "budget": {}}


def reported(part: str, caption: str = "") -> Callable[[Draw], Draw]:
    """Puts a figure, with its caption, into a part of the milestone report.

    The report draws "scores" from a section's scores, "pair" from scores of an experiment and of its base, "runs"
    from the trained runs, "budget" from budget.csv.
    """

    def register(draw: Draw) -> Draw:
        REPORTED[part][draw] = caption
        return draw

    return register


class Picture(Figure):
    """A figure that shows itself as PNG in a notebook, without pyplot's register of open figures."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")

    def png(self, dpi: int = DPI) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi, facecolor="white")
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        image, buffer = Image.open(io.BytesIO(self.png(SCREEN_DPI))).convert("RGB"), io.BytesIO()
        # 256 colours: a spectrogram in a third of the bytes
        image.quantize(256, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def save(figure: Picture, path: Path | str) -> Path:
    """Writes the figure as PNG at 130 dpi, whole or not at all."""
    path = Path(path)
    with writing(path) as part:
        part.write_bytes(figure.png())
    return path


def panels(count: int, heights: tuple[int, ...], height: float) -> tuple[Picture, list[list[Axes]]]:
    """`count` columns of panels with these relative heights, at most three columns side by side."""
    wide, high = min(count, 3), -(-count // 3)
    figure, rows = Picture(4.4 * wide + 0.6, height * high), range(len(heights))
    grid = figure.add_gridspec(high * len(heights), wide, height_ratios=heights * high)
    axes = [[figure.add_subplot(grid[i // 3 * len(heights) + row, i % 3]) for row in rows] for i in range(count)]
    return figure, axes


def plain(*panels: Axes) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
