"""Verified copies between the local disk and Drive, bounded in time, and what their errors mean.

A file is copied aside, read back and compared with its source, and renamed; it keeps its source's time.  A call on a
mount that hangs blocks its thread for ever, and no signal ends it: `within` gives up on it.
"""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sepkit.storage.files import digest, part_of

ANSWER_S = 20.0  # for a call that moves few bytes
BYTES_PER_S = 10**6  # the slowest transfer that still counts as going on
TRIES, WAIT_S = 3, 1.0
LIST_S = 60.0  # for a look at a whole folder
ROOM_FOR_RESULTS = 2 * 10**9  # bytes on Drive that a cache leaves free
NO_ROOM, NO_ROOM_S = ".no-room", 24 * 3600.0  # how long a cache that did not fit is left alone, and its mark
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
LOST = (errno.EIO, errno.ENOTCONN, errno.ENODEV, errno.ESTALE)
MEANING = {
    **dict.fromkeys(FULL, "there is no room left, delete something"),
    **dict.fromkeys(READ_ONLY, "nothing can be written there"),
    **dict.fromkeys(LOST, "the connection is lost, mount Drive again"),
    errno.ETIMEDOUT: "Drive does not answer, mount it again",
}

_stuck: dict[str, list[threading.Thread]] = {}  # calls that have not come back, by mount


class NotThere(OSError):
    """A file on Drive that is not whole yet: Drive shows names before contents."""


@dataclass(frozen=True)
class Copied:
    """A whole copy that waits to be renamed, and what it is a copy of."""

    part: Path
    digest: str
    version: tuple[int, int]  # size and time (ns) of the source


def within(seconds: float, call: Callable[..., Any], *arguments: Any, mount: str = "Drive") -> Any:
    """`call(*arguments)`, made in a thread of its own; its errors are raised here.

    Raises TimeoutError after `seconds`, and then at once for this mount until the stuck call has come back. A stuck
    call may still take effect later, so give it one step (a copy aside, a rename), never a decision.
    """
    stuck = [thread for thread in _stuck.get(mount, ()) if thread.is_alive()]
    if stuck:
        raise TimeoutError(errno.ETIMEDOUT, f"{mount} does not answer")
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found["value"] = call(*arguments)
        except BaseException as error:  # raised in the caller's thread
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _stuck[mount] = [*stuck, thread]
        raise TimeoutError(errno.ETIMEDOUT, f"{mount} does not answer")
    if "error" in found:
        raise found["error"]
    return found["value"]


def seconds_for(size: int) -> float:
    """The time limit of a call that moves `size` bytes."""
    return ANSWER_S + size / BYTES_PER_S


def copy_file(source: Path, copy: Path) -> None:
    """Copies one file whole; its folder must exist.  OSError where that fails after TRIES."""
    part = copy_aside(source, copy).part
    try:
        on_drive(part.replace, copy)
    except OSError:
        discard(part)
        raise


def copy_aside(source: Path, copy: Path) -> Copied:
    """The content of `source`, and its time, in a temporary file beside `copy`."""
    attempt = 1
    while True:
        part = part_of(copy)
        try:
            size, time_ns = version_of(source)  # before the copy: a file that changes meanwhile is copied again
            limit = seconds_for(size)
            within(limit, shutil.copyfile, source, part)
            arrived = version_of(part)[0]
            if arrived != size:
                raise OSError(f"{arrived} of {size} bytes arrived")
            content = within(limit, digest, part)
            if content != within(limit, digest, source):
                raise OSError("other bytes arrived than were sent")
            with suppress(OSError):  # a destination without times is compared by content
                on_drive(partial(os.utime, part, ns=(time_ns, time_ns)))
            return Copied(part, content, (size, time_ns))
        except OSError as error:
            discard(part)
            if attempt == TRIES or error.errno in (*FULL, *READ_ONLY, errno.ENOENT, errno.ETIMEDOUT):
                raise
            time.sleep(WAIT_S * 2**attempt)
            attempt += 1


def on_drive(call: Callable[..., Any], *arguments: Any) -> Any:
    """A call that moves few bytes, within ANSWER_S."""
    return within(ANSWER_S, call, *arguments)


def version_of(path: Path) -> tuple[int, int]:
    """(size, time of change in ns)."""
    found = on_drive(path.stat)
    return found.st_size, found.st_mtime_ns


def discard(part: Path) -> None:
    with suppress(OSError):
        on_drive(part.unlink, True)


def has_room(folder: Path, size: int) -> bool:
    """Whether `size` bytes more in a cache's `folder` leave ROOM_FOR_RESULTS free; no, for a day after they did not."""
    with suppress(FileNotFoundError):
        if time.time() - version_of(folder.parent / NO_ROOM)[1] / 1e9 < NO_ROOM_S:
            return False
    existing = next(each for each in (folder, *folder.parents) if on_drive(each.exists))
    return on_drive(shutil.disk_usage, existing).free - size >= ROOM_FOR_RESULTS


def no_room(caches: Path) -> None:
    """Leaves the mark that caches had to give way: a quota is not seen before it is reached."""
    with suppress(OSError):
        on_drive((caches / NO_ROOM).touch)


def reason(error: OSError) -> str:
    """One clause on an error, its number in it."""
    if error.errno is None:
        return str(error)
    return f"{MEANING.get(error.errno, error.strerror)} (errno {error.errno})"
