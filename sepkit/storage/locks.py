"""Who trains a run: a lock on a file in its folder, which ends with the process that holds it, even by a kill."""

from contextlib import AbstractContextManager
from pathlib import Path

from sepkit import parallel

LOCK = ".lock"  # no sync copies or replaces it


def alone(folder: Path) -> AbstractContextManager[None]:
    """Waits, with a line, while another process trains the run in `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return parallel.locked(folder / LOCK, f"{folder.name} is being trained")


def held(folder: Path) -> bool:
    """Whether a process of this machine trains the run in `folder`; True where locks can't tell."""
    return parallel.held(folder / LOCK) is not False
