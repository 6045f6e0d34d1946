"""Files that are complete or absent.

A file is written aside (`part_of`), flushed to the disk and renamed: a kill leaves the old file or the new one.  Readers
ignore leftovers, and `remove_leftovers` deletes them.
"""

import json
import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError

OLD_S = 3600.0  # since when a temporary file of another machine counts as left over


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A temporary path beside `path`, `.<name>.<host>.<process>.<token>.part`, that nobody else uses."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:12]}.part")


def _host() -> str:
    return re.sub(r"\W", "_", platform.node()) or "host"


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files in `folder` whose writers are dead, or, on other machines, silent for an hour."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # another process deleted it
            if left_over(part):
                part.unlink()


def left_over(part: Path) -> bool:
    """Whether nobody writes the temporary file `part` any more."""
    *_, host, process, _token, _part = ["", "", *part.name.split(".")]
    if host != _host() or not process.isdecimal():
        return time.time() - part.stat().st_mtime > OLD_S
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def write_text(path: Path, text: str) -> None:
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: NaN and infinity are refused, since other readers could not load them."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """The JSON at `path`; SepkitError naming the file where it can't be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SepkitError(
            f"Expected {what} in {path}, but it can't be read ({error}); delete it to make it anew."
        ) from error


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a text file, one a line, # comments; none where there is no file."""
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.exists() else []
    return tuple(name for line in lines if (name := line.split("#")[0].strip()))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with writing(path) as part:
        table.to_csv(part, index=False)
