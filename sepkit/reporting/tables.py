"""Blocks of sentences, tables and pictures, as an HTML page, as Markdown and as plain text of 120 columns.

A table is a DataFrame of strings. What follows a line break in a cell is its detail: smaller on a page.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from sepkit.experiments import REFERENCES

WIDTH, CELL_WIDTH = 120, 24  # characters on a terminal
NONE = "—"


@dataclass(frozen=True)
class Grid:
    """A table; `best` gives the positions of the best rows by column."""

    cells: pd.DataFrame
    caption: str = ""
    best: Mapping[str, set[int]] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[list[tuple[str, str, str]]]:
        """(value, detail, CSS classes) of every cell."""
        numbers = [all(re.match(r"(—|<?[ +-]?\d)", cell) for cell in self.cells[name]) for name in self.cells]
        rows = []
        for place, row in enumerate(self.cells.itertuples(index=False)):
            best = [place in self.best.get(str(name), ()) for name in self.cells]
            classes = [" ".join(["number"] * kind[0] + ["best"] * kind[1]) for kind in zip(numbers, best, strict=True)]
            rows.append([(*cell.partition("\n")[::2], kind) for cell, kind in zip(row, classes, strict=True)])
        return rows


@dataclass(frozen=True)
class Image:
    source: str  # a data: address
    alt: str
    caption: str
    details: Mapping[str, str] = field(default_factory=dict)  # shown when opened


@dataclass(frozen=True)
class Block:
    """One section of a page; an empty part is left out."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    fine_print: list[str] = field(default_factory=list)


def page(title: str, *, blocks: list[Block], lead: Iterable[str] = ()) -> str:
    """One self-contained HTML page."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html")
    return template.render(title=title, blocks=blocks, lead=list(lead), references=REFERENCES)


def markdown(title: str, blocks: list[Block]) -> str:
    parts = [f"# {title}"]
    for block in blocks:
        parts += [f"## {block.heading}", *block.paragraphs, *block.fine_print]
        for grid in block.grids:
            cells = grid.cells.map(lambda cell: " ".join(cell.replace("|", "\\|").split()))
            for name, places in grid.best.items():
                if name in cells:
                    cells[name] = [f"**{cell}**" if place in places else cell for place, cell in enumerate(cells[name])]
            table = tabulate(cells, headers="keys", tablefmt="pipe", showindex=False, disable_numparse=True)
            parts += [grid.caption, table]
        parts.append("\n".join(f"- {item}" for item in block.items))
    return "\n\n".join(filter(None, parts)) + "\n"


def text(blocks: list[Block]) -> str:
    """For a terminal; a table with too many columns is continued below, its first column repeated."""
    parts = []
    for block in blocks:
        parts.append(block.heading)
        for grid in block.grids:
            parts += [textwrap.fill(grid.caption, WIDTH), *_slices(grid.cells)]
        lines = [*block.paragraphs, *block.fine_print, *(f"- {item}" for item in block.items)]
        parts.append("\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines))
    return "\n\n".join(filter(None, parts))


def _slices(cells: pd.DataFrame) -> list[str]:
    def wrap(cell: str) -> str:
        return "\n".join(textwrap.fill(line, CELL_WIDTH) for line in cell.split("\n"))

    def table(columns: list[Any]) -> str:
        return tabulate(cells[columns], headers="keys", showindex=False, disable_numparse=True)

    cells = cells.map(wrap).rename(columns=lambda name: wrap(str(name).replace(" (", "\n(")))
    first, *others = cells
    slices = [[first]]
    for name in others:
        if len(slices[-1]) > 1 and max(map(len, table([*slices[-1], name]).splitlines())) > WIDTH:
            slices.append([first])
        slices[-1].append(name)
    return [table(columns) for columns in slices]


def plain_grid(table: pd.DataFrame, caption: str = "") -> Grid:
    """Any table: floats to two decimals, everything else as it is."""
    return Grid(table.map(number).rename(columns=str), caption)


def number(value: Any, form: str = ".2f") -> str:
    """A value as a cell; "—" for none or one that is not finite."""
    if isinstance(value, float):
        return f"{value:{form}}" if np.isfinite(value) else NONE
    return NONE if value is None else str(value)


def interval(low: float, high: float, form: str = ".2f") -> str:
    return f"[{low:{form}}, {high:{form}}]" if np.isfinite([low, high]).all() else ""
