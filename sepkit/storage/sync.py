"""One sync of a root with its copy, unit by unit: the ledger, a run as a whole, any other file.

Each version of a file is known by its digest, and compared with the one that both sides had after the last sync: so the
side that changed is known, and a deletion is told from a file that is not there yet.  Where both changed, the ledger
becomes the union of its rows, the run that is further along wins, the newer of other files; a loser that is not the
beginning of the winner is kept, under kept/.  A file on Drive that is empty, or shorter than what was written, is not
there yet: it is never taken.  On a full Drive a cache gives way to results.
"""

import errno
import json
import os
import time
import zipfile
from contextlib import suppress
from pathlib import Path

from sepkit.storage.copying import (
    FULL,
    LIST_S,
    ROOM_FOR_RESULTS,
    TRIES,
    Copied,
    NotThere,
    copy_aside,
    digest,
    discard,
    has_room,
    no_room,
    on_drive,
    reason,
    seconds_for,
    version_of,
    within,
)  # fmt: skip
from sepkit.storage.files import append_lines
from sepkit.storage.record import Record, Synced
from sepkit.storage.root import BUDGET_HEADER
from sepkit.storage.runs import sync_run
from sepkit.storage.spreadsheets import ledger_lines, make_plain, missing_lines

LEDGER = "budget.csv"
PLACES = ("budget.csv", "exclude.txt", "runs", "scoreboard", "results", "report", "torch", "cache")  # what comes first
SAME_TIME_NS = 10**6  # Drive keeps milliseconds
PACK_ABOVE = 200 * 10**6  # bytes: a larger cache is packed (`data.packs`), not copied song by song
Files = dict[str, tuple[int, int]]  # name: (size, time in ns)


class Sync:
    """What `run` does to the two sides, told in `result`."""

    def __init__(self, root: Path, drive: Path, record: Record, here: Files, there: Files, result: Synced) -> None:
        self.root, self.drive, self.record, self.result = root, drive, record, result
        self.here, self.there, self.up = here, there, result.up
        self.stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self.expected: dict[str, tuple[str, int, int]] = {}  # of the run in work: digest, size, time on Drive
        self.late: set[str] = set()

    def run(self, known: set[str]) -> None:
        """Syncs every unit; known: names that were there at the last sync."""
        units: dict[str, list[str]] = {}
        for name in sorted({*self.here, *self.there, *known}, key=lambda name: (_place(name), name)):
            unit = name.rpartition("/")[0] if name.startswith(("runs/", "cache/")) else name
            units.setdefault(unit, []).append(name)
        lost = ""
        for unit, names in units.items():
            try:
                if lost:
                    raise OSError(lost)
                self._unit(unit, names)
            except OSError as error:
                lost = lost or self.lost(error)
                asked = self.here if self.up else self.there
                changed = self.record.changed({name: asked[name] for name in names if name in asked}, up=self.up)
                for name in changed or ([] if lost and self.result.failed else [unit]):
                    self.result.failed[name] = lost or reason(error)
            self.record.save()

    def lost(self, error: OSError) -> str:
        """Why nothing else can be copied either, "" where it can: one lost mount fails every file."""
        if error.errno in (errno.ENOTCONN, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.EROFS):
            return reason(error)
        try:
            on_drive(self.drive.stat)
        except OSError as gone:
            return f"Drive is not mounted any more: {reason(gone)}"
        return ""

    def _unit(self, unit: str, names: list[str]) -> None:
        if unit == LEDGER:
            self._ledger()
        elif unit.startswith("runs/"):
            sync_run(self, unit, names)
        elif unit.startswith("cache/"):
            self._cache(unit, names)
        else:
            self.single(unit)

    def _ledger(self) -> None:
        """The union of both ledgers' rows; written, read back, and written again where another runtime came between."""
        ours, theirs, entry = self.root / LEDGER, self.drive / LEDGER, self.record.files.get(LEDGER)
        target = theirs if self.up else ours
        for _ in range(TRIES + 1):
            size = self.there.get(LEDGER, (0, 0))[0]
            limit = seconds_for(size)
            here = ledger_lines(ours.read_bytes() if ours.exists() else b"")
            there = ledger_lines(within(limit, theirs.read_bytes) if LEDGER in self.there else b"")
            count = len(there) + 1  # with its header
            if LEDGER in self.there and (not size or count < (entry[1] if entry else 0)):
                raise NotThere(f"{size} bytes are on Drive, the rest is not there yet")  # rows are only ever added
            rows = missing_lines(there, here) if self.up else missing_lines(here, there)
            if not rows:
                self.record.set(LEDGER, ["rows", count, 0, 0])
                return
            try:
                within(limit, make_plain, target, BUDGET_HEADER)
                within(limit, append_lines, target, BUDGET_HEADER, rows)
            except OSError as error:
                if error.errno not in FULL or not self.up or not self._make_room():
                    raise
            self.there[LEDGER] = version_of(theirs)
            self.result.copied += [LEDGER] if LEDGER not in self.result.copied else []
        raise OSError("another runtime writes it all the time")

    def _cache(self, unit: str, names: list[str]) -> None:
        """The songs of a small cache, its manifest last; a large one lies packed on Drive, which is not done here."""
        sizes = [sum(side[name][0] for name in names if name in side) for side in (self.here, self.there)]
        if max(sizes) > PACK_ABOVE or any(name.endswith(".zip") for name in names):
            packed = 0
            with suppress(FileNotFoundError, ValueError):
                packs = json.loads(on_drive((self.drive / unit / "packs.json").read_text))
                packed = sum(len(facts["songs"]) for facts in packs.values())
            self.result.whole &= packed >= sum(name.endswith(".h5") for name in names if name in self.here)
            return
        new = sum(self.here[name][0] for name in names if name in self.here and name not in self.there)
        if self.up and new and not has_room(self.drive / unit, new):
            raise OSError(f"no room for {new / 1e6:.0f} MB beside {ROOM_FOR_RESULTS / 1e9:.0f} GB for results")
        try:
            for name in sorted(names, key=lambda name: (name.endswith("manifest.json"), name)):
                self.single(name)
        except OSError as error:
            if self.up and error.errno in FULL:
                self._make_room()
            raise

    def _make_room(self) -> bool:
        """Deletes caches on Drive until results have room; False where none is left."""
        freed = 0
        for folder in within(LIST_S, lambda: sorted((self.drive / "cache").glob("*"))):
            files = within(LIST_S, lambda folder=folder: sorted(folder.glob("*"), key=lambda f: f.suffix != ".json"))
            for file in files if freed < ROOM_FOR_RESULTS else ():  # the manifest first: what is left is not whole
                freed += version_of(file)[0]
                self.delete(file.relative_to(self.drive).as_posix())
        if freed:
            no_room(self.drive / "cache")
            self.result.whole = False
            self.result.notes.append(f"{freed / 1e6:.0f} MB of caches on Drive gave way to results")
        return bool(freed)

    # versions

    def digest_here(self, name: str) -> str | None:
        """The digest of the local file; None where there is none."""
        if name not in self.here:
            return None
        entry = self.record.files.get(name)
        if entry and (entry[1], entry[2]) == self.here[name]:
            return entry[0]
        try:
            return digest(self.root / name)
        except FileNotFoundError:  # deleted meanwhile
            del self.here[name]
            return None

    def digest_there(self, name: str) -> str | None:
        """The digest of the file on Drive, of what it should become where it is not whole yet; None without one."""
        found, expected, entry = self.there.get(name), self.expected.get(name), self.record.files.get(name)
        if found is None:
            self.late |= {name} if expected else set()
            return expected[0] if expected else None
        if entry and (entry[1], entry[3]) == found:
            return entry[0]
        expected = expected or ((entry[0], entry[1], entry[3]) if entry else None)
        if expected and (expected[1], expected[2]) == found:
            return expected[0]
        if expected and found[0] < expected[1] and (not found[0] or found[1] <= expected[2]):
            self.late.add(name)
            return expected[0]
        ours = self.here.get(name)
        if ours and ours[0] == found[0] and abs(ours[1] - found[1]) < SAME_TIME_NS:
            return self.digest_here(name)
        if not found[0]:
            raise NotThere(f"{name} is empty on Drive, not there yet")
        return within(seconds_for(found[0]), digest, self.drive / name)

    def settle(self, name: str, content: str | None) -> None:
        """Both sides hold this version of the file, or neither holds one; one that is still late keeps its entry."""
        if name in self.late and name in self.there:
            return
        gone = content is None or name not in self.here or name not in self.there
        self.record.set(name, None if gone else [content, self.here[name][0], self.here[name][1], self.there[name][1]])

    # one file

    def single(self, name: str) -> None:
        """Any file but the ledger and those of runs: the side that changed wins, of two the newer one."""
        here, there, base = self.digest_here(name), self.digest_there(name), self.base(name)
        if here == there:
            self.settle(name, here)
        elif here is None and base == there:
            self.delete(name)
        elif there is None and base == here:
            if not name.startswith("cache/"):  # room was made there; work goes on here
                self.aside(name, self.root)
                self.settle(name, None)
        else:
            up = there is None or base == there or (base != here and here is not None and self.newer(name))
            both = None not in (here, there) and base not in (here, there)
            if both and up == self.up and name == "exclude.txt":  # the others are made again from the runs
                self.aside(name, self.drive if up else self.root)
            if up == self.up:
                self.rename(self.copy(name), name)

    def newer(self, name: str) -> bool:
        return self.here[name][1] >= self.there[name][1]

    def base(self, name: str) -> str | None:
        entry = self.record.files.get(name)
        return entry[0] if entry else None

    def copy(self, name: str) -> Copied:
        """The file, copied aside in the direction of this sync; a cache makes room for results."""
        if name in self.late and not self.up:
            raise NotThere(f"{name} is not whole on Drive yet")
        source, top = (self.root, self.drive) if self.up else (self.drive, self.root)
        if name.startswith("runs/") and name.endswith((".ckpt", ".json")) and on_drive(_cut_short, source / name):
            raise OSError(f"{name} is cut short: training or evaluating the run brings it back")
        for folder in [(top / name).parents[i] for i in reversed(range(name.count("/")))]:
            on_drive(folder.mkdir, 0o777, False, True)  # below the copy only: a mount that is gone is not made
        try:
            return copy_aside(source / name, top / name)
        except OSError as error:
            if error.errno not in FULL or not self.up or name.startswith("cache/") or not self._make_room():
                raise
            return copy_aside(source / name, top / name)

    def rename(self, copied: Copied, name: str) -> None:
        target = (self.drive if self.up else self.root) / name
        try:
            on_drive(copied.part.replace, target)
            self.late.discard(name)
            ours, theirs = (self.here, self.there) if self.up else (self.there, self.here)
            ours[name], theirs[name] = copied.version, version_of(target)
        except OSError:
            discard(copied.part)
            raise
        self.result.copied.append(name)
        self.settle(name, copied.digest)

    def delete(self, name: str) -> None:
        """Deletes on Drive what was deleted here."""
        on_drive((self.drive / name).unlink, True)
        self.there.pop(name, None)
        self.record.set(name, None)
        self.result.deleted.append(name)

    def aside(self, name: str, top: Path) -> None:
        """Keeps the file of a side that loses, under kept/; Drive has no links, so there it moves."""
        kept = top / "kept" / self.stamp / name
        for folder in [kept.parents[i] for i in reversed(range(name.count("/") + 2))]:
            on_drive(folder.mkdir, 0o777, False, True)
        mine, other = (self.here, self.there) if top == self.root else (self.there, self.here)
        try:
            if name not in other:
                raise OSError("nothing takes its place")
            on_drive(os.link, top / name, kept)
        except OSError:
            on_drive((top / name).replace, kept)
            mine.pop(name, None)
        place = str(top / "kept" / self.stamp)
        self.result.kept += [place] if place not in self.result.kept else []


def _place(name: str) -> int:
    return next((place for place, start in enumerate(PLACES) if name.startswith(start)), len(PLACES))


def _cut_short(file: Path) -> bool:
    """Whether a checkpoint, which is a ZIP archive, or a JSON file lacks its end."""
    with file.open("rb") as content:
        start = content.read(4)
        if file.suffix == ".ckpt":
            return start in (b"", b"PK\3\4") and not zipfile.is_zipfile(file)
        content.seek(max(0, file.stat().st_size - 4))
        return start[:1] in (b"", b"{") and not content.read().rstrip().endswith(b"}")
