"""A call that never comes back costs its time limit once."""

import threading
import time

import pytest

from sepkit.storage import copying
from sepkit.storage.copying import within


def test_a_call_gives_its_value_or_its_error():
    assert within(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError, match="gone"):
        within(5, {}.__getitem__, "gone")


def test_after_a_hang_every_call_fails_at_once_until_the_first_is_back():
    never = threading.Event()
    with pytest.raises(TimeoutError, match="mine does not answer"):
        within(0.1, never.wait, mount="mine")
    start = time.perf_counter()
    for _ in range(5):
        with pytest.raises(TimeoutError, match="mine does not answer"):
            within(60, never.wait, mount="mine")
    assert time.perf_counter() - start < 0.1
    assert within(5, int, "3", mount="another") == 3
    never.set()
    for thread in copying._stuck["mine"]:
        thread.join(10)
    assert within(5, int, "4", mount="mine") == 4
