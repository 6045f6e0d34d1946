"""`demo`: procedural songs in the layout of MUSDB18-HQ."""

from typing import Any

from sepkit.commands import SEED
from sepkit.data.demo.songs import make_demo_songs as demo

ARGUMENTS = {"folder": {"help": "where the songs go"}, **SEED}


def run(folder: str, seed: int, **_: Any) -> None:
    print(demo(folder, seed=seed))
