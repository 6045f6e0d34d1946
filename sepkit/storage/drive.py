"""The synced copy of a root on Drive.

What must survive the runtime is copied to the folder that SEPKIT_DRIVE names.  A copy is written aside, read back and
compared with its source, and renamed; it keeps its source's time, which tells versions apart.  After a few tries of a
lost mount the sync says so and ends, work goes on, and the next push copies what is missing.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sepkit.storage.root import SYNCED, Root, roots_folder

TRIES, WAIT_S = 3, 1.0
SAME_TIME_NS = 10**6  # Drive keeps milliseconds
Only = str | tuple[str, ...] | None


@dataclass
class Synced:
    """What a push or pull did; `safe` is True where the copy holds everything."""

    copied: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def safe(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        if self.safe:
            return f"{len(self.copied)} files copied; everything is in the copy"
        name, reason = next(iter(self.failed.items()))
        return f"NOT safe: {len(self.failed)} files are not copied ({name}: {reason}); the next sync tries again"


def drive_folder(root: Root) -> Path | None:
    """The copy of `root`: SEPKIT_DRIVE, or for a root below SEPKIT_ROOT the same path below SEPKIT_DRIVE; or None."""
    if not os.environ.get("SEPKIT_DRIVE"):
        return None
    drive, roots = Path(os.environ["SEPKIT_DRIVE"]).expanduser().absolute(), roots_folder().resolve()
    return drive / root.path.relative_to(roots) if root.path.is_relative_to(roots) else drive


def _levels(drive: Path) -> list[Path]:
    """The folders above `drive` that a push may make: SEPKIT_DRIVE and those below it."""
    top = Path(os.environ.get("SEPKIT_DRIVE") or drive).expanduser().absolute()
    return [folder for folder in reversed(drive.parents) if folder.is_relative_to(top)]


def push(root: Root, drive: Path | None = None, *, only: Only = None) -> Synced | None:
    """Copies what is new or changed under the root to `drive` (or SEPKIT_DRIVE); None without a Drive.

    only: a folder or file below the root, or several, as runs/Base-s0.  The result says what failed: no OSError.
    """
    drive = drive or drive_folder(root)
    if drive is None:
        return None
    names = _files(root.path, only)
    try:
        # the folder, never its parents: without the mount they would be made on the local disk
        for folder in (*_levels(drive), drive):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        return Synced(failed=dict.fromkeys(names, f"Drive is not mounted: {error}"))
    return _copy_new(root.path, drive, names)


def pull(root: Root, drive: Path | None = None, *, only: Only = None) -> Synced | None:
    """Copies from Drive what the local root lacks; None without a Drive.  Local files stay as they are."""
    drive = drive or drive_folder(root)
    try:
        if drive is None or not drive.exists():
            return None
        missing = [name for name in _files(drive, only) if not (root.path / name).exists()]
    except OSError as error:  # a lost mount can't even be listed
        return Synced(failed={str(drive): str(error)})
    return _copy_new(drive, root.path, missing)


def _files(folder: Path, only: Only = None) -> list[str]:
    """Paths, relative to `folder`, of what is synced; temporary files are not."""
    wanted = (only,) if isinstance(only, str) else only
    paths = [path for pattern in SYNCED for path in sorted(folder.glob(pattern))]
    names = [path.relative_to(folder).as_posix() for path in paths if path.name[0] != "." and path.is_file()]
    return [name for name in names if wanted is None or any(Path(name).is_relative_to(each) for each in wanted)]


def _copy_new(source: Path, destination: Path, names: Iterable[str]) -> Synced:
    result, lost = Synced(), ""
    for name in names:
        if lost:  # one lost mount fails every file: the first few tries were enough
            result.failed[name] = lost
            continue
        try:
            if not _same(source / name, destination / name):
                _copy(source / name, destination / name)
                result.copied.append(name)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and str(error.filename) == str(source / name):
                continue  # deleted while the others were copied
            result.failed[name] = lost = str(error)
    return result


def _same(source: Path, copy: Path) -> bool:
    """Whether the copy is of this version of the source: equal sizes, and equal times or equal content."""
    ours, theirs = source.stat(), copy.stat() if copy.exists() else None
    if theirs is None or ours.st_size != theirs.st_size:
        return False
    return abs(ours.st_mtime_ns - theirs.st_mtime_ns) < SAME_TIME_NS or _digest(source) == _digest(copy)


def _copy(source: Path, copy: Path) -> None:
    """Copies one file aside, verifies what the destination gives back, renames; OSError after TRIES."""
    part = copy.with_name(f".{copy.name}.part")
    for attempt in range(1, TRIES + 1):
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            version = source.stat()  # before the copy: a file that changes meanwhile is copied again
            shutil.copyfile(source, part)
            arrived = part.stat().st_size
            if arrived != version.st_size:
                raise OSError(f"{arrived} of {version.st_size} bytes arrived")
            if _digest(part) != _digest(source):
                raise OSError("other bytes arrived than were sent")
            with suppress(OSError):  # a destination without times is compared by content
                os.utime(part, ns=(version.st_atime_ns, version.st_mtime_ns))
            part.replace(copy)
            return
        except OSError:
            if attempt == TRIES:
                raise
            time.sleep(WAIT_S * 2**attempt)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
