"""Work over many songs or runs: joblib on this machine's cores or on a dask cluster (`on_cluster`), and its progress.

Progress is a bar where a person looks on, one plain line an item in a log, and one line for all of them in a
notebook, whose file is read later.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from sepkit.errors import SepkitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CLUSTER_S = 30  # how long a cluster may take to answer


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


@contextlib.contextmanager
def on_cluster(address: str | None, *folders: Path | None) -> Iterator[bool]:
    """Sends what `spread` does in its block to the dask cluster whose scheduler has this address, as tcp://host:8786.

    None: SEPKIT_CLUSTER, else this machine, as without it. Yields whether there is a cluster. Work of a worker that is
    killed goes to another one. Raises SepkitError, before any work, where no cluster answers or one of its workers does
    not see all that lies in `folders` here.
    """
    if not (address := address or os.environ.get("SEPKIT_CLUSTER")):
        yield False
        return
    try:
        from distributed import Client, KilledWorker

        client = Client(address, timeout=CLUSTER_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CLUSTER_S)
    except ImportError as error:
        raise SepkitError("A cluster needs dask, which is not here: pip install 'dask[distributed]'.") from error
    except (OSError, ValueError) as error:
        raise SepkitError(f"No dask cluster with a worker answers at {address} ({error}); start it first.") from error
    with client:
        for folder in filter(None, folders):
            _same_folder(client, folder)
        try:
            with parallel_config(backend="dask", client=client):
                yield True
        except KilledWorker as error:
            raise SepkitError(f"Several workers of {address} ended in the same work: {error}") from error


def _same_folder(client: Any, folder: Path) -> None:
    mark = folder / f".{uuid.uuid4().hex}"
    with contextlib.suppress(OSError):  # one that is only read is known by its content
        mark.touch()
    try:
        here = _names(folder)
        for worker, there in client.run(_names, folder, on_error="return").items():
            if type(there).__name__ == "CommClosedError":  # it has ended meanwhile
                continue
            if isinstance(there, Exception):
                raise SepkitError(f"The worker {worker} lacks this sepkit ({there}); install the same there.")
            if missing := here - there:
                raise SepkitError(
                    f"The worker {worker} does not see the same {folder} ({len(missing)} of {len(here)} entries are not there); all workers need that folder under the same path, as on a network drive."
                )
    finally:
        mark.unlink(missing_ok=True)


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208


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
def locked(file: Path, doing: str = "") -> Iterator[None]:
    """Holds the lock `file` alone; waits while another process has it, with a line where `doing` says what it does.

    A lock ends with its process. Without locks, as on Windows and on some
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
                fcntl.flock(handle, fcntl.LOCK_EX)
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
