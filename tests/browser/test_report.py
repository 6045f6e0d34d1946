"""The report in a browser: offline, its players play, nothing serious for axe-core in light and dark."""

from pathlib import Path

import numpy as np
import pytest

from sepkit.reporting.report import report
from sepkit.storage import Root
from sepkit.storage.excerpts import Excerpt, choose, keep

pytestmark = pytest.mark.long
RATE = 22050


@pytest.fixture(scope="module")
def address(tmp_path_factory, weeks):
    """The report of four runs, which all keep excerpts of two songs."""
    root = Root.open(weeks.make_week(tmp_path_factory.mktemp("report") / "root"), "demo")
    names = ("Band X - Easy", "Band Y - Hard")
    choose(root, dict.fromkeys(names))
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 2, RATE * 8)).astype(np.float32)
    for run in ("Base-s0", "C-s0", "D-s0", "G-s0"):
        for song in names:
            clips = {"mixture": noise.sum(axis=0), "vocals": noise[0], "vocals estimate": noise[0] + noise[1] / 4}
            keep(root.run(run), Excerpt(song, 3.0, RATE, clips))
    path = Path(report(root))
    assert path.stat().st_size < 5e6
    return path.as_uri()


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
def test_players_play_offline_and_axe_finds_nothing_serious(page, address, colour_scheme):
    from axe_playwright_python.sync_playwright import Axe

    opened = page(colour_scheme, 1280)
    opened.goto(address)
    players = opened.locator(".sepkit-player")
    assert players.count() == 2
    for number in range(2):
        players.nth(number).get_by_role("button").click()
        players.nth(number).get_by_role("button", name="Pause").wait_for()
        opened.keyboard.press("6")
        assert players.nth(number).get_by_role("radio", name="6 ").is_checked()
    assert players.nth(0).get_by_role("button", name="Play").count() == 1  # one at a time
    opened.wait_for_function("parseFloat(document.querySelectorAll('.sepkit-player output')[1].textContent) > 0.2")
    found = Axe().run(opened).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
