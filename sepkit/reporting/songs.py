"""What each run makes of the easy and of the hard song, for eye and ear: blocks of the report, from kept excerpts."""

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image as Pixels

from sepkit.reporting.canvas import Picture
from sepkit.reporting.player import player
from sepkit.reporting.scoreboard import Board
from sepkit.reporting.settings import runs_of
from sepkit.reporting.spectra import song_view
from sepkit.reporting.tables import Block, Image
from sepkit.storage import Root
from sepkit.storage.excerpts import SECONDS, Excerpt, easy_and_hard, kept

SOUND_BYTES = 2.4e6  # of all players together, so that the report stays under 5 MB
KBIT_S = 48
HOW = "the notebook of its day keeps them, or in Python sepkit.evaluation.listening.excerpts(run)"


def listening_blocks(root: Root, board: Board) -> list[Block]:
    """A block a song: one player with all estimates and their errors, then a picture of every trained experiment."""
    runs = {name: own[0] for each in board.sections if not each.folds for name, own in runs_of(root, each).items()}
    songs = easy_and_hard(root)
    head = Block("The easy and the hard song", [
        "Base's best and worst validation song, the same two for all: the 8 s with the loudest vocals. One level scale for "
        "all columns of a picture, one gain for all clips of a player; an error is estimate − target."])  # fmt: skip
    if not songs or not runs:
        return [Block(head.heading, [f"No excerpts are kept yet: {HOW}."])]
    found = {song: {name: kept(run, song) for name, run in runs.items()} for song in dict.fromkeys(songs)}
    count = sum(2 + 2 * sum(map(bool, by_name.values())) for by_name in found.values())
    seconds = min(SECONDS, SOUND_BYTES / (count * KBIT_S * 1000 / 8 * 4 / 3))
    there = {song: {name: each for name, each in by_name.items() if each} for song, by_name in found.items()}
    blocks = [head]
    import IPython.display  # noqa: F401  before the thread: matplotlib, too, looks at it, and not while it is half imported

    with ThreadPoolExecutor(1) as beside:  # sounds are encoded outside Python's lock, pictures are drawn inside it
        players = {song: beside.submit(_player, own, seconds, song) for song, own in there.items()}
        for kind, (song, own) in zip(("Easy", "Hard"), there.items(), strict=False):
            lacking = ", ".join(name for name in found[song] if name not in own)
            said = [f"No excerpt is kept of {lacking}: {HOW}."] if lacking else []
            pictures = [_picture(name, excerpt) for name, excerpt in own.items()]
            html = players[song].result()
            blocks.append(Block(f"{kind}: {song}", said, pictures=pictures, html=html, level=3))
    return blocks


def excerpt_view(excerpt: Excerpt, title: str) -> Picture:
    """Mixture, target, estimate and difference of an excerpt's vocals."""
    columns = {"mixture": "mixture", "target": "vocals", "estimate": "vocals estimate"}
    clips = {column: excerpt.clips[name] for column, name in columns.items()}
    return song_view(clips, excerpt.sample_rate, start_s=excerpt.start_s, title=title)


def excerpts_player(there: Mapping[str, Excerpt], target: str, **options: Any) -> Any:
    """One player of the mixture, the vocals, which it calls `target`, and what runs make of them, by name, at one gain.

    options: title, seconds and kbit_s, as of `player`.
    """
    first = next(iter(there.values()))
    clips = {"mixture": first.clips["mixture"], target: first.clips["vocals"]}
    clips |= {name: excerpt.clips["vocals estimate"] for name, excerpt in there.items()}
    return player(clips, first.sample_rate, error=[(name, target) for name in there], **options)


def _picture(name: str, excerpt: Excerpt) -> Image:
    view = excerpt_view(excerpt, name)
    error = excerpt.clips["vocals estimate"] - excerpt.clips["vocals"]
    level = 10 * np.log10((error**2).sum() / (excerpt.clips["vocals"] ** 2).sum())
    alt = f"{name}, {excerpt.song}: mixture, target, estimate and their difference, waveforms and mel spectrograms; the difference is {level:+.1f} dB against the target."
    return Image(_webp(view), alt, "")


def _webp(view: Picture) -> str:
    """As a data: address, in a third of a PNG's bytes."""
    buffer = io.BytesIO()
    Pixels.open(io.BytesIO(view._repr_png_())).convert("RGB").save(buffer, "WEBP", quality=60, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _player(there: dict[str, Excerpt], seconds: float, song: str) -> Markup:
    """The player of all estimates; not printed."""
    if not there:
        return Markup()
    page = excerpts_player(there, "target", seconds=seconds, title=song, kbit_s=KBIT_S)
    return Markup('<div class="screen">{}</div>').format(Markup(page.data))
