"""budget.csv, also after a spreadsheet saved it: in UTF-16, with semicolons or tabs, decimal commas, quotes.

Rows that are whole are used; lines that are not, as after a kill, stay in the file, and one sentence counts them.
"""

import csv
import io
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from sepkit.errors import SepkitError
from sepkit.storage.files import text_of, writing

NUMBERS = {3: ".0f", 4: ".4f", 5: ".4f", 7: ".0f"}  # epoch (may be empty), minutes, gpu_min, vram_mib, as written
FIELDS, ID = 9, 32  # of a row; letters of its id, the last of them
HEAD = b"time,run,"


def read_ledger(path: Path) -> list[list[str]]:
    """The whole rows of the ledger at `path`; prints once how much of it can't be read."""
    try:
        content = path.read_bytes() if path.exists() else HEAD
    except OSError as error:
        raise SepkitError(f"The ledger {path} can't be read ({error.strerror}); make it readable.") from error
    rows, unread = parse_ledger(content)
    if unread or not content:
        lost = f"{len(unread)} of {len(rows) + len(unread)} rows can't be read" if content else "it is empty"
        _say(f"The ledger {path}: {lost}; minutes that stood there are missing from the GPU hours spent.")
    return list(rows.values())


def parse_ledger(content: bytes) -> tuple[dict[str, list[str]], list[str]]:
    """({id: whole row}, other lines) of a ledger; headers are left out."""
    rows, unread = dict[str, list[str]](), []
    for line in filter(str.strip, text_of(content).splitlines()):
        fields = next(filter(None, (_row(line, mark) for mark in ",;\t")), None)
        if fields:  # two processes that merge ledgers at once write a row twice
            rows.setdefault(fields[-1], fields)
        elif not line.replace('"', "").startswith(("time,run", "time;run", "time\trun")):
            unread.append(line)
    return rows, unread


def ledger_lines(content: bytes) -> dict[str, bytes]:
    """The lines of a ledger as sepkit writes them: {id: row}, and {line: line} of those that are no rows."""
    rows, unread = parse_ledger(content)
    return {**{line: line.encode() for line in unread}, **{key: as_line(row) for key, row in rows.items()}}


def missing_lines(ledger: dict[str, bytes], other: dict[str, bytes]) -> list[bytes]:
    """Lines of `other` that `ledger` lacks; what is left of a row that was cut short is no line of its own."""
    missing = [(line, len(key) == ID) for key, line in other.items() if key not in ledger]
    return [line for line, whole in missing if whole or not any(row.startswith(line) for row in ledger.values())]


def as_line(row: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue().encode()


def make_plain(path: Path, header: bytes) -> None:
    """Writes the ledger at `path` anew where a spreadsheet saved it, so that rows can be appended."""
    if not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(len(HEAD))
    if head not in (b"", HEAD):
        lines = ledger_lines(path.read_bytes()).values()
        with writing(path) as part:
            part.write_bytes(b"\r\n".join([header, *lines, b""]))


def _row(line: str, mark: str) -> list[str] | None:
    """The fields between `mark`, numbers as they are written here; None where the line is no whole row."""
    fields = next(csv.reader([line], delimiter=mark), [])
    try:
        for place, form in NUMBERS.items():
            if place == 3 and not fields[place]:
                continue
            number = float(fields[place].replace(",", "."))
            if not 0 <= number < math.inf:
                return None
            fields[place] = format(number, form)
    except (IndexError, ValueError):
        return None
    return fields[:FIELDS] if len(fields) >= FIELDS and len(fields[FIELDS - 1]) == ID else None


@cache
def _say(sentence: str) -> None:
    print(sentence, flush=True)
