"""Files that are complete or absent.

A file is written as `.<name>.<process>.part` beside its place, flushed to the disk and renamed: a kill leaves the old
file or the new one.  Readers ignore leftovers, and the next writer replaces them.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files in `folder` whose writers are dead (on this machine)."""
    for part in folder.glob(".*.part"):
        try:
            os.kill(int(part.name.split(".")[-2]), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            continue


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
