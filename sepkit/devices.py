"""Device, precision, threads and memory."""

import ctypes
import time
import timeit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Literal

import torch

from sepkit.errors import SepkitError, UsageError

# glibc's M_MMAP_MAX, blocks mapped separately, and M_TRIM_THRESHOLD, free bytes kept: while training, and by default
MALLOPT = {-4: (0, 65536), -1: (2**31 - 1, 2**17)}


def pick_device(device: str | None) -> str:
    """`device`; for None, cuda where there is one.  UsageError or SepkitError for one that is not there."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"There is no device {device!r}; expected cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SepkitError("A GPU was asked for (cuda), but torch finds none here; use --device cpu.")
    return device


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def precision(device: str, *, bfloat16: bool) -> Literal["16-mixed", "bf16-mixed", "32-true"]:
    """Lightning's name of the precision: mixed on a GPU; on a CPU where `bfloat16` is set and faster there."""
    if device == "cuda":
        return "16-mixed"
    return "bf16-mixed" if bfloat16 and gains_from_bfloat16() else "32-true"


def autocast(device: str, *, bfloat16: bool) -> torch.autocast:
    """The context in which Lightning computes with that precision."""
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    return torch.autocast(device, dtype=dtype, enabled=precision(device, bfloat16=bfloat16) != "32-true")


@cache
def gains_from_bfloat16() -> bool:
    """Whether this CPU multiplies matrices faster in bfloat16 than in float32; takes some 0.15 s.

    It is measured, since no flag says so for all CPUs.  CPUs without BF16 instructions are about 50 times slower.
    """
    with one_thread("cpu"):
        return _product_seconds(torch.bfloat16) < _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """CPU seconds of a product of two 256 × 256 matrices, the least of five."""
    matrix = torch.ones(256, 256, dtype=dtype)
    return min(timeit.repeat(lambda: matrix @ matrix, timer=time.process_time, number=1, repeat=5))


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """One thread on a CPU: a GRU's steps are too small to share, and waiting threads stall each other.

    A Base step takes 3.7 s with one thread; with two, 2.8 s on an idle 2-core machine and over 30 s on a busy one.
    And sums do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def give_back_memory() -> None:
    """Returns what is free to the system, where the C library is glibc, which keeps it between pieces that are in use."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def kept_memory(device: str) -> Iterator[None]:
    """On a CPU with glibc, the process keeps freed memory for the next step.

    glibc would return large blocks to the system and get them again, zeroed page by page, a thousand times a step: 17
    to 37 % of a step's CPU time.  Keeping them raises the peak by 30 to 40 %.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6") if device == "cpu" else None
    except OSError:  # another C library
        glibc = None
    with ExitStack() as after:
        if glibc:
            after.callback(give_back_memory)
            for option, (kept, default) in MALLOPT.items():
                glibc.mallopt(option, kept)
                after.callback(glibc.mallopt, option, default)
        yield
