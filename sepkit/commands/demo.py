"""`demo`: procedural songs in the layout of MUSDB18-HQ."""

from pathlib import Path
from typing import Any

from sepkit.commands import SEED

ARGUMENTS = {"folder": {"help": "where the songs go"}, **SEED}


def run(folder: str, seed: int, **_: Any) -> None:
    print(demo(folder, seed=seed))


def demo(folder: Path | str, *, seed: int = 0) -> Path:
    """Makes the procedural songs under `folder` (about half a minute, 0.7 GB) and returns it."""
    from sepkit.data.demo import make_demo_songs

    return make_demo_songs(folder, seed=seed)
