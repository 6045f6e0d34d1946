"""The chooser in a real JupyterLab: menu, heading, sound and picture are of one experiment in every frame."""

import time

import nbformat
import numpy as np
import pandas as pd
import pytest

from sepkit.storage import Root, write_csv, write_json
from sepkit.storage.excerpts import Excerpt, choose, keep

pytest.importorskip("playwright")
pytest.importorskip("jupyterlab")
RUNS, SONGS, RATE = ("Base-s0", "C-s0", "C2-s0", "G-s0"), ("Band A - Open", "Band B - Shut"), 22050
# what one frame shows; kept by the page itself, for each frame that the browser paints
RECORD = """
window.frames_seen = [];
const look = () => {
  const all = document.querySelector('.sepkit-chooser'), place = all?.querySelector('.sepkit-chosen');
  if (place) frames_seen.push({
    menus: [...all.querySelectorAll('select')].map((menu) => menu.selectedOptions[0].textContent.replaceAll('\u00a0', ' ')),
    busy: place.ariaBusy === 'true', heading: place.querySelector('h4')?.textContent,
    sounds: [...place.querySelectorAll('audio')].map((clip) => clip.getAttribute('aria-label')),
    picture: place.querySelector('img')?.alt,
  });
  requestAnimationFrame(look);
};
look();
"""
READY = """([run, song, source]) => {
  const place = document.querySelector('.sepkit-chooser .sepkit-chosen');
  return place?.ariaBusy !== 'true' && place?.querySelector('h4')?.textContent === `${run} · ${song} · ${source}`
    && place.querySelector('.sepkit-player .bar');
}"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook that shows the chooser of four runs, which keep excerpts of 8 s; each run's estimate is its own tone."""
    folder = tmp_path_factory.mktemp("chooser")
    root = Root.open(folder / "root", "demo")
    choose(root, dict.fromkeys(SONGS))
    times, rng = np.arange(8 * RATE) / RATE, np.random.default_rng(0)
    for number, name in enumerate(RUNS):
        run, facts = root.run(name), {"experiment": name.split("-")[0], "seed": 0, "fold": None}
        write_json(run.path / "config.json", {"run": name, "profile": "demo", **facts})
        run.write_status(state="finished")
        for song in SONGS:
            vocals = rng.uniform(-0.2, 0.2, (2, len(times))).astype(np.float32)
            tone = (0.3 * np.sin(2 * np.pi * 500 * (number + 1) * times)).astype(np.float32) * np.ones(
                (2, 1), np.float32
            )
            clips = {"mixture": vocals / 2, "vocals": vocals, "vocals estimate": tone}
            clips |= {"accompaniment": vocals / 4, "accompaniment estimate": tone / 2}
            keep(run, Excerpt(song, 3.0, RATE, clips))
        rows = [
            {"run": name, **facts, "track": f"Test {k}", "source": source, "metric": "sdr_bsseval", "value": 1.0 * k,
             "protocol": "2stem", "frames": 8, "frames_dropped": 0, "status": "ok", "accompaniment": None}
            for k in range(2) for source in ("vocals", "accompaniment")
        ]  # fmt: skip
        write_csv(run.scores_path, pd.DataFrame(rows))
    code = f"from sepkit.reporting.chooser import Chooser\nChooser({str(root.path)!r}, estimates=None)"
    cells, kernel = [nbformat.v4.new_code_cell(code)], {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "chooser.ipynb")
    return folder / "chooser.ipynb"


def names(run: str, song: int, source: str = "vocals") -> list[str]:
    return [run, f"{SONGS[song]} ({('easy', 'hard')[song]})", source]


def test_no_frame_shows_two_experiments(lab, notebook):
    page = lab(notebook)
    page.wait_for_function(READY, arg=names("Base-s0", 0), timeout=120_000)
    song, run, source = page.query_selector_all(".sepkit-chooser select")
    page.evaluate(RECORD)
    slider, seconds = ".sepkit-chooser .sepkit-player input[type=range]", []
    page.locator(slider).evaluate("slider => { slider.value = 3; slider.dispatchEvent(new Event('input')); }")
    for name in ("C-s0", "C2-s0", "Base-s0", "G-s0"):  # one after another, each waited for
        begun = time.monotonic()
        run.select_option(name)
        page.wait_for_function(READY, arg=names(name, 0))
        seconds.append(time.monotonic() - begun)
        assert page.locator(slider).input_value() == "3"  # the position is kept
    print("seconds a choice:", " ".join(f"{each:.2f}" for each in seconds))
    for number in range(10):  # quicker than pages are made
        run.select_option(RUNS[number % 4])
        song.select_option(index=number % 2)
        source.select_option(("vocals", "accompaniment")[number // 5])
        page.wait_for_timeout(60)
    page.wait_for_function(READY, arg=names("C-s0", 1, "accompaniment"))
    frames = page.evaluate("frames_seen")
    assert any(frame["busy"] for frame in frames)
    assert len({frame["heading"] for frame in frames}) > 5
    for frame in frames:
        song_name, run_name, source_name = frame["menus"]
        if frame["busy"]:
            assert frame["sounds"] == []
            assert frame["picture"] is None
        else:
            heading = f"{run_name} · {song_name} · {source_name}"
            assert frame["heading"] == heading
            assert f"{source_name}, {run_name}" in frame["sounds"]
            assert heading in frame["picture"]
