"""Two versions of a ledger or of a run: what one has that the other lacks, and which is further along."""

import csv
import io
import json
from dataclasses import dataclass

# of a row of history.csv: what training decided; the rest is time and memory of the machine
DECIDED = ("epoch", "train_loss", "valid_loss", "valid_sdr", "learning_rate")


def missing_rows(ledger: bytes, other: bytes) -> list[bytes]:
    """Lines of the ledger `other` whose rows `ledger` lacks, headers left out.

    A row is known by its id; one without (written before there were ids) by its text.  What is left of a row that was
    cut short is no row of its own.
    """
    whole = ledger.splitlines()
    known = {_identity(line) for line in whole}
    missing = [line for line in other.splitlines() if line and _identity(line) not in known | {b"header"}]
    return [line for line in missing if _has_id(line) or not any(row.startswith(line) for row in whole)]


def _identity(line: bytes) -> bytes:
    if line.startswith(b"time,run,"):
        return b"header"
    return _fields(line)[8].encode("utf-8", "surrogateescape") if _has_id(line) else line


def _has_id(line: bytes) -> bool:
    fields = _fields(line)
    return len(fields) > 8 and len(fields[8]) == 32


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8", "surrogateescape")]), [])


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
