"""Work over many songs or runs: joblib on this machine's cores or on a dask cluster, and its progress.

Inside `joblib.parallel_config(backend="dask")` the same calls go to the cluster, whose workers must see the same
folders. Progress is a bar where a person looks on, one plain line an item in a log, and one line for all of them in a
notebook, whose file is read later.
"""

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from types import ModuleType
from typing import Any

from joblib import Parallel, delayed

from sepkit.errors import SepkitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def spread(
    calls: Iterable[Any], *, n_jobs: int | None = -1, ahead: str = "2*n_jobs", in_order: bool = True
) -> Iterator[Any]:
    """Results of joblib's `delayed` calls, in their order (or as they come), each as soon as it is there.

    A worker process ends within a second when its caller is gone, even by a kill.
    ahead: how many calls are handed out before their turn; few where a call carries much data.
    """
    watched = (delayed(_watched)(os.getpid(), *call) for call in calls)
    with warnings.catch_warnings():
        # joblib renews a worker whose memory grew, and importing torch is enough for that; where warnings are errors,
        # this one would end the thread that all results wait for
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        kind = "generator" if in_order else "generator_unordered"
        yield from Parallel(n_jobs=n_jobs, return_as=kind, pre_dispatch=ahead)(watched)


def _watched(caller: int, call: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
    # in a process that the caller started, and that may have lost it already; dask's workers live on, and a call
    # inside a call stays in its process
    if caller != os.getpid() and (os.getppid() == caller or current_process().name.startswith("Loky")):
        end_with(caller)
    return call(*args, **options)


def end_with_parent(worker: int) -> None:
    """Where a DataLoader's worker begins; by itself it would notice its parent's end only between two batches."""
    end_with(os.getppid())


@cache
def end_with(caller: int) -> None:
    """Ends this process, at once or from a thread, when `caller` is no longer its parent."""

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(0.5)
        os._exit(1)

    if os.getppid() != caller:
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def kernel() -> Any:
    """The Jupyter kernel that this process is, or None."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None)


def logs() -> bool:
    """Whether progress is a line an item: where there is neither a terminal nor a notebook."""
    return not (kernel() or sys.stderr.isatty())


@contextlib.contextmanager
def bar(doing: str, total: int) -> Iterator[Any]:
    """A tqdm bar on a terminal and in a notebook whose front end could ask a person; anywhere else a disabled one.

    It leaves nothing: a notebook would store a widget that can't be shown again.
    """
    from tqdm.auto import tqdm

    notebook = kernel()  # papermill, nbclient and nbval send each cell with `allow_stdin` false
    person = getattr(notebook, "_allow_stdin", False) if notebook else sys.stderr.isatty()
    person = person and current_process().name == "MainProcess"
    options = {"display": False} if person and notebook else {}
    with (
        tqdm(desc=doing, total=total, leave=False, disable=not person, **options) as shown,
        contextlib.ExitStack() as end,
    ):
        if options:
            from IPython.display import display

            place = display(shown.container, display_id=True)
            end.callback(place.update, {"text/plain": ""}, raw=True)
        yield shown
        shown.total = shown.n  # an early end is no failure


def progress(items: Iterable[Any], *, doing: str, total: int, name=str, each: bool = False) -> Iterator[Any]:
    """Passes `items` on; shows `doing`, how many are done, and `name(item)` for each. each: a line each in notebooks."""
    start = time.perf_counter()
    with bar(doing, total) as shown:
        for number, item in enumerate(items, 1):
            yield item
            said = name(item)
            shown.set_postfix_str(said, refresh=False)
            shown.update()
            if logs() or (each and kernel()):
                print(f"{doing} {number}/{total} {said}", flush=True)
    if kernel() and not each:
        print(f"{doing}: {total} done in {time.perf_counter() - start:.0f} s", flush=True)


@contextlib.contextmanager
def locked(file: Path, doing: str = "", *, share: bool = False) -> Iterator[None]:
    """Holds the lock `file` alone; waits while another process has it, with a line where `doing` says what it does.

    A lock ends with its process. share: those that waited hold it together. Without locks, as on Windows and on some
    network file systems, the work goes on, with a line.
    """
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(file.open("a"))
            if not fcntl:
                raise OSError(0, "this system has no locks")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if doing:
                    print(f"{doing} by another process; waiting for it", flush=True)
                fcntl.flock(handle, fcntl.LOCK_SH if share else fcntl.LOCK_EX)
        except OSError as error:
            if doing:
                reason = error.strerror or type(error).__name__
                print(f"{file.parent} can't be locked ({reason}); use it in one process only", flush=True)
        yield


def held(file: Path) -> bool | None:
    """Whether a process on this machine holds the lock `file`; None where that can't be known."""
    try:
        with file.open() as handle:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return None


@cache
def import_librosa() -> ModuleType:
    """librosa, ready for onsets.

    Its first import on a machine compiles functions into numba's cache on the disk. Processes that do so at the same
    time can leave a cache on which every later import crashes (numba/numba#10128); so one process imports it first,
    and the others wait for it. Raises SepkitError where it can't be imported, as where that cache has no folder.
    """
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, RuntimeError):  # no home: nobody waits
                folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sepkit"
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder / "librosa.lock", share=True))
            import librosa

            librosa.onset.onset_detect  # noqa: B018  loads all that is compiled
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise SepkitError(
            f"librosa can't be imported ({reason}); set NUMBA_CACHE_DIR to a folder that can be written."
        ) from error
    return librosa
