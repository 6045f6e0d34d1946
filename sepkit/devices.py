"""Which device, in which precision; on a CPU, with how many threads and whose memory."""

import ctypes
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch

from sepkit.errors import SepkitError, UsageError

# glibc's mallopt: how much free memory at the heap's end goes back, and how many blocks are mapped by themselves
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEEP, RELEASE = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}, {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 2**17}


def pick_device(device: str | None) -> str:
    """`device`, or cuda where there is one; UsageError for one that is not there."""
    if device in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"There is no device {device!r}; expected cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SepkitError("A GPU was asked for (cuda), but torch finds none here; use --device cpu.")
    return device


def precision(device: str, *, bfloat16: bool) -> Literal["16-mixed", "bf16-mixed", "32-true"]:
    """Lightning's name for how a run computes: mixed precision on a GPU; on a CPU where `bfloat16` asks for it
    and the processor gains from it."""
    if device == "cuda":
        return "16-mixed"
    return "bf16-mixed" if bfloat16 and gains_from_bfloat16() else "32-true"


@cache
def gains_from_bfloat16() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16 than in float32; takes some 0.15 s.

    It is timed, since no flag says it for all kinds.  One without instructions for it takes fifty
    times as long, not a little longer.
    """
    with one_thread("cpu"):
        return _product_seconds(torch.bfloat16) < _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """CPU seconds of a product of two 256 × 256 matrices, the least of five."""
    matrix = torch.ones(256, 256, dtype=dtype)
    return min(timeit.repeat(lambda: matrix @ matrix, timer=time.process_time, number=1, repeat=5))


def autocast(device: str, *, bfloat16: bool) -> torch.autocast:
    """The context in which Lightning computes with that precision."""
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    return torch.autocast(device, dtype=dtype, enabled=precision(device, bfloat16=bfloat16) != "32-true")


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """On a CPU, one thread: a GRU's steps are too small to share, and waiting threads stall each other.

    One thread takes 3.7 s a Base step where two take 2.8 s on an idle 2-core machine and over 30 s
    on a busy one; and sums do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def kept_memory(device: str) -> Iterator[None]:
    """On a CPU, freed memory stays with the process until the end, for the next step.

    glibc hands large blocks back to the system and is given them anew, page by page and zeroed, a
    thousand times a step: 17 to 37 % of a training step's CPU time.  Kept, they raise the peak by 30
    to 40 %.  Other C libraries are left as they are.
    """
    if device == "cpu":
        _mallopt(KEEP)
    try:
        yield
    finally:
        if device == "cpu":
            _mallopt(RELEASE)


def _mallopt(options: dict[int, int]) -> None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        return
    for option, value in options.items():
        library.mallopt(option, value)
    if options is RELEASE:
        library.malloc_trim(0)
