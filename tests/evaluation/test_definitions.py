"""One song under four definitions: what each forgives, by construction."""

import numpy as np
import pandas as pd
import pytest

from sepkit.errors import SepkitError
from sepkit.evaluation import definitions as module
from sepkit.evaluation.definitions import DEFINITIONS, sdr_definitions
from sepkit.storage import Root

RATE = 2000


@pytest.fixture
def run(tmp_path, helpers, monkeypatch):
    """A run with scores; its estimates are the vocals with an error 20 dB below, at right angles."""
    root = Root.open(tmp_path)
    scores = helpers.rows("Base-s0", helpers.base_db)
    torch_sdr = scores[scores["metric"] == "si_sdr"].assign(metric="sdr_torchmetrics")
    helpers.add(root, "Base-s0", pd.concat([scores, torch_sdr]))
    rng = np.random.default_rng(0)
    vocals, accompaniment, error = rng.standard_normal((3, 1, 4 * RATE))
    error -= vocals * np.vdot(vocals, error) / np.vdot(vocals, vocals)
    error *= 0.1 * np.linalg.norm(vocals) / np.linalg.norm(error)
    clips = {
        "mixture": vocals + accompaniment, "vocals": vocals, "accompaniment": accompaniment,
        "vocals estimate": vocals + error, "accompaniment estimate": accompaniment - error,
    }  # fmt: skip
    monkeypatch.setattr(module, "estimates", lambda *_: clips)
    monkeypatch.setattr(module, "SCORE_RATE", RATE)
    return root.run("Base-s0")


def test_each_definition_forgives_what_it_says(run, helpers):
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
    assert table.attrs["song"] == helpers.songs[6]  # in the middle
    assert "nothing but the definition has changed" in table.attrs["sentence"]


def test_a_run_without_such_a_song_is_refused(run, helpers):
    helpers.add(run.root, "C-s0", helpers.rows("C-s0", helpers.base_db))
    with pytest.raises(SepkitError, match="No song of C-s0 has all of sdr_bsseval"):
        sdr_definitions(run.root.run("C-s0"))
