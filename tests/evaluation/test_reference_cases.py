"""sepkit against stored scores of museval and mir_eval, and against museval's published regression data."""

import json
import os

import numpy as np
import pytest

from sepkit.data.songs import accompaniment, find_songs, read_song
from sepkit.evaluation.bsseval import bss_eval
from tests.evaluation.reference_cases import METRICS, MIR_EVAL, MUSEVAL, RATE, STORED, signals

SCORES = json.loads(STORED.read_text(encoding="utf-8"))


def assert_equal(scores, stored, tolerance):
    for metric in METRICS:
        expected = np.array(stored[metric], dtype=float)  # None becomes NaN
        np.testing.assert_allclose(scores[metric], expected, rtol=0, atol=tolerance, err_msg=metric)


@pytest.mark.parametrize(
    "tool, name", [("museval", name) for name in MUSEVAL] + [("mir_eval", name) for name in MIR_EVAL]
)
def test_stored_scores(tool, name):
    case = (MUSEVAL | MIR_EVAL)[name]
    target, estimate = signals(*case)
    scores = bss_eval(estimate=estimate, target=target, sample_rate=RATE)
    assert_equal(scores, SCORES[tool]["scores"][name], 1e-6)


def test_the_stored_scores_hold_a_dropped_window():
    row = SCORES["museval"]["scores"]["a silent window"]["sdr"]
    assert [[value is None for value in source] for source in row] == 2 * [[False, True, False]]


def test_scores_that_museval_publishes_of_a_real_song():
    published = SCORES["published"]
    folder = os.environ.get("MUSDB_PATH")
    if not folder:
        pytest.skip("set MUSDB_PATH to the folder of MUSDB18's 7-second set")
    (track,) = (track for track in find_songs(folder).tracks if track.name == published["song"])
    audio, _ = read_song(track)
    target = np.stack([audio["vocals"], accompaniment(audio)])
    rng = np.random.RandomState(0)
    estimate = np.stack([rng.random_sample(audio["mixture"].T.shape).T for _ in range(2)])
    assert_equal(bss_eval(estimate=estimate, target=target), published["scores"], 6e-6)
