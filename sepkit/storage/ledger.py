"""The ledger: every minute spent, those of runs that died included, against the week's GPU hours.

A minute is a GPU minute wherever a GPU is attached.  So prepare data, evaluate and report on a CPU runtime.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from threading import Event, Thread

import pandas as pd

from sepkit.profiles import ProfileLike
from sepkit.storage.root import Root, RootLike

WEEK_HOURS = 8.0  # of a T4, the plan's
BOOK_EVERY_S = 20.0  # what a SIGKILL loses at most


class _Clock:
    """Books the seconds between `start` and `stop`, in rows of BOOK_EVERY_S by a thread."""

    def __init__(self, book: Callable[..., None]) -> None:
        self.book = book

    def start(self) -> None:
        self.since, self.stopped = time.perf_counter(), Event()
        self.thread = Thread(target=self._run, args=(self.stopped,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        try:
            self._spend()
        except OSError as error:  # the work itself is done, or has an error of its own
            print(f"budget.csv can't be written ({error}): the last minutes are not booked", flush=True)

    def _run(self, stopped: Event) -> None:
        while not stopped.wait(BOOK_EVERY_S):
            with suppress(OSError):  # a full disk: the next row holds these seconds too
                self._spend()

    def _spend(self) -> None:
        import torch  # here, so that commands that only read the ledger start without it

        cuda, now = torch.cuda.is_available(), time.perf_counter()
        vram_mib = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
        self.book(minutes=(now - self.since) / 60, gpu_attached=cuda, vram_mib=vram_mib)
        self.since = now


_running: ContextVar[_Clock | None] = ContextVar("_running", default=None)


@contextmanager
def spending(root: Root, *, run: str = "shared", stage: str, device: str, epoch: int | None = None) -> Iterator[None]:
    """Books the minutes of its block into budget.csv, also where it raises or the process is killed.

    Inside another `spending` only the inner one books.  run: "shared" for work that belongs to no single run.
    """
    clock = _Clock(partial(root.add_minutes, run=run, stage=stage, device=device, epoch=epoch))
    outer, token = _running.get(), _running.set(clock)
    if outer:
        outer.stop()
    clock.start()
    try:
        yield
    finally:
        _running.reset(token)
        clock.stop()
        if outer:
            outer.start()


def budget(root: RootLike = None, profile: ProfileLike = None) -> pd.DataFrame:
    """Minutes by run and stage, those of runs that died included: run, stage, minutes, gpu_min, vram_mib, device."""
    grouped = Root.open(root, profile).budget().groupby(["run", "stage"], sort=False, as_index=False)
    return grouped.agg({"minutes": "sum", "gpu_min": "sum", "vram_mib": "max", "device": "last"})


def hours_left(root: RootLike = None, profile: ProfileLike = None) -> float:
    """GPU hours of the week that are not spent yet."""
    return WEEK_HOURS - float(budget(root, profile)["gpu_min"].sum()) / 60
