"""One song under four definitions: what each forgives, by construction."""

import numpy as np
import pandas as pd
import pytest

from sepkit.errors import SepkitError
from sepkit.evaluation import definitions as module
from sepkit.evaluation.definitions import DEFINITIONS, sdr_definitions
from sepkit.storage import Root, write_csv, write_json

RATE = 2000


SONGS = [f"Band {letter} - Song" for letter in "ABCDE"]


def scored(run, metrics):
    """A run whose songs read 1 to 5 dB by these metrics, scrambled."""
    write_json(run.path / "config.json", {"run": run.name})
    values = zip(SONGS, (4.0, 1.0, 3.0, 5.0, 2.0), strict=True)
    rows = [(song, "vocals", metric, value) for song, value in values for metric in metrics]
    write_csv(run.scores_path, pd.DataFrame(rows, columns=["track", "source", "metric", "value"]))
    return run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with scores; its estimates are the vocals with an error 20 dB below, at right angles."""
    run = scored(Root.open(tmp_path).run("Base-s0"), DEFINITIONS)
    rng = np.random.default_rng(0)
    vocals, accompaniment, error = rng.standard_normal((3, 1, 4 * RATE))
    error -= vocals * np.vdot(vocals, error) / np.vdot(vocals, vocals)
    error *= 0.1 * np.linalg.norm(vocals) / np.linalg.norm(error)
    clips = {
        "mixture": vocals + accompaniment, "vocals": vocals, "accompaniment": accompaniment,
        "vocals estimate": vocals + error, "accompaniment estimate": accompaniment - error,
    }  # fmt: skip
    monkeypatch.setattr(module, "estimates", lambda *_: clips)
    monkeypatch.setattr(module, "SAMPLE_RATE", RATE)
    return run


def test_each_definition_forgives_what_it_says(run):
    table = sdr_definitions(run)
    assert list(table.index) == list(DEFINITIONS)
    assert table["as it is"].to_dict() == pytest.approx(dict.fromkeys(DEFINITIONS, 20.0), abs=0.4)
    assert table.loc["sdr_global", "as it is"] == pytest.approx(20)
    half = table["half as loud"]
    # |s − s/2 − e/2|² = |s|² (1/4 + 1/400)
    assert half["sdr_global"] == pytest.approx(-10 * np.log10(0.2525))
    assert half["sdr_bsseval"] == pytest.approx(half["sdr_global"], abs=0.1)
    for forgiving in ("si_sdr", "sdr_torchmetrics"):
        assert half[forgiving] == pytest.approx(table.loc[forgiving, "as it is"])
    muffled = table["muffled"]
    assert muffled["sdr_torchmetrics"] > muffled["si_sdr"] + 10
    assert table.attrs["song"] == SONGS[2]  # in the middle
    assert "nothing but the definition has changed" in table.attrs["sentence"]


def test_a_run_without_such_a_song_is_refused(run):
    with pytest.raises(SepkitError, match="No song of C-s0 has all of sdr_bsseval"):
        sdr_definitions(scored(run.root.run("C-s0"), ["sdr_bsseval", "si_sdr"]))
