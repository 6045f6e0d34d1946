"""Verified copies between the local disk and Drive, bounded in time, and what their errors mean.

A file is copied aside, read back and compared with its source, and renamed; it keeps its source's time.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepkit.storage.bounded import ANSWER_S, seconds_for, within
from sepkit.storage.files import part_of

TRIES, WAIT_S = 3, 1.0
ROOM_FOR_RESULTS = 2 * 10**9  # bytes on Drive that a cache leaves free
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
LOST = (errno.EIO, errno.ENOTCONN, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT)
MEANING = {
    **dict.fromkeys(FULL, "there is no room left: delete something there"),
    **dict.fromkeys(READ_ONLY, "nothing can be written there"),
    **dict.fromkeys(LOST, "the connection is lost: mount Drive again"),
}


def copy_file(source: Path, copy: Path) -> None:
    """Copies one file whole, within the top folder that exists; OSError where that fails after TRIES."""
    part = copy_aside(source, copy)
    try:
        on_drive(part.replace, copy)
    except OSError:
        discard(part)
        raise


def copy_aside(source: Path, copy: Path) -> Path:
    """The temporary file beside `copy` that holds the content of `source`, and its time."""
    for attempt in range(1, TRIES + 1):
        part = part_of(copy)
        try:
            version = on_drive(source.stat)  # before the copy: a file that changes meanwhile is copied again
            limit = seconds_for(version.st_size)
            within(limit, shutil.copyfile, source, part)
            arrived = on_drive(part.stat).st_size
            if arrived != version.st_size:
                raise OSError(f"{arrived} of {version.st_size} bytes arrived")
            if within(limit, digest, part) != within(limit, digest, source):
                raise OSError("other bytes arrived than were sent")
            with suppress(OSError):  # a destination without times is compared by content
                on_drive(os.utime, part, (version.st_atime, version.st_mtime))
            return part
        except OSError as error:
            discard(part)
            if attempt == TRIES or error.errno in (*FULL, *READ_ONLY, errno.ENOENT, errno.ETIMEDOUT):
                raise
            time.sleep(WAIT_S * 2**attempt)
    raise AssertionError("unreachable")


def on_drive(call: Callable[..., Any], *arguments: Any) -> Any:
    """A call that moves few bytes, within ANSWER_S."""
    return within(ANSWER_S, call, *arguments)


def discard(part: Path) -> None:
    with suppress(OSError):
        on_drive(part.unlink, True)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def has_room(folder: Path, size: int) -> bool:
    """Whether a cache of `size` bytes leaves ROOM_FOR_RESULTS free in `folder`; a quota may still refuse it."""
    return on_drive(shutil.disk_usage, folder).free - size >= ROOM_FOR_RESULTS


def reason(error: OSError) -> str:
    """One clause on an error, its number in it."""
    number = f" (errno {error.errno})" if error.errno else ""
    return MEANING.get(error.errno or 0, error.strerror or str(error)) + number
