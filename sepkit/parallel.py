"""Work over many tracks or runs: joblib, on this machine's cores or on a dask cluster, and its progress.

Inside `joblib.parallel_config(backend="dask")` the same calls go to the cluster, whose workers have
to see the same folders.  What workers that begin together must not do at one time is here too.

Progress is a bar on a terminal and one plain line an item anywhere else: a notebook that is executed
headless keeps every line that is printed.
"""

import fcntl
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from joblib import Parallel
from tqdm import tqdm

Item = TypeVar("Item")


def spread(calls: Iterable[Any], *, n_jobs: int | None = -1, ahead: str = "2*n_jobs") -> Iterator[Any]:
    """Results of joblib's `delayed` calls in their order, as they come.

    ahead: how many calls are handed out before their turn, for those that carry much.
    """
    with warnings.catch_warnings():
        # joblib renews a worker whose memory grew (importing torch is enough); that is its business,
        # and under "warnings are errors" the warning would end the thread that all results wait for
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        yield from Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=ahead)(calls)


def on_terminal() -> bool:
    return sys.stderr.isatty()


def progress(items: Iterable[Item], *, doing: str, total: int, name=str) -> Iterator[Item]:
    """Passes `items` on; shows `doing`, how many are done, and `name(item)` for each."""
    if on_terminal():
        yield from tqdm(items, desc=doing, total=total, leave=False)
        return
    for number, item in enumerate(items, 1):
        yield item
        print(f"{doing} {number}/{total} {name(item)}", flush=True)


@cache
def import_librosa() -> ModuleType:
    """librosa, ready for onsets; in processes that begin together, first in one of them, then in all others.

    Its first import on a machine compiles functions with numba into a cache on the disk.  Processes
    that do so at one time can leave halves that don't belong together, on which every later import
    crashes with a segmentation fault (numba/numba#10128).
    """
    lock = Path(tempfile.gettempdir()) / f"sepkit-librosa-{os.getuid()}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another one compiles or reads; readers don't wait for each other
            fcntl.flock(file, fcntl.LOCK_SH)
        import librosa

        librosa.onset.onset_detect  # noqa: B018  loaded at first touch, with all that is compiled
    return librosa
