"""Scoreboards and pages as HTML, Markdown and plain text; numbers come in, nothing is computed here.

A score column is one that has `… q25` and `… q75` beside it.  The best value of a score column among
the trained rows is shaded (HTML) or bold (Markdown); the rows `mixture` and `oracle` never are.
"""

import html
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from sepkit.reporting.rows import ASIDE, LEADING, REFERENCES, SILENCE, Board

WIDTH = 120
OPTIONAL = ("gain, dB", "p", "p (Holm)", "method, dB", "acc. is", *ASIDE)  # left out where no row has one
DESCRIBED = ("Exp", "Backbone", "Domain", "Extras")


@dataclass(frozen=True)
class Cell:
    text: str
    detail: str = ""  # smaller, under it
    best: bool = False
    number: bool = False


@dataclass(frozen=True)
class Grid:
    """A table for the page: headings, rows of cells, which rows are references."""

    caption: str
    headings: list[str]
    rows: list[list[Cell]]
    references: list[bool]


@dataclass(frozen=True)
class Image:
    source: str  # a data: address
    alt: str
    caption: str


@dataclass(frozen=True)
class Block:
    """One section of a page; a part that is empty is left out."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    fine_print: list[str] = field(default_factory=list)


def page(title: str, *, blocks: list[Block], lead: Iterable[str] = ()) -> str:
    """One self-contained HTML page."""
    return _template().render(title=title, blocks=blocks, lead=list(lead))


def show(table: pd.DataFrame) -> Any:
    """The scoreboard that `scoreboard()` returned, for display in a notebook."""
    from IPython.display import HTML

    parts = [
        html.escape(line)
        for line in (*table.attrs.get("header", []), *_missing(table.attrs.get("unfinished", {})))
    ]
    macros = _template().make_module({"title": "", "blocks": [], "lead": []})
    grid = macros.grid(scoreboard_grid(table, table.attrs.get("title", "")))
    return HTML(f"<style>{macros.style()}</style>{grid}<small>{'<br>'.join(parts)}</small>")


def score_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if f"{name} q25" in table]


def best_rows(table: pd.DataFrame) -> dict[str, set[int]]:
    """For every score column, the positions of the best trained rows (none where only one was trained)."""
    trained = ~table["Exp"].isin(REFERENCES)
    # a median that leaves a hard song out does not win
    trained &= table["undefined"] == table["undefined"][trained].min()
    unlike = table["accompaniment"][trained].nunique() > 1  # modelled and residual are two definitions
    best: dict[str, set[int]] = {}
    for column in score_columns(table):
        values = np.where(trained, table[column].astype(float).round(2), np.nan)
        known = np.isfinite(values)
        top = values[known].min() if column in SILENCE and known.any() else values[known].max(initial=-np.inf)
        apart = known.sum() > 1 and not (unlike and column.startswith("SDR acc"))
        best[column] = set(np.flatnonzero(values == top).tolist()) if apart else set()
    return best


def scoreboard_grid(table: pd.DataFrame, caption: str) -> Grid:
    if "Sig." not in table:
        return Grid(caption or "No run is finished and scored yet", ["Exp"], [], [])
    best, columns = best_rows(table), score_columns(table)
    leading, others = (
        [name for name in columns if name in LEADING],
        [name for name in columns if name not in LEADING],
    )
    headings = [
        *DESCRIBED, *leading, "GPU min", "Sig.", "gain, dB", "p", "p (Holm)", "method, dB", *others, "acc. is",
        "songs", "frames", "seeds"
    ]  # fmt: skip
    rows = []
    for place, row in enumerate(table.to_dict("records")):
        scores = {name: _score(row, name, place in best[name]) for name in columns}
        gain = _interval(row["gain low"], row["gain high"], "+")
        rows.append(
            [
                *(Cell(str(row[name])) for name in DESCRIBED),
                *(scores[name] for name in leading),
                Cell(_minutes(row), number=True),
                Cell(row["Sig."]),
                Cell(f"{row['gain']:+.2f}", gain, number=True)
                if _known(row["gain"])
                else Cell("—", number=True),
                Cell(_p(row["p"]), number=True),
                Cell(_p(row["p (Holm)"]), number=True),
                Cell(str(row["Method"]), _interval(row["method low"], row["method high"], "+")),
                *(scores[name] for name in others),
                Cell(str(row["accompaniment"])),
                Cell(str(row["songs"]), f"({row['undefined']} undefined)" if row["undefined"] else ""),
                Cell(str(row["frames"]), f"({row['frames dropped']} dropped)"),
                Cell(str(row["seeds"])),
            ]
        )
    keep = [
        place
        for place, heading in enumerate(headings)
        if heading not in OPTIONAL or any(cells[place].text != "—" for cells in rows)
    ]
    rows = [[cells[place] for place in keep] for cells in rows]
    references = table["Exp"].isin(REFERENCES).tolist()
    return Grid(caption, [headings[place] for place in keep], rows, references)


def plain_grid(table: pd.DataFrame, caption: str) -> Grid:
    """Any small table: floats to two decimals, everything else as it is."""
    rows = [
        [Cell(_number(value), number=isinstance(value, int | float)) for value in row.values()]
        for row in table.to_dict("records")
    ]
    references = table["Exp"].isin(REFERENCES).tolist() if "Exp" in table else [False] * len(table)
    return Grid(caption, list(map(str, table.columns)), rows, references)


def board_blocks(board: Board) -> list[Block]:
    """The sections of the scoreboard, and what is missing from it."""
    blocks = []
    for section in board.sections:
        grids = [scoreboard_grid(section.table, "")]
        if len(section.overlap):
            grids.append(plain_grid(section.overlap, OVERLAP_CAPTION))
        *above, legend = section.header
        blocks.append(Block(section.title, above, grids, items=section.notes, fine_print=[legend]))
    if not blocks:
        blocks.append(Block("Scoreboard", ["No run is both finished and scored yet."]))
    missing = [Block("Not in the tables", items=_missing(board.unfinished))]
    return blocks + missing if board.unfinished else blocks


OVERLAP_CAPTION = (
    "sdr_bsseval of vocals in dB, with and without the three test songs whose artists also sing in training "
    "(Hollow Ground, Skelpolu, The Long Wait), and without the two nearly vocal-free songs that rule any mean "
    "(PR - Happy Daze, PR - Oh No)"
)


def markdown(board: Board) -> str:
    parts = ["# Scoreboard"]
    for section in board.sections:
        parts += [f"## {section.title}", *section.header, _pipe(scoreboard_grid(section.table, ""))]
        if len(section.overlap):
            parts += [OVERLAP_CAPTION + ":", _pipe(plain_grid(section.overlap, ""))]
        parts.append("\n".join(f"- {note}" for note in section.notes))
    if not board.sections:
        parts.append("No run is both finished and scored yet.")
    if board.unfinished:
        parts += ["## Not in the tables", "\n".join(f"- {line}" for line in _missing(board.unfinished))]
    return "\n\n".join(part for part in parts if part) + "\n"


def text(table: pd.DataFrame) -> str:
    """For a terminal: at most 120 columns; quartiles only of the leading score."""
    attrs = table.attrs
    lines = [attrs.get("title", ""), _text_table(table)]
    for section in attrs.get("sections", []):
        lines += ["", section["title"], _text_table(pd.DataFrame(section["rows"]))]
    notes = [*attrs.get("header", []), *attrs.get("notes", []), *_missing(attrs.get("unfinished", {}))]
    if "undefined" in table and table["undefined"].any():
        notes.append(
            "n: songs; * without those that have no defined score, which a test leaves out on both sides."
        )
    return "\n".join([*lines, "", *(textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes)])


def _text_table(table: pd.DataFrame) -> str:
    if "Sig." not in table:
        return "No run is finished and scored yet."
    columns = [name for name in score_columns(table) if name not in ASIDE]
    records = []
    for row in table.to_dict("records"):
        record = {"Exp": row["Exp"]}
        if len(columns) <= 4:
            described = dict.fromkeys(
                row[name] for name in ("Backbone", "Domain", "Extras") if row[name] != "—"
            )
            record["Backbone,\ndomain, extras"] = textwrap.fill(
                ", ".join(described) or "—", 16, break_on_hyphens=False
            )
        for name in columns:
            record[name.replace(" (", "\n").replace("_b", "_\nb").removesuffix(")")] = _number(row[name])
        low, high = row[f"{columns[0]} q25"], row[f"{columns[0]} q75"]
        record["quartiles"] = f"{low:.1f}, {high:.1f}" if _known(low) else "—"
        record |= {"GPU\nmin": _minutes(row).replace(" ", "\n"), "Sig.": textwrap.fill(row["Sig."], 6)}
        record |= {
            "p\n(Holm)": _p(row["p (Holm)"]),
            "n": f"{row['songs']}{'*' if row['undefined'] else ''}",
        }
        records.append(record)
    return "\n\n".join(
        tabulate(rows, headers="keys", disable_numparse=True)
        for rows in (records, [_claims(row) for row in table.to_dict("records")])
    )


def _claims(row: dict[Any, Any]) -> dict[str, str]:
    """A row of the second table of a terminal: what is claimed, and what it rests on."""
    gain = _interval(row["gain low"], row["gain high"], "+")
    method = _interval(row["method low"], row["method high"], "+")
    claims = {
        "Exp": row["Exp"],
        "gain, dB\n[artists resampled]": f"{row['gain']:+.2f} {gain}" if _known(row["gain"]) else "—",
        "method, dB\n[artists and seeds]": f"{row['Method']} {method}".strip(),
        "songs\n(undefined)": f"{row['songs']} ({row['undefined']})",
        "frames\n(dropped)": f"{row['frames']} ({row['frames dropped']})",
    }
    for name, (metric, source) in ASIDE.items():
        if name in row:
            claims[f"{metric}\n{source} (songs)"] = f"{_number(row[name])} ({row[f'{name} songs']})"
    return claims


def _pipe(grid: Grid) -> str:
    rows = [[_joined(cell) for cell in row] for row in grid.rows]
    return tabulate(rows, headers=grid.headings, tablefmt="pipe", disable_numparse=True)


def _joined(cell: Cell) -> str:
    words = f"{cell.text} {cell.detail}".strip().replace("|", "\\|")
    return f"**{words}**" if cell.best else words


def _missing(unfinished: dict[str, str]) -> list[str]:
    return [f"{run}: {reason}." for run, reason in unfinished.items()]


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _score(row: dict[Any, Any], name: str, best: bool) -> Cell:
    detail = [_interval(row[f"{name} q25"], row[f"{name} q75"])]
    if row[f"{name} undefined"]:
        detail.append(f"{row[f'{name} songs']} songs, {row[f'{name} undefined']} undefined")
    return Cell(_number(row[name]), " ".join(filter(None, detail)), best, number=True)


def _interval(low: float, high: float, sign: str = "") -> str:
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]" if _known(low) and _known(high) else ""


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if np.isfinite(value) else "—"
    return "—" if value is None else str(value)


def _minutes(row: dict[Any, Any]) -> str:
    if _known(row["GPU min"]):
        return _spent(row["GPU min"])
    return f"{_spent(row['CPU min'])} CPU" if _known(row["CPU min"]) else "—"


def _spent(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes < 100 else f"{minutes:.0f}"


def _p(p: float) -> str:
    if not _known(p):
        return "—"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


@cache
def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")
