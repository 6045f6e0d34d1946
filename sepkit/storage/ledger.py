"""The ledger: every minute spent, those of runs that died included, against the week's GPU hours; and the session's end.

A minute is a GPU minute wherever a GPU is attached.  So prepare data, evaluate and report on a CPU runtime.  A stage
books its own minutes (`spending`); what no stage books, as between two cells of a notebook, the process's clock does.

SEPKIT_HOURS: GPU hours of the week (the plan's 8); SEPKIT_SESSION_HOURS: how long this session lasts (12 in Colab);
SEPKIT_STARTED: when it began, in seconds since 1970, where that was not with this process.
"""

import atexit
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from threading import Event, RLock, Thread
from typing import Any

import pandas as pd
import psutil

from sepkit.errors import UsageError
from sepkit.profiles import ProfileLike
from sepkit.storage.root import Root, RootLike

WEEK_HOURS = 8.0  # of a T4, the plan's
COLAB_HOURS = 12.0  # after which Colab ends a session, if not earlier
BOOK_EVERY_S = 20.0  # what a SIGKILL loses at most
LEAST_S = 0.5  # the process's clock writes no shorter rows


def gpu_now() -> tuple[bool, float]:
    """(whether a GPU is attached, its peak memory in MiB)."""
    import torch  # here, so that commands that only read the ledger start without it

    attached = torch.cuda.is_available()
    return attached, torch.cuda.max_memory_allocated() / 2**20 if attached else 0.0


class _Clock:
    """Books seconds while it runs, in rows of BOOK_EVERY_S by a thread; whoever holds it lets it go on again."""

    def __init__(self, root: Root, least_s: float = 0.0, **row: Any) -> None:
        self.root, self.least_s, self.row = root, least_s, row
        self.held, self.owed, self.since, self.lock = 1, 0.0, 0.0, RLock()

    def go_on(self, ago_s: float = 0.0) -> None:
        with self.lock:
            self.held -= 1
            if self.held:
                return
            self.since, self.stopped = time.perf_counter() - ago_s, Event()
            self.thread = Thread(target=self._run, args=(self.stopped,), daemon=True)
            self.thread.start()
            _running.add(self)

    def hold(self) -> None:
        with self.lock:
            self.held += 1
            if self.held > 1:
                return
            self.stopped.set()
            _running.discard(self)
            try:
                self.book()
            except OSError as error:  # the work itself is done, or has an error of its own
                print(f"budget.csv can't be written ({error}): the last minutes are not booked", flush=True)
            self.owed += time.perf_counter() - self.since

    def _run(self, stopped: Event) -> None:
        while not stopped.wait(BOOK_EVERY_S):
            with suppress(OSError), self.lock:  # a full disk: the next row holds these seconds too
                if not stopped.is_set():
                    self.book()

    def book(self, least_s: float | None = None) -> None:
        """Writes what is not booked yet, from `least_s` on (by default the clock's own)."""
        with self.lock:
            now = time.perf_counter()
            spent = self.owed + now - self.since
            least_s = self.least_s if least_s is None else least_s
            if spent < least_s or (self.least_s and not ("torch" in sys.modules and self.root.path.is_dir())):
                return
            gpu, vram_mib = gpu_now()
            self.root.add_minutes(minutes=spent / 60, gpu_attached=gpu, vram_mib=vram_mib, **self.row)
            self.owed, self.since = 0.0, now


_stage: ContextVar[_Clock | None] = ContextVar("_stage", default=None)
_running: set[_Clock] = set()  # of this process
_process: list[_Clock] = []  # its own clock, if any, which books what no stage does


@contextmanager
def spending(
    root: Root, *, run: str = "shared", stage: str, device: str, epoch: int | None = None, gpus: int = 1
) -> Iterator[None]:
    """Books the minutes of its block into budget.csv, also where it raises or the process is killed.

    Inside another `spending` only the inner one books.  run: "shared" for work that belongs to no single run; gpus: how
    many count, where there are any.
    """
    clock = _Clock(root, run=run, stage=stage, device=device, epoch=epoch, gpus=gpus)
    outer = _stage.get() or next(iter(_process), None)
    token = _stage.set(clock)
    if outer:
        outer.hold()
    clock.go_on()
    try:
        yield
    finally:
        _stage.reset(token)
        clock.hold()
        if outer:
            outer.go_on()


def open_clock(root: Root, stage: str) -> None:
    """Books what no `spending` books until this process ends: since its start (or SEPKIT_STARTED), or the last call."""
    ago_s = 0.0 if _process else time.time() - max(process_started(), session_started())
    close_clock()
    _process.append(_Clock(root, LEAST_S, run="shared", stage=stage, device="cpu"))
    _process[0].go_on(max(0.0, ago_s))


@atexit.register
def close_clock() -> None:
    """Books what the process's clock has left, and ends it."""
    while _process:
        _process.pop().hold()


@contextmanager
def workers_book() -> Iterator[None]:
    """The process's clock waits while workers book their own minutes."""
    with ExitStack() as after:
        for clock in _process:
            clock.hold()
            after.callback(clock.go_on)
        yield


def book_now(root: Root) -> None:
    """Writes the seconds that clocks of this process have not booked yet."""
    for clock in [clock for clock in _running if clock.root == root]:
        with suppress(OSError):
            clock.book(least_s=0.006)  # the last digit of a row's minutes


def budget(root: RootLike = None, profile: ProfileLike = None) -> pd.DataFrame:
    """Minutes by run and stage, those of runs that died included: run, stage, minutes, gpu_min, vram_mib, device."""
    grouped = Root.open(root, profile).budget().groupby(["run", "stage"], sort=False, as_index=False)
    return grouped.agg({"minutes": "sum", "gpu_min": "sum", "vram_mib": "max", "device": "last"})


def week_hours(hours: float | None = None) -> float:
    """GPU hours that the week may take: `hours`, or SEPKIT_HOURS, or the plan's; UsageError where they are none."""
    return _above_0("hours", os.environ.get("SEPKIT_HOURS") or WEEK_HOURS if hours is None else hours)


def hours_left(root: RootLike = None, profile: ProfileLike = None, hours: float | None = None) -> float:
    """GPU hours of the week (see `week_hours`) that are not spent yet; below 0 where more were spent."""
    return week_hours(hours) - float(Root.at(root, profile).budget()["gpu_min"].sum()) / 60


def session_length(hours: float | None = None) -> float:
    """Hours that this session lasts: `hours`, or SEPKIT_SESSION_HOURS, or Colab's; inf elsewhere."""
    default = COLAB_HOURS if "COLAB_RELEASE_TAG" in os.environ else math.inf
    return _above_0("session hours", os.environ.get("SEPKIT_SESSION_HOURS") or default if hours is None else hours)


def session_started() -> float:
    """SEPKIT_STARTED, or when this process began; as time.time()."""
    with suppress(ValueError):
        return float(os.environ.get("SEPKIT_STARTED", ""))
    return process_started()


def out_of_time(
    root: Root, next_s: float = 0.0, gpus: int = 1, *, hours: float | None = None, session_hours: float | None = None
) -> str | None:
    """Why work of `next_s` seconds on so many GPUs does not fit any more, and what to do; None where it does."""
    limit, length, lasted = week_hours(hours), session_length(session_hours), time.time() - session_started()
    spent = limit - hours_left(root, hours=limit)
    needed = f", and the next epoch takes {next_s / 60:.1f} minutes" if next_s else ""
    if gpu_now()[0] and 3600 * (limit - spent) <= gpus * next_s:
        return f"{spent:.2f} of the week's {limit:g} GPU hours are spent{needed}; evaluate and report what is finished (without a GPU that costs none), or give more hours (--hours or SEPKIT_HOURS)"
    if 3600 * length - lasted <= next_s:
        return (
            f"this session has lasted {lasted / 3600:.2f} of {length:g} hours{needed}; the same call goes on in "
            f"a new session (SEPKIT_SESSION_HOURS or --session-hours), with {limit - spent:.2f} of the week's {limit:g} "
            "GPU hours left"
        )
    return None


@cache
def process_started() -> float:
    """When this process began, as time.time()."""
    return psutil.Process().create_time()


def _above_0(what: str, given: Any) -> float:
    with suppress(ValueError):
        if (value := float(given)) > 0:  # nan is not
            return value
    raise UsageError(f"Expected {what} above 0, got {given}.")
