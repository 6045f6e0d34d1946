"""Progress of long work: a bar on a terminal, one plain line an item anywhere else.

A notebook that is executed headless keeps every line that is printed, so there is no bar there.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


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
