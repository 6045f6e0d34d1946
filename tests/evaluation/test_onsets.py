"""Where onsets lie, and an SDR that looks at nothing else: clicks and bursts at known places."""

import math
import sys

import numpy as np
import pytest

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import METRICS, sdr_global, sdr_onsets
from sepkit.evaluation.onsets import RATE, at_onsets, peaks, rises
from sepkit.evaluation.track import score_track

PLACES = np.array([11111, 22345, 35000, 47890])  # not at multiples of the hop


def seconds(count):
    return round(count * RATE)


@pytest.fixture
def clicks():
    """Clicks at PLACES, of 1 in the left and 1/2 in the right channel."""
    signal = np.zeros((2, seconds(1.5)))
    signal[:, PLACES] = [[1.0], [0.5]]
    return signal


def bursts(seed=0):
    """(signal, where they begin): bursts of noise that die away, at random places."""
    rng = np.random.default_rng(seed)
    places = np.arange(seconds(0.2), seconds(4), seconds(0.4)) + rng.integers(-999, 999, 10)
    signal = np.zeros((1, seconds(4.5)))
    for place in places:
        signal[0, place : place + 8000] += rng.normal(0, 0.2, 8000) * np.exp(-np.arange(8000) / 1500)
    return signal, places


def check_windows(near, places, rate=RATE):
    """The attack and 35 ms after it are in, and nothing from 15 ms before it or 50 ms after it."""
    inner, outer = np.zeros_like(near), np.zeros_like(near)
    for place in places:
        inner[place : place + round(0.034 * rate)] = True
        outer[max(0, place - round(0.016 * rate)) : place + round(0.051 * rate)] = True
    assert near[inner].all()
    assert not near[~outer].any()


def test_windows_hold_the_attacks(clicks):
    near = at_onsets(clicks)
    check_windows(near, PLACES)
    assert near.sum() == 4 * round(0.05 * RATE)


@pytest.mark.parametrize("seed", range(4))
def test_bursts_at_random_places_are_found(seed):
    signal, places = bursts(seed)
    check_windows(at_onsets(signal), places)


def music(seed):
    """Tones with vibrato, plucked and held, over strokes and noise."""
    rng, t = np.random.default_rng(seed), np.arange(seconds(6)) / RATE
    signal = rng.normal(0, 0.003, len(t)) + sum(
        np.sin(2 * np.pi * hz * t + 3 * np.sin(2 * np.pi * 5 * t))
        * np.exp(-((t - begin) % period) / decay)
        * (t > begin)
        for hz, begin, period, decay in zip(
            rng.uniform(80, 3000, 12),
            rng.uniform(0, 3, 12),
            rng.uniform(0.2, 3, 12),
            rng.uniform(0.05, 2, 12),
            strict=True,
        )
    )
    return (signal / np.abs(signal).max()).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_onsets_are_librosas(seed):
    import librosa

    for signal in (music(seed), bursts(seed)[0][0].astype(np.float32), np.zeros(9000, np.float32)):
        frames = librosa.onset.onset_detect(y=signal, sr=RATE, units="frames")
        assert np.array_equal(peaks(rises(signal)), frames)
        assert np.allclose(rises(signal), librosa.onset.onset_strength(y=signal, sr=RATE), atol=1e-3)


def test_librosa_is_not_needed(monkeypatch):
    """S71: its first import on a machine compiles for half a minute, and it needs a folder for that."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("librosa", "numba")]:
        monkeypatch.setitem(sys.modules, name, None)
    from sepkit.reporting.spectra import song_view

    check_windows(at_onsets(bursts()[0]), bursts()[1])
    assert song_view({"a": bursts()[0]})._repr_png_()


@pytest.mark.parametrize("rate", [48000, 22050, 4000])
def test_onsets_are_the_same_seconds_at_other_rates(rate):
    signal = np.zeros((1, 4 * rate))
    places = [round(rate * second) for second in (0.3, 1.1, 1.9, 3.3)]
    signal[0, places] = 1
    near = at_onsets(signal, rate)
    check_windows(near, places, rate)
    assert near.sum() == 4 * round(0.05 * rate)


@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_a_level_changes_nothing(gain):
    signal, _ = bursts()
    assert np.array_equal(at_onsets(gain * signal), at_onsets(signal))


def test_an_error_counts_at_onsets_alone(clicks):
    tail = np.zeros_like(clicks)
    for place in PLACES:
        tail[:, place + seconds(0.05) : place + seconds(0.2)] = 0.7
    assert sdr_onsets(estimate=clicks + tail, target=clicks) == math.inf
    assert sdr_global(estimate=clicks + tail, target=clicks) < -30

    attack = np.zeros_like(clicks)
    for place in PLACES:
        attack[:, place : place + 100] = [[0.05], [0.0]]  # 100 · 0.05² against 1 + 1/4
    assert sdr_onsets(estimate=clicks + attack, target=clicks) == pytest.approx(10 * math.log10(1.25 / 0.25))
    both = sdr_onsets(estimate=clicks + attack + tail, target=clicks)
    assert both == sdr_onsets(estimate=clicks + attack, target=clicks)


def test_a_steady_part_that_is_wrong_does_not_count():
    signal, places = bursts()
    noise = np.random.default_rng(1).normal(0, 0.01, signal.shape)
    far = np.ones(signal.shape[1], bool)
    for place in places:
        far[place - seconds(0.015) : place + seconds(0.05)] = False
    estimate = 0.9 * signal + 10 * noise * far
    assert sdr_onsets(estimate=estimate, target=signal) == pytest.approx(20)
    assert sdr_global(estimate=estimate, target=signal) < 0


def test_windows_that_overlap_count_once():
    """Strokes 40 ms apart: with an error in one sample the ratio is that of energies, nothing twice."""
    signal = np.zeros((1, seconds(1)))
    signal[0, [20000, 20000 + seconds(0.04)]] = 1
    estimate = signal.copy()
    estimate[0, 20000 + seconds(0.03)] = 0.1
    assert sdr_onsets(estimate=estimate, target=signal) == pytest.approx(10 * math.log10(2 / 0.01))


@pytest.mark.parametrize(("level_db", "found"), [(-54, True), (-66, False)])
def test_what_is_60_db_below_the_loudest_50_ms_is_no_onset(level_db, found):
    """Noise, and after it bursts of noise that are taken for onsets at either level."""
    level = np.zeros(seconds(4))
    level[: seconds(1)] = 1
    for place in range(seconds(2), seconds(3.5), seconds(0.3)):
        level[place : place + seconds(0.1)] = 10 ** (level_db / 20)
    noise = np.random.default_rng(0).standard_normal(len(level))
    assert at_onsets((level * noise)[None])[seconds(1.5) :].any() == found


def test_the_ends_of_an_excerpt_are_no_onsets():
    assert not at_onsets(np.ones((2, RATE))).any()
    middle = np.random.default_rng(0).normal(0, 0.01, (1, seconds(2)))
    middle[0, seconds(1) : seconds(1) + 4000] += 1  # far larger than what noise does
    near = at_onsets(middle)
    assert near[seconds(1)] and not near[: seconds(0.1)].any() and not near[-seconds(0.1) :].any()


@pytest.mark.parametrize("place", [0, 300, 2000, RATE - 100, RATE - 1])
def test_a_click_near_an_end_is_found(place):
    signal = np.zeros((1, RATE))
    signal[0, place] = 1
    assert at_onsets(signal)[place]


@pytest.mark.parametrize("length", [1, 2, 100, 2047])
def test_clips_shorter_than_a_frame_do_not_raise(length):
    signal = np.random.default_rng(0).standard_normal((1, length))
    assert at_onsets(signal).shape == (length,)
    value = sdr_onsets(estimate=0.9 * signal, target=signal)
    assert math.isnan(value) or value == pytest.approx(20)


def test_a_short_clip_with_a_click():
    click = np.zeros((1, 1500))
    click[0, 700] = 1
    assert sdr_onsets(estimate=0.9 * click, target=click) == pytest.approx(20)


def test_what_has_no_onset_has_no_score_and_a_reason():
    other = np.random.default_rng(0).normal(0, 0.1, (1, RATE))
    opposite = np.array([[1.0], [-1.0]]) * other  # nothing is left of the sum
    assert math.isnan(sdr_onsets(estimate=0.9 * opposite, target=opposite))

    def status(target, estimate):
        rows = score_track(
            estimate={"vocals": estimate, "accompaniment": other}, target={"vocals": target, "accompaniment": other}
        )
        (row,) = (row for row in rows if (row["source"], row["metric"]) == ("vocals", "sdr_onsets"))
        assert math.isnan(row["value"]) == (row["status"] != "ok")
        return row["status"]

    steady, silent = np.full((1, RATE), 0.3), np.zeros((1, RATE))
    click = silent.copy()
    click[:, 20000] = 1
    late = np.roll(click, 10000)
    assert status(steady, other) == "undefined: the target has no onset"
    assert status(silent, other) == "undefined: silent target"
    assert status(click, silent) == "undefined: silent estimate"
    assert status(click, late) == "undefined: silent estimate at the onsets"
    assert status(click, 0.5 * click) == "ok"


def test_it_is_one_of_the_metrics_and_is_checked_as_they_are(clicks):
    assert "sdr_onsets" in METRICS
    with pytest.raises(SepkitError, match="samples where"):
        sdr_onsets(estimate=clicks[:, :-1], target=clicks)
    with pytest.raises(SepkitError, match="NaN or infinite"):
        sdr_onsets(estimate=np.full_like(clicks, math.nan), target=clicks)
