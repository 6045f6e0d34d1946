"""Who trains a run: a lock on a file in its folder, which ends with the process that holds it, even by a kill."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # no sync copies or replaces it


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits, with a line, while another process trains the run in `folder`."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / LOCK).open("a"))
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print(f"{folder.name} is being trained by another process; waiting for it", flush=True)
                    fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            print(f"{folder.name}: {folder} can't be locked ({reason}); train it in one process only", flush=True)
        yield


def held(folder: Path) -> bool:
    """Whether a process of this machine trains the run in `folder`; True where locks can't tell."""
    if not fcntl:
        return True
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # another process has it; or a file system without locks
        return True
    return False
