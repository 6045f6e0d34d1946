"""A profile's songs are scored at its own rate: full-32k trains and scores at 32 kHz."""

from dataclasses import replace

import numpy as np
import pytest

import sepkit
from sepkit.data.songs import find_songs, read_song
from sepkit.dsp import resample
from sepkit.evaluation.track import score_track
from sepkit.profiles import PROFILES
from sepkit.storage import Root


def test_the_32_khz_profile_trains_and_scores_at_32_khz(mini_songs, tmp_path):
    where = {"profile": "full-32k", "data": mini_songs, "root": tmp_path / "root"}
    scores = sepkit.reference("mixture", n_jobs=1, **where).scores()
    audio, rate = read_song(find_songs(mini_songs).split("test")[0])
    at_32 = {name: resample(samples, rate, 32000) for name, samples in audio.items()}
    target = {"vocals": at_32["vocals"], "accompaniment": at_32["drums"] + at_32["bass"] + at_32["other"]}
    estimate = dict.fromkeys(target, target["vocals"] + target["accompaniment"])
    expected = score_track(estimate=estimate, target=target, sample_rate=32000)
    found = scores.set_index(["source", "metric"])
    for row in (row for row in expected if row["metric"] in ("sdr_bsseval", "sdr_global", "si_sdr")):
        same = found.loc[(row["source"], row["metric"])]
        assert (same["frames"], same["frames_dropped"]) == (row["frames"], row["frames_dropped"])
        assert same["value"] == pytest.approx(row["value"], abs=0.02)  # int16 in the cache
    clips = sepkit.estimates(Root.open(tmp_path / "root").run("mixture"), "T0 - Test", mini_songs)
    assert {clip.shape for clip in clips.values()} == {(2, 96000)}
    (cache,) = (tmp_path / "root" / "cache").iterdir()  # the one that training reads, too
    assert sepkit.cache(**where).path == cache


def test_a_network_is_scored_at_32_khz(mini_songs, tmp_path, tiny, monkeypatch):
    """Its estimates are as long as songs at 32 kHz, and their scores those of 1 s windows of 32,000 samples."""
    profile = replace(tiny, name="full-32k", sample_rate=32000, scored_at=32000, epochs=1)
    monkeypatch.setitem(PROFILES, "full-32k", profile)
    run = sepkit.train("Base", profile=profile, data=mini_songs, root=tmp_path, device="cpu")
    scores = sepkit.evaluate(run, data=mini_songs, device="cpu", n_jobs=1)
    rows = scores[scores["metric"] == "sdr_bsseval"]
    assert set(rows["frames"] + rows["frames_dropped"]) == {3}
    assert np.isfinite(rows["value"]).all()
