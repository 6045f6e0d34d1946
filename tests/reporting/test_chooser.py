"""The chooser: menus that change what is heard, and the twin that needs no kernel."""

import numpy as np
import pytest

from sepkit.errors import SepkitError
from sepkit.reporting.chooser import Chooser

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


def test_static_twin_holds_easy_and_hard_song_without_script(week, estimates, helpers):
    page = Chooser(week, estimates=estimates, sample_rate=RATE, seconds=2).static_html()
    assert page.count("<audio controls") == 2 * (2 + 3)  # mixture, truth, three runs
    assert helpers.songs[11] in page  # Base's best
    assert helpers.songs[0] in page  # and worst
    assert "from 5 s" in page  # where the vocals are


def test_menus_change_player_and_picture(week, estimates, calls):
    pytest.importorskip("ipywidgets")
    box = Chooser(week, estimates=estimates, sample_rate=RATE, seconds=2).widget()
    (song, run, source), sound, picture = box.children[0].children, *box.children[1:]
    assert calls == [("Base-s0", song.value)]
    assert run.options[-2:] == ("mixture", "oracle")
    before, image = sound.value, bytes(picture.value)
    assert before.count("<audio controls") == 3
    assert image.startswith(b"\x89PNG")
    run.value = "C-s0"
    assert "vocals, C-s0" in sound.value
    source.value = "accompaniment"
    assert "accompaniment, C-s0" in sound.value
    assert bytes(picture.value) != image
    assert calls == [("Base-s0", song.value), ("C-s0", song.value)]  # each was asked for once


def test_missing_source_is_a_sentence(week):
    both = Chooser(week, estimates=lambda run, song: {"mixture": np.zeros(RATE)}, sample_rate=RATE)
    assert "has no estimate of vocals" in both.static_html()
    assert "has no estimate of vocals" in both.widget().children[1].value


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
