"""budget.csv, also after a spreadsheet saved it: in UTF-16, with semicolons or tabs, decimal commas, quotes.

Rows that are whole are used; lines that are not, as after a kill, stay in the file, and one sentence counts them.
"""

import csv
import io
import math
from functools import cache
from pathlib import Path

from sepkit.errors import SepkitError
from sepkit.storage.files import text_of, writing

NUMBERS = {3: ".0f", 4: ".4f", 5: ".4f", 7: ".0f"}  # epoch (may be empty), minutes, gpu_min, vram_mib, as written
LEAST = 8  # fields of a row; the ninth, its id, is newer
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
    return rows


def parse_ledger(content: bytes) -> tuple[list[list[str]], list[str]]:
    """(rows that are whole, other lines) of a ledger; headers are left out."""
    rows, unread = dict[str, list[str]](), []
    for line in filter(str.strip, text_of(content).splitlines()):
        fields = next(filter(None, (_row(line, mark) for mark in ",;\t")), None)
        if fields:  # two processes that merge ledgers at once write a row twice
            rows.setdefault("".join(fields[LEAST:]) or str(len(rows)), fields)
        elif not line.replace('"', "").startswith(("time,run", "time;run", "time\trun")):
            unread.append(line)
    return list(rows.values()), unread


def plain_ledger(content: bytes, header: bytes) -> bytes:
    """The ledger `content` as sepkit writes it; lines that are no rows stay as they are."""
    rows, unread = parse_ledger(content)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return b"\r\n".join([header, *(line.encode() for line in unread), text.getvalue().encode()])


def make_plain(path: Path, header: bytes) -> None:
    """Writes the ledger at `path` anew where a spreadsheet saved it, so that rows can be appended."""
    if not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(len(HEAD))
    if head not in (b"", HEAD):
        content = plain_ledger(path.read_bytes(), header)
        with writing(path) as part:
            part.write_bytes(content)


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
    return fields if len(fields) >= LEAST else None


@cache
def _say(sentence: str) -> None:
    print(sentence, flush=True)
