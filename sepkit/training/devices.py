"""Which device, and how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from sepkit.errors import SepkitError, UsageError


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
    """Lightning's name for how a run computes: mixed precision on a GPU, on a CPU where `bfloat16` asks for it."""
    if device == "cuda":
        return "16-mixed"
    return "bf16-mixed" if bfloat16 else "32-true"


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
