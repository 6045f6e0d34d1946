"""Calls on a mount, bounded in time: one that hangs blocks the calling thread for ever, and no signal ends it."""

import errno
import threading
from collections.abc import Callable
from typing import Any

ANSWER_S = 20.0  # for a call that moves few bytes
BYTES_PER_S = 10**6  # the slowest transfer that still counts as going on

_stuck: dict[str, list[threading.Thread]] = {}  # calls that have not come back, by mount


def within(seconds: float, call: Callable[..., Any], *arguments: Any, mount: str = "Drive") -> Any:
    """`call(*arguments)`, made in a thread of its own; its errors are raised here.

    Raises TimeoutError after `seconds`, and then at once for this mount until the stuck call has come back. A stuck
    call may still take effect later, so give it one step (a copy aside, a rename), never a decision.
    """
    stuck = [thread for thread in _stuck.get(mount, ()) if thread.is_alive()]
    if stuck:
        raise TimeoutError(errno.ETIMEDOUT, f"{mount} does not answer")
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found["value"] = call(*arguments)
        except BaseException as error:  # raised in the caller's thread
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _stuck[mount] = [*stuck, thread]
        raise TimeoutError(errno.ETIMEDOUT, f"{mount} does not answer")
    if "error" in found:
        raise found["error"]
    return found["value"]


def seconds_for(size: int) -> float:
    """The time limit of a call that moves `size` bytes."""
    return ANSWER_S + size / BYTES_PER_S
