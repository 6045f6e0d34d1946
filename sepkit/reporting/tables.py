"""Blocks of sentences, tables and pictures, as an HTML page, Markdown, LaTeX and plain text of 80 columns.

A table is a DataFrame of strings. What follows a line break in a cell is its detail, and so is what stands in brackets
in a heading: smaller on a page.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from sepkit.experiments import REFERENCES

WIDTH, CELL_WIDTH = 80, 24  # characters on a terminal
NONE = "—"
# fmt: off
TEX = str.maketrans({
    **{char: f"\\{char}" for char in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$",
    "^": r"\textasciicircum{}", "✓": r"$\checkmark$", "▼": r"$\blacktriangledown$", "±": r"$\pm$", "√": r"$\surd$", "−": "$-$",
    "–": "--", "—": "---", "\u00a0": "~", "\n": " ",
})
# fmt: on


@dataclass(frozen=True)
class Grid:
    """A table; `best` gives the positions of the best rows by column; `brief`: no details in text and LaTeX."""

    cells: pd.DataFrame
    caption: str = ""
    best: Mapping[str, set[int]] = field(default_factory=dict)
    brief: bool = False

    @cached_property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers; they stand to the right."""
        return [all(re.match(r"(—|<?[ +-]?\d)", cell) for cell in self.cells[name]) for name in self.cells]

    @cached_property
    def heads(self) -> list[tuple[str, str]]:
        """(name, detail) of every column."""
        return [str(name).removesuffix(")").partition(" (")[::2] for name in self.cells]

    @cached_property
    def rows(self) -> list[list[tuple[str, str, str]]]:
        """(value, detail, CSS classes) of every cell."""
        rows = []
        for place, row in enumerate(self.cells.itertuples(index=False)):
            best = [place in self.best.get(str(name), ()) for name in self.cells]
            kinds = ["number" * number + " best" * best for number, best in zip(self.numeric, best, strict=True)]
            rows.append([(*cell.partition("\n")[::2], kind.strip()) for cell, kind in zip(row, kinds, strict=True)])
        return rows


@dataclass(frozen=True)
class Image:
    source: str  # a data: address
    alt: str
    caption: str


@dataclass(frozen=True)
class Block:
    """One section of a page; an empty part is left out."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    details: Mapping[str, list[Grid]] = field(default_factory=dict)  # by summary, shown when opened, and in print
    level: int = 2  # of the heading; 3 is part of the block before
    html: Markup = field(default_factory=Markup)  # for a page alone


def page(title: str, *, blocks: list[Block], lead: Iterable[str] = ()) -> str:
    """One self-contained HTML page."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html")
    return template.render(title=title, blocks=blocks, lead=list(lead), references=REFERENCES)


def markdown(title: str, blocks: list[Block]) -> str:
    parts = [f"# {title}"]
    for block in blocks:
        parts += [f"{'#' * block.level} {block.heading}", *block.paragraphs]
        for grid in (*block.grids, *(grid for grids in block.details.values() for grid in grids)):
            cells = grid.cells.map(lambda cell: " ".join(cell.replace("|", "\\|").split()))
            for name, places in grid.best.items():
                if name in cells:
                    cells[name] = [f"**{cell}**" if place in places else cell for place, cell in enumerate(cells[name])]
            table = tabulate(cells, headers="keys", tablefmt="pipe", showindex=False, disable_numparse=True)
            parts += [grid.caption, table]
        parts.append("\n".join(f"- {item}" for item in block.items))
    return "\n\n".join(filter(None, parts)) + "\n"


def latex(blocks: Iterable[Block]) -> str:
    """The tables of all blocks, for a document that loads booktabs and amssymb."""
    parts = [r"% \usepackage{booktabs, amssymb}"]
    for heading, grid in ((block.heading, grid) for block in blocks for grid in block.grids):
        rows = [[(*head, "") for head in grid.heads], *grid.rows]
        lines = [
            " & ".join(_tex(value if grid.brief else f"{value} {detail}", kind) for value, detail, kind in row) + r" \\"
            for row in rows
        ]
        columns = "".join("r" if number else "l" for number in grid.numeric)
        parts += [
            f"% {heading}. {grid.caption}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
            r"\end{tabular}", "",
        ]  # fmt: skip
    return "\n".join(parts)


def _tex(cell: str, kind: str) -> str:
    cell = re.sub(r"(?<!\w)-(?=\d)", "$-$", cell.strip().translate(TEX))
    return rf"\textbf{{{cell}}}" if "best" in kind else cell


def text(blocks: Iterable[Block]) -> str:
    """For a terminal, without details; a table with too many columns is continued below, its first column repeated."""
    parts = []
    for block in blocks:
        parts.append(block.heading if block.grids or block.paragraphs or block.items else "")
        for grid in block.grids:
            parts += [textwrap.fill(grid.caption, WIDTH), *_slices(grid)]
        lines = [*block.paragraphs, *(f"- {item}" for item in block.items)]
        parts.append("\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines))
    return "\n\n".join(filter(None, parts))


def _slices(grid: Grid) -> list[str]:
    """The grid as one table, its cells wrapped until it fits; or as several, where it has many columns."""
    every = list(range(len(grid.heads)))
    for width in range(60 if grid.brief or len(every) < 4 else 0, 7, -1):
        if len((table := _table(grid, every, width))[0]) <= WIDTH:
            return ["\n".join(table)]
    slices = [[0]]
    for column in every[1:]:
        if len(slices[-1]) > 1 and len(_table(grid, [*slices[-1], column])[0]) > WIDTH:
            slices.append([0])
        slices[-1].append(column)
    return ["\n".join(_table(grid, columns)) for columns in slices]


def _table(grid: Grid, columns: list[int], width: int = CELL_WIDTH) -> list[str]:
    """The lines of these columns, all of one length."""

    def wrap(cell: str) -> list[str]:
        parts = cell.split("\n")[: 1 if grid.brief else None]
        return [line for part in parts for line in textwrap.wrap(part, width) or [""]]

    def head(column: int) -> list[str]:
        name, detail = grid.heads[column]
        return (name.split() if grid.numeric[column] else wrap(name)) + ([detail] if detail and not grid.brief else [])

    rows = [[head(n) for n in columns], *([wrap(row[n]) for n in columns] for row in grid.cells.to_numpy())]
    widths = [max(len(line) for cell in cells for line in cell) for cells in zip(*rows, strict=True)]
    align = [f"{'>' if grid.numeric[n] else '<'}{width}" for n, width in zip(columns, widths, strict=True)]
    lines = [" ".join(map(format, line, align)) for row in rows for line in zip_longest(*row, fillvalue="")]
    top = max(map(len, rows[0]))
    return [*lines[:top], " ".join("-" * width for width in widths), *lines[top:]]


def plain_grid(table: pd.DataFrame, caption: str = "") -> Grid:
    """Any table: floats to two decimals, everything else as it is."""
    return Grid(table.map(number).rename(columns=str), caption)


def number(value: Any, form: str = ".2f") -> str:
    """A value as a cell; "—" for none or NaN."""
    if isinstance(value, float):
        return NONE if np.isnan(value) else f"{value:{form}}"
    return NONE if value is None else str(value)


def interval(low: float, high: float, form: str = ".2f") -> str:
    return f"[{low:{form}}, {high:{form}}]" if low > -np.inf or high < np.inf else ""
