"""BSS Eval v4: dB known by construction, then museval on the same input, then bad input.

The constructed signals are pulses more than 512 samples apart: no filter of 512 taps turns one into
another, so every projection can be written down.
"""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from sepkit.errors import SepkitError
from sepkit.evaluation import filters
from sepkit.evaluation.bsseval import References, bss_eval
from tests.evaluation.reference_cases import museval_scores

MODULE = sys.modules["sepkit.evaluation.bsseval"]  # the package has a function of the same name
RATE = 4000
NAMES = ("sdr", "isr", "sir", "sar")


def pulses(*positions, windows=2):
    signal = np.zeros(windows * RATE)
    for window in range(windows):
        signal[[window * RATE + position for position in positions]] = 1
    return signal


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def with_museval(target, estimate, rate=RATE):
    return dict(zip(NAMES, museval_scores(target, estimate, rate), strict=True))


def db(above, below):
    return 10 * math.log10(above / below)


@pytest.fixture
def pulse_target():
    return np.stack([pulses(500), pulses(1500)])[:, None]


def test_interference_and_artifacts_of_known_size(pulse_target):
    estimate = pulse_target.copy()
    estimate[0, 0] += 0.1 * pulses(1500) + 0.01 * pulses(3000)
    scores = bss_eval(estimate=estimate, target=pulse_target, sample_rate=RATE)
    np.testing.assert_allclose(scores["sdr"][0], db(1, 0.01 + 0.0001), atol=1e-9)
    np.testing.assert_allclose(scores["sir"][0], 20, atol=1e-9)
    np.testing.assert_allclose(scores["sar"][0], db(1.01, 0.0001), atol=1e-9)
    assert (scores["isr"][0] > 250).all()


@pytest.mark.parametrize("delay", [0, 1, 511])
def test_a_filtered_target_is_a_spatial_error(pulse_target, delay):
    estimate = pulse_target + 0.1 * np.roll(pulse_target, delay, axis=2)
    scores = bss_eval(estimate=estimate, target=pulse_target, sample_rate=RATE)
    np.testing.assert_allclose(scores["isr"], 20, atol=1e-9)
    np.testing.assert_allclose(scores["sdr"], 20, atol=1e-9)
    assert (scores["sar"] > 250).all() and (scores["sir"] > 250).all()


def test_one_sample_beyond_the_filter_is_an_artifact(pulse_target):
    estimate = pulse_target + 0.1 * np.roll(pulse_target, 512, axis=2)
    scores = bss_eval(estimate=estimate, target=pulse_target, sample_rate=RATE)
    np.testing.assert_allclose(scores["sar"], 20, atol=1e-9)
    assert (scores["isr"] > 250).all()


def test_perfect_estimate_is_infinitely_good():
    target = noise(2, 2, 3 * RATE)
    scores = bss_eval(estimate=target.copy(), target=target, sample_rate=RATE)
    assert all(np.isposinf(scores[name]).all() for name in NAMES)
    assert np.isposinf(with_museval(target, target)["sdr"]).all()


def leak(target):
    return target + 0.3 * target[::-1] + 0.1 * noise(*target.shape, seed=1)


def with_silent_window(target):
    target[0, :, RATE : 2 * RATE] = 0
    return target


def with_cancelling_window(target):
    target[0, 1, RATE : 2 * RATE] = -target[0, 0, RATE : 2 * RATE]
    return target


def with_equal_channels(target):
    target[:, 1] = target[:, 0]
    return target


def with_mono_vocals(target):
    target[0, 1] = target[0, 0]
    return target


def with_empty_channel(target):
    target[:, 1] = 0
    return target


STEREO = noise(2, 2, 3 * RATE + 321)
MONO = STEREO[:, :1]
CASES = {
    "stereo": (STEREO, leak),
    "mono": (MONO, leak),
    "four sources": (noise(4, 1, 2 * RATE), leak),
    "one source": (STEREO[:1], lambda target: target + noise(*target.shape, seed=2)),
    "silent window": (with_silent_window(MONO.copy()), leak),
    "left is minus right": (with_cancelling_window(STEREO.copy()), leak),
    "equal channels": (with_equal_channels(STEREO[:1].copy()), lambda target: target + noise(*target.shape, seed=1)),
    "mono vocals in two channels": (with_mono_vocals(STEREO.copy()), leak),
    "empty channel": (with_empty_channel(STEREO.copy()), leak),
    "silent estimate window": (MONO, lambda target: with_silent_window(leak(target))),
    "near perfect": (MONO, lambda target: target + 1e-5 * noise(*target.shape, seed=1)),
    "quiet estimate": (MONO, lambda target: 1e-3 * leak(target)),
    "mixture": (MONO, lambda target: 0 * target + target.sum(axis=0) + noise(*target.shape[1:], seed=3)),
    "float32": (MONO.astype(np.float32), lambda target: leak(target).astype(np.float32)),
    "rumbling": (np.cumsum(MONO, axis=2) * 0.01 + 1e-3 * MONO, leak),
    "exactly a window": (MONO[..., :RATE], leak),
    "a sample more than a window": (MONO[..., : RATE + 1], leak),
    "shorter than a window": (MONO[..., :3000], leak),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_museval(name):
    target, make = CASES[name]
    estimate = make(target)
    expected = with_museval(target, estimate)
    scores = bss_eval(estimate=estimate, target=target, sample_rate=RATE)
    for metric in NAMES:
        np.testing.assert_allclose(scores[metric], expected[metric], rtol=0, atol=1e-6, err_msg=metric)


def test_odd_transform_lengths_agree_with_museval(monkeypatch):
    rate = 5**5 - 511  # the next fast length for window + 511 is 3125 itself, which is odd
    monkeypatch.setattr(MODULE, "LOSS", 0.0)  # all windows are filtered
    target = noise(2, 1, 2 * rate + 7)
    expected = with_museval(target, leak(target), rate)
    scores = bss_eval(estimate=leak(target), target=target, sample_rate=rate)
    for metric in NAMES:
        np.testing.assert_allclose(scores[metric], expected[metric], rtol=0, atol=1e-9)


def test_references_serve_many_estimates_and_torch():
    references = References(torch.from_numpy(MONO), RATE)
    for estimate in (leak(MONO), 0.5 * MONO):
        alone = bss_eval(estimate=estimate, target=MONO, sample_rate=RATE)
        shared = references.score(torch.from_numpy(estimate).requires_grad_())
        assert all(np.array_equal(alone[name], shared[name]) for name in NAMES)


def test_energies_from_lags_and_from_filtering_agree(monkeypatch):
    counted = []
    original = MODULE.Filters.filtered
    monkeypatch.setattr(MODULE.Filters, "filtered", lambda *args: counted.append(1) or original(*args))
    lags = bss_eval(estimate=leak(STEREO), target=STEREO, sample_rate=RATE)
    assert not counted
    monkeypatch.setattr(MODULE, "LOSS", 0.0)
    filtered = bss_eval(estimate=leak(STEREO), target=STEREO, sample_rate=RATE)
    assert counted
    for metric in NAMES:
        np.testing.assert_allclose(lags[metric], filtered[metric], rtol=0, atol=1e-9, err_msg=metric)


def test_an_error_that_is_all_interference_is_filtered_and_not_lost_to_rounding():
    target = noise(2, 2, 3 * RATE)
    scores = bss_eval(estimate=target + 0.1 * target[::-1], target=target, sample_rate=RATE)
    np.testing.assert_allclose(scores["sdr"], scores["sir"], atol=0.5)
    assert (scores["sar"] > 200).all()  # a difference of sums would stop at 150


def test_the_lengths_of_windows_and_rest_decide_nothing(monkeypatch):
    target = noise(2, 2, 3 * 5000 + 77)
    expected = with_museval(target, leak(target), 5000)
    scores = bss_eval(estimate=leak(target), target=target, sample_rate=5000)
    monkeypatch.setattr(filters, "BLOCK_FFT", 1024)  # ten blocks a window instead of two
    blocks = bss_eval(estimate=leak(target), target=target, sample_rate=5000)
    for metric in NAMES:
        np.testing.assert_allclose(scores[metric], expected[metric], rtol=0, atol=1e-9)
        np.testing.assert_allclose(blocks[metric], expected[metric], rtol=0, atol=1e-9)


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


@pytest.mark.parametrize("loss", [1e-8, 0.0])  # sums over lags, and windows filtered
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_tensors_on_a_device_or_a_device_asked_for_score_as_arrays(device, loss, monkeypatch):
    monkeypatch.setattr(MODULE, "LOSS", loss)
    estimate = leak(STEREO)
    expected = bss_eval(estimate=estimate, target=STEREO, sample_rate=RATE)
    tensors = {"estimate": torch.from_numpy(estimate), "target": torch.from_numpy(STEREO)}
    given = bss_eval(**{k: v.to(device) for k, v in tensors.items()}, sample_rate=RATE)
    asked = bss_eval(estimate=estimate, target=STEREO, sample_rate=RATE, device=device)
    for scores in (given, asked):
        for metric in NAMES:
            assert isinstance(scores[metric], np.ndarray)
            np.testing.assert_allclose(scores[metric], expected[metric], rtol=0, atol=1e-9)


def test_the_sums_run_on_the_device_of_the_target():
    # The device "meta" computes nothing, but every tensor must have been asked for there.
    rows = References(STEREO, RATE, "meta")._rows
    assert rows.cross(rows.parts[0], 0).device.type == "meta"
    assert rows.across(rows.parts[1][None, :, :511]).device.type == "meta"


def test_singular_equations_fall_back_to_least_squares():
    lags = np.zeros((1, 1, filters.TAPS))
    lags[..., 0] = -np.finfo(float).eps  # the ridge makes it exactly zero
    solver = filters.Solver(lags, np.ones((1, 9)))
    rows = noise(1, 1, filters.TAPS)
    np.testing.assert_allclose(solver.solve(rows), -rows / np.finfo(float).eps)


def test_a_mono_source_in_two_channels_scores_as_in_one():
    stereo = np.repeat(MONO, 2, axis=1)
    expected = bss_eval(estimate=leak(MONO), target=MONO, sample_rate=RATE)
    for factor in (1.0, 0.5, -0.3):  # equal, or a multiple
        gains = np.array([[1.0], [factor]])
        scores = bss_eval(estimate=gains * np.repeat(leak(MONO), 2, axis=1), target=gains * stereo, sample_rate=RATE)
        for metric in NAMES:
            np.testing.assert_allclose(scores[metric], expected[metric], rtol=0, atol=1e-6, err_msg=metric)


def test_rows_that_span_nothing_more_leave_the_equations():
    """Least squares by SVD, 37 times slower, would give the same projections."""
    target = STEREO.copy()
    target[0, 1] = target[0, 0]
    solver = References(target, RATE)._solvers[0]
    assert solver.kept == [0, 2, 3]
    assert solver.inverse


def test_sources_beyond_memory_are_refused_in_a_sentence():
    with pytest.raises(SepkitError, match=r"200 sources of 2 channels.* 32 channels in all .*; score fewer sources"):
        bss_eval(estimate=np.ones((200, 2, 100)), target=np.ones((200, 2, 100)), sample_rate=RATE)


def test_s13_silence_is_undefined_with_a_reason_and_no_exception():
    target = STEREO.copy()
    target[0] = 0
    scores = bss_eval(estimate=leak(STEREO), target=target, sample_rate=RATE)
    assert all(scores[name].shape == (2, 3) and np.isnan(scores[name]).all() for name in NAMES)
    assert References(target, RATE).reasons(STEREO) == [
        "undefined: silent target",
        "undefined: the target of source 0 is silent",
    ]
    assert References(STEREO, RATE).reasons(target)[0] == "undefined: silent estimate"
    assert References(STEREO, RATE).reasons(STEREO) == ["ok", "ok"]
    halves = STEREO[..., : 2 * RATE].copy()
    halves[0, :, :RATE] = 0
    halves[1, :, RATE:] = 0
    assert "no window in which every" in References(halves, RATE).reasons(halves)[0]


def test_s15_samples_that_are_not_finite_are_refused_by_source():
    estimate = STEREO.copy()
    estimate[1, 0, 100] = math.nan
    with pytest.raises(SepkitError, match="estimate of source 1 has 1 samples that are NaN"):
        bss_eval(estimate=estimate, target=STEREO, sample_rate=RATE)


def test_s16_wrong_axes_are_refused_with_the_expected_order():
    with pytest.raises(SepkitError, match=r"must be \(source, channel, time\).*\(source, time, channel\)"):
        bss_eval(estimate=STEREO.transpose(0, 2, 1), target=STEREO, sample_rate=RATE)
    with pytest.raises(SepkitError, match="swap the last two axes"):
        bss_eval(estimate=STEREO[..., :1], target=STEREO[..., :1], sample_rate=RATE)
    with pytest.raises(SepkitError, match=r"got shape \(2, 12321\)"):
        bss_eval(estimate=STEREO[0], target=STEREO[0], sample_rate=RATE)
    with pytest.raises(SepkitError, match=r"of shape \(2, 2, 12321\), as the target; got \(1, 2, 12321\)"):
        bss_eval(estimate=STEREO[:1], target=STEREO, sample_rate=RATE)
    with pytest.raises(SepkitError, match="floating point, full scale at 1; got int16"):
        bss_eval(estimate=STEREO.astype(np.int16), target=STEREO, sample_rate=RATE)
    with pytest.raises(SepkitError, match="sample_rate"):
        bss_eval(estimate=STEREO, target=STEREO, sample_rate=44.1)  # type: ignore[arg-type]


def test_s17_unequal_lengths_are_reported_with_both_numbers():
    with pytest.raises(SepkitError, match="estimate has 7321 samples where 12321 are expected"):
        bss_eval(estimate=STEREO[..., :-5000], target=STEREO, sample_rate=RATE)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_s16_four_minutes_take_bounded_memory():
    script = """
        import resource
        import numpy as np
        from sepkit.evaluation.bsseval import bss_eval
        target = np.tile(np.random.default_rng(0).standard_normal((2, 2, 44100)), 240)
        scores = bss_eval(estimate=1.1 * target, target=target)
        assert np.allclose(scores["sdr"], 20) and scores["sdr"].shape == (2, 240)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=300, capture_output=True, text=True
    )
    assert float(done.stdout) < 2.5  # GiB, of which targets, estimates and torch itself are 1.2
