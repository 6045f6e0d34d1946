"""The easy and the hard song in the report: a player a song, a picture an experiment, and what is missing is said."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from sepkit.reporting import songs
from sepkit.reporting.scoreboard import collect
from sepkit.reporting.tables import page
from sepkit.storage.excerpts import Excerpt, choose, keep

RATE = 8000
EASY, HARD = "Band X - Easy", "Band Y - <Hard>"


@pytest.fixture
def heard(root):
    """C has excerpts of both songs, Base of the easy one, D and G none; C is half as loud as the target."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 2, RATE * 2)).astype(np.float32)
    choose(root, {EASY: None, HARD: None})
    for run, share in (("Base-s0", 0.9), ("C-s0", 0.5)):
        for song in (EASY, HARD)[: 1 if run == "Base-s0" else 2]:
            clips = {"mixture": noise.sum(axis=0), "vocals": noise[0], "vocals estimate": share * noise[0]}
            keep(root.run(run), Excerpt(song, 3.0, RATE, clips))
    return root


def sound(address: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(base64.b64decode(address.partition(",")[2])))[0]


def test_a_player_a_song_and_a_picture_an_experiment(heard):
    head, easy, hard = songs.listening_blocks(heard, collect(heard))
    assert (easy.heading, hard.heading) == (f"Easy: {EASY}", f"Hard: {HARD}")
    assert [picture.alt.partition(",")[0] for picture in easy.pictures] == ["Base", "C"]
    assert [picture.alt.partition(",")[0] for picture in hard.pictures] == ["C"]
    assert "-20.0 dB against the target" in easy.pictures[0].alt and "-6.0 dB" in easy.pictures[1].alt
    assert easy.paragraphs == [f"No excerpt is kept of G, D: {songs.HOW}."]
    assert hard.paragraphs == [f"No excerpt is kept of Base, G, D: {songs.HOW}."]
    image = Image.open(io.BytesIO(base64.b64decode(easy.pictures[0].source.partition(",")[2])))
    assert image.width > 700 and image.height > 300
    assert easy.html.count("<audio controls") == 2 + 2 * 2  # each estimate with its error
    assert "&lt;Hard&gt;" in hard.html and "<Hard>" not in page("t", blocks=[head, easy, hard])


@pytest.fixture
def sounds_only(monkeypatch):
    monkeypatch.setattr(songs, "_picture", lambda *_: None)


def test_levels_between_estimates_stay(heard, sounds_only):
    html = songs.listening_blocks(heard, collect(heard))[1].html
    rms = {}
    for part in html.split("<audio ")[1:]:
        name, source = part.partition('aria-label="')[2].partition('"')[0], part.partition('src="')[2].partition('"')[0]
        rms[name] = np.sqrt((sound(source) ** 2).mean())
    assert 20 * np.log10(rms["C"] / rms["target"]) == pytest.approx(-6.0, abs=0.3)
    assert 20 * np.log10(rms["error of Base"] / rms["target"]) == pytest.approx(-20.0, abs=0.5)


def test_many_experiments_shorten_the_clips_so_that_the_page_stays_small(heard, sounds_only, monkeypatch):
    monkeypatch.setattr(songs, "SOUND_BYTES", 80e3)
    easy, hard = songs.listening_blocks(heard, collect(heard))[1:]
    addresses = re.findall(r'src="([^"]*)"', easy.html + hard.html)
    assert len(addresses) == 10 and sum(map(len, addresses)) < 1.3 * 80e3  # short clips have more overhead
    assert "1.0 s;" in easy.html


def test_without_excerpts_a_sentence_says_how_to_make_them(root):
    (block,) = songs.listening_blocks(root, collect(root))
    assert block.paragraphs == [f"No excerpts are kept yet: {songs.HOW}."]
