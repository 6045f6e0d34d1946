"""The synced copy of a root on Drive.

Training and evaluation read and write the local disk; what must survive the runtime is copied to
the folder that SEPKIT_DRIVE names.  A copy is written aside, compared with its source by size and
hash as read back from the destination, and renamed.  A mount that is lost or stale is tried a few
times, then syncing pauses and says so; the work goes on, and the next push copies what is missing.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sepkit.storage import Root

TRIES, WAIT_S = 3, 1.0
PATTERNS = (
    "runs/*/*",
    "budget.csv",
    "exclude.txt",
    "scoreboard.*",
    "results/*",
    "report/*",
    "report/figures/*",
    "cache/*/*",
)


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
            return f"{len(self.copied)} files copied; everything under the root is in the copy"
        name, reason = next(iter(self.failed.items()))
        return f"NOT safe: {len(self.failed)} files are not in the copy ({name}: {reason}); the next sync tries again"


def drive_folder() -> Path | None:
    """The folder that SEPKIT_DRIVE names, or None."""
    return Path(os.environ["SEPKIT_DRIVE"]) if os.environ.get("SEPKIT_DRIVE") else None


def push(
    root: Root,
    drive: Path | None = None,
    *,
    only: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Synced | None:
    """Copies what is new or changed under the root to `drive` (or SEPKIT_DRIVE); None without a Drive.

    only: a folder below the root, such as runs/Base-s0.
    """
    drive = drive or drive_folder()
    if drive is None:
        return None
    return _copy_new(root.path, drive, _files(root.path, only), sleep)


def pull(
    root: Root, drive: Path | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> Synced | None:
    """Brings back from the copy what the local root lacks: after the runtime is gone, before work goes on.

    A file that exists locally is left as it is: the local one is at least as new.
    """
    drive = drive or drive_folder()
    if drive is None or not drive.exists():
        return None
    missing = [name for name in _files(drive) if not (root.path / name).exists()]
    return _copy_new(drive, root.path, missing, sleep)


def _files(folder: Path, only: str | None = None) -> list[str]:
    """Paths, relative to `folder`, of what is worth a copy; temporary files are not."""
    found: list[str] = []
    for pattern in PATTERNS:
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and (only is None or name.startswith(only)):
                found.append(name)
    return found


def _copy_new(
    source: Path, destination: Path, names: Iterable[str], sleep: Callable[[float], None]
) -> Synced:
    result, lost = Synced(), ""
    for name in names:
        if lost:  # one lost mount fails every file: the first few tries were enough
            result.failed[name] = lost
            continue
        try:
            if not _same(source / name, destination / name):
                _copy(source / name, destination / name, sleep)
                result.copied.append(name)
        except OSError as error:
            result.failed[name] = lost = str(error)
    return result


def _same(source: Path, copy: Path) -> bool:
    """Whether the copy is of this version of the source: its size, and not older than it."""
    if not copy.exists():
        return False
    ours, theirs = source.stat(), copy.stat()
    return ours.st_size == theirs.st_size and theirs.st_mtime >= ours.st_mtime - 1e-6


def _copy(source: Path, copy: Path, sleep: Callable[[float], None]) -> None:
    """Copies one file aside, verifies what the destination gives back, renames; OSError after TRIES."""
    part = copy.with_name(f".{copy.name}.part")
    for attempt in range(1, TRIES + 1):
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part)
            if part.stat().st_size != source.stat().st_size or _digest(part) != _digest(source):
                raise OSError(f"{part.stat().st_size} of {source.stat().st_size} bytes arrived")
            part.replace(copy)
            return
        except OSError:
            if attempt == TRIES:
                raise
            sleep(WAIT_S * 2**attempt)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
