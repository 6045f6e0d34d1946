"""Files that are complete or absent.

A file is written aside (`part_of`), flushed to the disk and renamed: a kill leaves the old file or the new one.  Readers
ignore leftovers, and `remove_leftovers` deletes them.
"""

import codecs
import errno
import json
import os
import platform
import re
import time
import unicodedata
import uuid
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

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
            to_disk(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def to_disk(file: Any) -> None:
    """fsync, where the file system knows it: some network folders refuse the call, and keep the file all the same."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def part_of(path: Path) -> Path:
    """A temporary path beside `path`, `.<name>.<host>.<process>.<token>.part`, that nobody else uses."""
    return path.with_name(file_name(f".{path.name}", f".{_host()}.{os.getpid()}.{uuid.uuid4().hex[:12]}.part"))


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
    return not psutil.pid_exists(int(process))


def write_text(path: Path, text: str) -> None:
    with writing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that are no UTF-8


def append_lines(path: Path, header: bytes, lines: list[bytes]) -> None:
    """Appends whole lines in one write, so that processes append side by side; a new file begins with `header`."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        start = [header] if not size else [b""] if file.read(1) != b"\n" else []  # a kill in the middle of a line
        file.write(b"\r\n".join([*start, *lines, b""]))


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


def text_of(raw: bytes) -> str:
    """Text of unknown encoding, in Unicode's composed form (NFC): UTF-16 or UTF-8, else Windows-1252 or Latin-1.

    >>> text_of("Caf\u00e9".encode("latin-1")) == text_of("Cafe\u0301".encode("utf-16"))
    True
    """
    encodings = ["utf-8-sig", "cp1252", "latin-1"]
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif b"\0" in raw:  # UTF-16 without a mark
        encodings = ["utf-16-le" if raw[1:2] == b"\0" else "utf-16-be"]
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            return unicodedata.normalize("NFC", raw.decode(encoding))
    return raw.decode(encodings[-1], errors="replace")  # UTF-16 that is cut off


def digest(path: Path) -> str:
    """A fingerprint of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "blake2b").hexdigest()[:32]


def file_name(name: str, suffix: str) -> str:
    """`name` + `suffix`, as UTF-8 whatever the system's encoding; where it is over 255 bytes, a digest ends the name."""
    raw, end = name.encode("utf-8", errors="surrogateescape"), suffix.encode()
    if len(raw + end) > 255:
        digest = blake2b(raw, digest_size=6).hexdigest()
        raw = raw[: 242 - len(end)].decode("utf-8", errors="ignore").encode() + f"~{digest}".encode()
    return os.fsdecode(raw + end)


def read_names(path: Path) -> tuple[str, ...]:
    """The lines of a list of songs, comments included: a name may hold #; none where there is no file."""
    try:
        lines = text_of(path.read_bytes()).splitlines() if path.exists() else []
    except OSError as error:
        raise SepkitError(
            f"Expected a list of songs in {path}, but it can't be read ({error.strerror}); write one name a line."
        ) from error
    return tuple(name for line in lines if (name := line.strip()))


def named(lines: Iterable[str], songs: Container[str]) -> tuple[set[str], list[str]]:
    """(the songs that a list names, its lines that name none); a comment begins with # where no song's name holds it.

    >>> named(["# bleed", "X - Song #3  # noise", "Y - Oen"], {"X - Song #3", "Y - One"})
    ({'X - Song #3'}, ['Y - Oen'])
    """
    found, unknown = set(), []
    for line in lines:
        parts = unicodedata.normalize("NFC", line).split("#")
        names = ["#".join(parts[:count]).strip() for count in range(len(parts), 0, -1)]
        if song := next((name for name in names if name in songs), None):
            found.add(song)
        elif names[-1]:
            unknown.append(line)
    return found, unknown


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with writing(path) as part:
        table.to_csv(part, index=False)
