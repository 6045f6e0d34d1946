"""What the last sync left on both sides, so that a change is told from a deletion and the side that changed is known."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepkit.storage.files import write_json

Entry = list[Any]  # digest, size, time here, time on Drive (ns)


@dataclass
class Synced:
    """What a push or pull did; `safe` is True where nothing failed."""

    copied: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # name: why
    kept: list[str] = field(default_factory=list)  # where the losers of two changed copies lie
    deleted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    up: bool = True
    whole: bool = False  # all of the root was asked for

    @property
    def safe(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        kept = [f"two copies differed, the one that lost is kept in {place}" for place in self.kept]
        if self.failed:
            name, why = next(iter(self.failed.items()))
            text = f"NOT safe: {len(self.failed)} files are not copied ({name}: {why}); the next sync tries again"
        else:
            every = ["everything is in the copy"] if self.whole else []
            text = "; ".join([f"{len(self.copied)} files {'copied' if self.up else 'fetched'}", *every])
        return "; ".join([text, *kept, *self.notes])


class Record:
    """`.synced.json` of a root: for each of its copies the copy's id and the files that were equal on both sides."""

    def __init__(self, root: Path, copy: Path) -> None:
        self.path, self.copy = root / ".synced.json", str(copy)
        mine = self._load().get(self.copy, {})
        self.id: str | None = mine.get("id")
        self.files: dict[str, Entry] = mine.get("files", {})
        self._changed: dict[str, Entry | None] = {}

    def _load(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        return {}

    def set(self, name: str, entry: Entry | None) -> None:
        """Remembers a file that is equal on both sides; None forgets it."""
        if entry != self.files.get(name):
            self._changed[name] = entry
            self.files |= {name: entry} if entry else {}
            if entry is None:
                self.files.pop(name, None)

    def changed(self, files: dict[str, tuple[int, int]], *, up: bool) -> list[str]:
        """Those of `files`, {name: (size, time)} here or else on Drive, that are not as after the last sync."""
        entries = {name: entry for name, entry in self.files.items() if entry}
        return [n for n in files if n not in entries or (entries[n][1], entries[n][2 if up else 3]) != files[n]]

    def forget(self) -> None:
        """Another copy, or a root that was emptied: nothing of it was synced before."""
        self._changed |= dict.fromkeys(self.files)
        self.files = {}

    def save(self) -> None:
        """Writes what changed into the record as it is now, which other processes write too."""
        every = self._load()
        mine = every.get(self.copy, {})
        files = {**mine.get("files", {}), **self._changed}
        now = {"id": self.id, "files": {n: e for n, e in files.items() if e}}
        if now != mine:
            write_json(self.path, {**every, self.copy: now})
        self._changed = {}
