"""The copy of a root on Drive, kept equal in both directions.

`pull` takes what is new or further along on Drive, `push` gives what is new or further along here; `sync` decides, by
content and progress.  A copy has an id that the root remembers, so that no other folder is taken for it, and neither
call makes a folder that only a mount may make.  No fault of Drive raises: the result says what was not copied, and why.
"""

import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from sepkit.storage.copying import LIST_S, on_drive, reason, within
from sepkit.storage.files import left_over, write_text
from sepkit.storage.record import Record, Synced
from sepkit.storage.root import SYNCED, Root, roots_folder
from sepkit.storage.sync import LEDGER, Files, Sync

__all__ = ["Synced", "drive_folder", "pull", "push", "standing", "tell"]
MARK = ".sepkit-copy"  # the file that holds a copy's id
Only = str | tuple[str, ...] | None


def drive_folder(root: Root) -> Path | None:
    """The copy of `root`: SEPKIT_DRIVE, or for a root below SEPKIT_ROOT the same path below SEPKIT_DRIVE; or None."""
    if not os.environ.get("SEPKIT_DRIVE"):
        return None
    drive, roots = Path(os.environ["SEPKIT_DRIVE"]).expanduser().absolute(), roots_folder().resolve()
    return drive / root.path.relative_to(roots) if root.path.is_relative_to(roots) else drive


def push(root: Root, drive: Path | None = None, *, only: Only = None) -> Synced | None:
    """Copies what is new or further along under the root to `drive` (or `drive_folder`); None without a Drive.

    only: a folder or file below the root, or several, as runs/Base-s0.  The result says what failed: no OSError.
    """
    return _sync(root, drive, only, up=True)


def pull(root: Root, drive: Path | None = None, *, only: Only = None) -> Synced | None:
    """Copies what is new or further along on Drive to the root; None without a Drive.  Arguments as for `push`."""
    return _sync(root, drive, only, up=False)


def tell(name: str, synced: Synced | None) -> None:
    """Prints what a person should know of a sync of `name`: what came from Drive, what is not safe, what is kept."""
    if synced is not None and (not synced.safe or synced.kept or synced.notes or (synced.copied and not synced.up)):
        print(f"{name}: {'Drive' if synced.up else 'from Drive'}: {synced}", flush=True)


def standing(root: Root) -> tuple[Path | None, str]:
    """(the copy of `root`, None without one; why it can't be used now, "" where it can or is yet to be made)."""
    drive = drive_folder(root)
    if drive is None:
        return None, ""
    try:
        _identify(drive, Record(root.path, drive), make=False)
    except OSError as error:
        return drive, reason(error)
    return drive, ""


def _sync(root: Root, drive: Path | None, only: Only, *, up: bool) -> Synced | None:
    drive = drive or drive_folder(root)
    if drive is None:
        return None
    result, here, record = Synced(up=up, whole=up and only is None), Files(), Record(root.path, drive)
    try:
        here = _files(root.path, only)
        if not _identify(drive, record, make=up):
            return result  # the first day: the first push makes the copy
        there = within(LIST_S, _files, drive, only)
    except OSError as error:
        result.failed = dict.fromkeys(record.changed(here, up=True) or [str(drive)], reason(error))
        return result
    if LEDGER in record.files and not (root.path / LEDGER).exists():
        record.forget()  # an emptied root asks for no deletions
    known = {name for name in record.files if _wanted(name, only)}
    try:
        Sync(root.path, drive, record, here, there, result).run(known)
        record.save()
    except OSError as error:
        result.failed[str(root.path)] = reason(error)
    return result


def _identify(drive: Path, record: Record, *, make: bool) -> bool:
    """Whether the copy is there, made where `make` says so.  OSError where Drive is not mounted or holds another."""
    mount, levels = os.environ.get("SEPKIT_MOUNT"), [*_levels(drive), drive]
    if mount and drive.is_relative_to(mount) and not on_drive(os.path.ismount, mount):
        raise OSError(f"Drive is not mounted at {mount}")
    try:
        on_drive(levels[0].parent.stat)
    except FileNotFoundError:
        raise OSError(f"Drive is not mounted: there is no folder {levels[0].parent}") from None
    found = ""
    with suppress(FileNotFoundError):
        found = on_drive((drive / MARK).read_text).strip()
        if not found:
            raise OSError(f"{drive / MARK} is empty, not yet whole")
    if record.id and not found:
        raise OSError(
            f"{drive} is not the copy that this root was synced with ({MARK} is missing there): mount Drive again, or, where the copy was deleted, delete {record.path} too"
        )
    if not found and make:
        for folder in levels:
            on_drive(folder.mkdir, 0o777, False, True)
        on_drive(write_text, drive / MARK, uuid.uuid4().hex)
        found = on_drive((drive / MARK).read_text).strip()  # another runtime's, where both began at once
    if record.id and record.id != found:
        record.forget()
    record.id = found or None
    return bool(found) or on_drive(os.path.isdir, drive)


def _levels(drive: Path) -> list[Path]:
    """The folders above `drive` that a push may make: SEPKIT_DRIVE and those below it."""
    top = Path(os.environ.get("SEPKIT_DRIVE") or drive).expanduser().absolute()
    return [folder for folder in reversed(drive.parents) if folder.is_relative_to(top)]


def _wanted(name: str, only: Only) -> bool:
    wanted = (only,) if isinstance(only, str) else only
    return wanted is None or any(Path(name).is_relative_to(each) for each in wanted)


def _files(folder: Path, only: Only = None) -> Files:
    """{name relative to `folder`: (size, time in ns)} of what is synced; temporary files that are left over go."""
    found, wanted = Files(), (only,) if isinstance(only, str) else only
    tops = None if wanted is None else {each.split("/")[0] for each in wanted}
    for pattern in SYNCED:
        if tops is not None and pattern.split("/")[0] not in tops:
            continue
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            with suppress(FileNotFoundError):
                if path.name.startswith("."):
                    if path.name.endswith(".part") and left_over(path):
                        path.unlink()
                elif _wanted(name, only) and stat.S_ISREG((kind := path.stat()).st_mode):
                    found[name] = kind.st_size, kind.st_mtime_ns
    return found
