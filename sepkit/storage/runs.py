"""How a run moves between a root and its copy: as a whole, and never backwards."""

import csv
import io
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sepkit.parallel import held
from sepkit.storage.copying import (
    TRIES,
    WAIT_S,
    Copied,
    NotThere,
    discard,
    on_drive,
    reason,
    seconds_for,
    version_of,
    within,
)
from sepkit.storage.files import write_text
from sepkit.storage.root import LOCK

if TYPE_CHECKING:
    from sepkit.storage.sync import Sync

CHECKPOINTS = ("best.ckpt", "previous.ckpt", "last.ckpt")
ORDER = ("config.json", "history.csv", *CHECKPOINTS, "status.json")  # as training writes; then evaluation's files
TRAINED = {"config.json", "history.csv", "best.ckpt", "last.ckpt", "status.json"}
MANIFEST = ".whole.json"  # beside a run on Drive: what its files should be, so that one that is not there yet is known
# of a row of history.csv: what training decided; the rest is time and memory of the machine
DECIDED = ("epoch", "train_loss", "valid_loss", "valid_sdr", "learning_rate")
Versions = dict[str, str]  # name: digest


@dataclass(frozen=True)
class Progress:
    """How far a copy of a run is: its rank, which compares, and what training decided so far, epoch by epoch."""

    rank: tuple[bool, bool, int]  # finished and scored, finished, epochs
    config: bytes
    epochs: list[tuple[str | None, ...]]

    @classmethod
    def of(cls, files: dict[str, bytes]) -> "Progress":
        """files: content of config.json, history.csv and status.json, and scores.csv where there is one."""
        try:
            finished = json.loads(files.get("status.json", b"{}")).get("state") == "finished"
        except (ValueError, AttributeError):
            finished = False
        rows = csv.DictReader(io.StringIO(files.get("history.csv", b"").decode(errors="replace")))
        epochs = [tuple(row.get(name) for name in DECIDED) for row in rows]
        rank = finished and "scores.csv" in files, finished, len(epochs)
        return cls(rank, files.get("config.json", b""), epochs)

    def begins(self, other: "Progress") -> bool:
        """Whether `other` is this run, trained further: nothing of this copy is lost with it."""
        return self.config == other.config and self.epochs == other.epochs[: len(self.epochs)]

    def __str__(self) -> str:
        scored, finished, epochs = self.rank
        state = "finished and scored" if scored else "finished" if finished else "not finished"
        return f"{epochs} epochs, {state}"


def sync_run(sync: "Sync", unit: str, names: list[str]) -> None:
    """Syncs one run; a pull waits a little for files that are not whole on Drive yet."""
    for attempt in range(1, TRIES + 1):
        try:
            return _sync(sync, unit, names)
        except NotThere:
            if sync.up or attempt == TRIES:
                raise
        time.sleep(WAIT_S * 2**attempt)
        for name in names:
            with suppress(FileNotFoundError):
                sync.there[name] = version_of(sync.drive / name)


def _sync(sync: "Sync", unit: str, names: list[str]) -> None:
    if not sync.up and held(sync.root / unit / LOCK):
        return  # it is being trained here
    sync.late, sync.expected = set(), _manifest(sync, unit)
    every = sorted({*names, *sync.expected}, key=_order)
    here: Versions = {name: found for name in every if (found := sync.digest_here(name))}
    there: Versions = {name: found for name in every if (found := sync.digest_there(name))}
    base: Versions = {name: found for name in every if (found := sync.base(name))}
    again = sync.late & here.keys() if sync.up else set()  # what has not arrived is sent again
    differing = [name for name in every if here.get(name) != there.get(name) or name in again]
    if not here and base and there == base:
        for name in reversed(every):
            sync.delete(name)
        on_drive((sync.drive / unit / MANIFEST).unlink, True)
    elif not there and base and here == base:
        for name in here:
            sync.aside(name, sync.root)
            sync.settle(name, None)
    elif differing:
        names, losers = _chosen(sync, unit, differing, here, there, base)
        _move(sync, unit, names, losers, here, there)
    if not differing:
        for name in every:
            sync.settle(name, here.get(name))


def _chosen(
    sync: "Sync", unit: str, differing: list[str], here: Versions, there: Versions, base: Versions
) -> tuple[list[str], list[str]]:
    """(names to copy in the direction of this sync, names of the losing side that are more than a beginning: kept)."""
    new_here = [name for name in differing if here.get(name) != base.get(name)]
    new_there = [name for name in differing if there.get(name) != base.get(name)]
    if not here or not there:
        return differing if bool(here) == sync.up else [], []
    trained = {f"{unit}/{name}" for name in TRAINED}
    if here.keys() & there.keys() & trained and not trained & {*differing}:  # one training, scored here or there
        newer = {name for name in new_here if name not in there or (name in here and sync.newer(name))}
        ours = [name for name in differing if name not in new_there or name in newer]
        return ours if sync.up else [name for name in differing if name not in ours], []
    if not new_there and sync.late:
        return differing if sync.up else [], []  # what is on its way is what was pushed from here
    mine, theirs = _progress(sync, unit, here, up=True), _progress(sync, unit, there, up=False)
    wins, loser, source, target = (mine, theirs, here, there) if sync.up else (theirs, mine, there, here)
    new, other = (new_there, new_here) if sync.up else (new_here, new_there)
    beginning = loser.begins(wins)
    if wins.rank < loser.rank or (wins.rank == loser.rank and (not other or (new and not beginning))):
        if not wins.begins(loser) and (sync.up or wins.rank == loser.rank):
            raise OSError(
                f"Drive holds another copy of this run ({theirs}), as far along as the one here ({mine}) or more"
            )
        return [], []
    if beginning:
        return differing, [name for name in new if name in target and name not in source]
    return sorted({*here, *there}, key=_order), list(target if new else ())


def _move(sync: "Sync", unit: str, names: list[str], losers: list[str], here: Versions, there: Versions) -> None:
    """Copies files aside, keeps the `losers`, renames in the order in which training writes, and deletes the rest."""
    source, target = (here, there) if sync.up else (there, here)
    copies: dict[str, Copied | None] = {}
    last, previous = f"{unit}/last.ckpt", f"{unit}/previous.ckpt"
    there_now = {*names} & sync.there.keys() - sync.late
    moved = not losers and last in there_now and source.get(previous) == target.get(last)
    try:
        for name in [name for name in names if name in source]:
            if sync.up and name == previous and moved:
                continue  # Drive has it, as its last.ckpt
            try:
                copies[name] = sync.copy(name)
            except FileNotFoundError:
                if (sync.root / name).exists() or not sync.up:
                    raise
                return  # it is being replaced here: the next sync takes the run
            except OSError as error:  # one file that does not fit does not stop the others
                if not sync.up or losers or sync.lost(error):
                    raise
                sync.result.failed[name] = reason(error)
        stale = {name for name in names if name in sync.result.failed and name in target}
        for name in losers:
            sync.aside(name, sync.drive if sync.up else sync.root)
        for name in names:
            held_back = name == f"{unit}/status.json" and stale  # it would call finished what is not there
            if held_back or (moved and name == previous and last in stale):
                sync.result.failed.setdefault(name, f"waits for {min(stale)}")
            elif name == previous and name not in copies and last in copies and name in source:
                on_drive((sync.drive / last).replace, sync.drive / previous)
                sync.there[previous] = sync.there.pop(last)
                sync.settle(previous, source[name])
            elif (copied := copies.get(name)) is not None:
                copies[name] = None
                sync.rename(copied, name)
    finally:
        for copied in copies.values():
            if copied is not None:
                discard(copied.part)
    gone = [name for name in names if name not in source]
    if sync.up:  # before the deletions: a file that is not listed is no harm, a listed one that is gone is awaited
        whole = {name: entry for name in {*here, *there}.difference(gone) if (entry := sync.record.files.get(name))}
        content = {name.rpartition("/")[2]: [entry[0], entry[1], entry[3]] for name, entry in whole.items()}
        on_drive(write_text, sync.drive / unit / MANIFEST, json.dumps(content, indent=1))
    for name in gone:
        if sync.up:
            sync.delete(name)
        else:
            (sync.root / name).unlink(missing_ok=True)
            sync.here.pop(name, None)
            sync.settle(name, None)


def _manifest(sync: "Sync", unit: str) -> dict[str, tuple[str, int, int]]:
    """{name: (digest, size, time)} of the run's files on Drive; empty where there is no such list."""
    try:
        listed = json.loads(on_drive((sync.drive / unit / MANIFEST).read_text))
    except (FileNotFoundError, ValueError):
        return {}
    found = {f"{unit}/{name}": tuple(entry) for name, entry in listed.items()}
    last, previous = f"{unit}/last.ckpt", f"{unit}/previous.ckpt"
    if last not in sync.there and last in found and sync.there.get(previous) == found[last][1:]:
        found[previous] = found.pop(last)  # a kill between the two renames of `_move`
    return found


def _progress(sync: "Sync", unit: str, versions: Versions, *, up: bool) -> Progress:
    files: dict[str, bytes] = {"scores.csv": b""} if f"{unit}/scores.csv" in versions else {}
    for name in ("config.json", "history.csv", "status.json"):
        path = f"{unit}/{name}"
        if path in versions and up:
            files[name] = (sync.root / path).read_bytes()
        elif path in versions:
            if path in sync.late:
                raise NotThere(f"{path} is not whole on Drive yet")
            files[name] = within(seconds_for(sync.there[path][0]), (sync.drive / path).read_bytes)
    return Progress.of(files)


def _order(path: str) -> tuple[int, str]:
    name = path.rpartition("/")[2]
    return ORDER.index(name) if name in ORDER else len(ORDER), name
