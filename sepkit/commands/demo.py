"""`demo`: procedural songs in the layout of MUSDB18-HQ."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", help="where the songs go")
    parser.add_argument("--seed", type=int, default=0, help="seed of the songs (default: 0)")


def run(args: Namespace) -> None:
    print(demo(args.folder, seed=args.seed))


def demo(folder: Path | str, *, seed: int = 0) -> Path:
    """Makes the procedural songs under `folder` (about half a minute, 0.7 GB) and returns it."""
    from sepkit.data.demo import make_demo_songs

    return make_demo_songs(folder, seed=seed)
