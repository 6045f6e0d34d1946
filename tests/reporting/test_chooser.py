"""The chooser: menus that change what is heard, and the twin that needs no kernel."""

import threading
import time

import numpy as np
import pytest

from sepkit.errors import SepkitError
from sepkit.reporting.chooser import BUSY, Chooser
from sepkit.storage.excerpts import Excerpt, choose, keep

RATE = 8000


@pytest.fixture
def calls() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def estimates(calls):
    def give(run: str, song: str) -> dict[str, np.ndarray]:
        calls.append((run, song))
        vocals = np.zeros((2, 8 * RATE))
        vocals[:, 5 * RATE : 7 * RATE] = 0.3 * np.sin(np.arange(2 * RATE) / 3)
        rest = 0.1 * np.ones_like(vocals)
        return {
            "mixture": vocals + rest,
            "vocals": vocals,
            "vocals estimate": vocals / 2,
            "accompaniment": rest,
            "accompaniment estimate": rest + vocals / 2,
        }

    return give


@pytest.fixture
def lately(root):
    """The week with an easy and a hard song, of which Base and C keep excerpts."""
    choose(root, {"Easy": None, "Hard": None})
    for gain, name in enumerate(("Base-s0", "C-s0"), 1):
        for song in ("Easy", "Hard"):
            clip = np.full((2, 8 * RATE), 0.1, np.float32)
            keep(
                root.run(name),
                Excerpt(song, 12.0, RATE, {"mixture": clip, "vocals": clip, "vocals estimate": clip * gain}),
            )
    return root


def shown(place, words, seconds=120.0):
    """What the place says as soon as it has `words` and is not busy."""
    end = time.monotonic() + seconds
    while place.value == BUSY or words not in place.value:
        assert time.monotonic() < end, place.value[:300]
        time.sleep(0.01)
    return place.value


def test_static_twin_holds_easy_and_hard_song(week, estimates, helpers):
    page = Chooser(week, estimates=estimates, sample_rate=RATE).static_html()
    assert page.count("<audio controls") == 2 * (2 + 2 * 3)  # mixture, truth; three runs and their errors
    assert helpers.songs[11] in page  # Base's best
    assert helpers.songs[0] in page  # and worst
    assert "5 s from 2 s" in page  # where the vocals are
    assert all(f"vocals, {name}" in page for name in ("Base-s0", "C-s0", "D-s0"))  # the best


def test_kept_excerpts_are_shown_and_nothing_is_separated(lately, estimates, calls):
    found = Chooser(lately, estimates=estimates, sample_rate=RATE)
    assert list(found.songs.values())[:2] == ["Easy (easy)", "Hard (hard)"]
    page = found.page("Hard", "C-s0", "vocals")
    assert "C-s0 · Hard (hard) · vocals" in page
    assert "from 12 s" in page
    assert page.count("<audio controls") == 4  # with the error
    assert "D-s0 keeps no excerpt of Hard" in found.page("Hard", "D-s0", "vocals")
    assert "C-s0 has no accompaniment estimate of Hard" in found.page("Hard", "C-s0", "accompaniment")
    assert "Easy (easy)" in found.static_html()
    assert calls == []


def test_heading_player_and_picture_are_one_piece(week, estimates, calls):
    pytest.importorskip("ipywidgets")
    menus, place = Chooser(week, estimates=estimates, sample_rate=RATE).widget().children
    song, run, source = menus.children
    assert run.options[-2:] == ("mixture", "oracle")
    first = shown(place, f"Base-s0 · {song.value} · vocals")
    assert first.count("data:image/png") == 1
    seen = []
    place.observe(lambda change: seen.append(change["new"]), names="value")
    run.value = "C-s0"
    second = shown(place, f"C-s0 · {song.value} · vocals")
    assert "vocals, C-s0" in second
    assert "Base-s0" not in second
    assert len(seen) == 2  # busy, then the page
    assert seen[0] == BUSY
    source.value = "accompaniment"
    shown(place, f"C-s0 · {song.value} · accompaniment")
    assert calls == [("Base-s0", song.value), ("C-s0", song.value)]  # each was asked for once


def test_of_quick_choices_only_the_first_and_the_last_are_made(week, helpers):
    pytest.importorskip("ipywidgets")
    asked, go_on = [], threading.Event()

    def slow(run: str, song: str) -> dict[str, np.ndarray]:
        asked.append((run, song))
        assert go_on.wait(30)
        clip = np.full((2, RATE), 0.1)
        return {"mixture": clip, "vocals": clip, "vocals estimate": clip}

    menus, place = Chooser(week, estimates=slow, sample_rate=RATE).widget().children
    song, run, _ = menus.children
    seen = []
    place.observe(lambda change: seen.append(change["new"]), names="value")
    for name in ("C-s0", "D-s0", "G-s0", "C-s0", "D-s0"):
        run.value = name
    go_on.set()
    shown(place, "D-s0 · ")
    assert asked == [("Base-s0", song.value), ("D-s0", song.value)]
    assert [page for page in seen if "<audio" in page] == [place.value]  # a stale one is never shown


def test_an_error_is_shown_and_the_next_choice_works(week, estimates):
    pytest.importorskip("ipywidgets")

    def broken(run: str, song: str) -> dict[str, np.ndarray]:
        if run == "C-s0":
            raise ValueError("no <such> thing")
        return estimates(run, song)

    menus, place = Chooser(week, estimates=broken, sample_rate=RATE).widget().children
    menus.children[1].value = "C-s0"
    assert "ValueError: no &lt;such&gt; thing" in shown(place, "C-s0 · ")
    menus.children[1].value = "Base-s0"
    assert "<audio" in shown(place, "Base-s0 · ")


def test_missing_source_is_a_sentence(week):
    both = Chooser(week, estimates=lambda run, song: {"mixture": np.zeros(RATE)}, sample_rate=RATE)
    assert "has no vocals estimate" in both.static_html()


def test_runs_of_four_sources_have_no_place_beside_those_of_two(root, estimates, helpers):
    helpers.add(root, "A-4-s0", helpers.rows("A-4-s0", helpers.base_db, protocol="4stem"))
    found = Chooser(root, estimates=estimates, sample_rate=RATE)
    assert "A-4-s0" not in found.runs
    assert found.sources == ["vocals", "accompaniment"]
    both = Chooser(root, estimates=estimates, runs=["A-4-s0", "Base-s0"], sample_rate=RATE)
    assert both.sources == ["vocals"]


def test_unscored_runs_are_refused(week, estimates):
    with pytest.raises(SepkitError, match="E-s0 is not scored"):
        Chooser(week, estimates=estimates, runs=["E-s0"])
