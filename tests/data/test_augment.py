"""Pitch and tempo against answers known beforehand: tones, clicks, and librosa's phase vocoder."""

import math

import librosa
import numpy as np
import pytest

from sepkit.data.augment import change, make_augment, stretch
from sepkit.errors import UsageError

RATE = 44100
CHANGES = [(2.0, 1.0), (-2.0, 1.0), (0.0, 1.1), (0.0, 0.9), (1.3, 0.93), (-0.7, 1.08)]


def tone(frequency_hz, seconds=3.0, rate=RATE):
    wave = 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave, (2, 2, 1)).astype(np.float32)


def noise(seed=0, seconds=2.0, rate=RATE, sources=2):
    return (0.1 * np.random.default_rng(seed).standard_normal((sources, 2, round(seconds * rate)))).astype(np.float32)


def loudest_hz(wave, rate=RATE):
    edge = len(wave) // 8
    middle = wave[edge:-edge] * np.hanning(len(wave) - 2 * edge)
    spectrum = np.abs(np.fft.rfft(middle, 1 << 20))
    return np.argmax(spectrum) * rate / (1 << 20)


def level_db(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-30)


def test_440_hz_two_semitones_higher_reads_493_9_hz():
    assert loudest_hz(change(tone(440), RATE, semitones=2)[0, 0]) == pytest.approx(493.88, rel=0.001)


@pytest.mark.parametrize("rate", [44100, 22050])
@pytest.mark.parametrize("frequency_hz", [110, 440, 3000])
@pytest.mark.parametrize(("semitones", "tempo"), CHANGES)
def test_a_tone_goes_to_its_new_pitch_whatever_the_tempo_and_stays_a_pure_tone(rate, frequency_hz, semitones, tempo):
    wave = change(tone(frequency_hz, rate=rate), rate, semitones=semitones, tempo=tempo)[0, 0]
    found = loudest_hz(wave, rate)
    assert found == pytest.approx(frequency_hz * 2 ** (semitones / 12), rel=0.001)
    middle = wave[rate // 2 : -rate // 2].astype(np.float64)
    phase = 2 * np.pi * found * np.arange(len(middle)) / rate
    basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)
    rest = middle - basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    assert level_db(rest) < level_db(middle) - 20
    assert level_db(middle) == pytest.approx(level_db(tone(1000)), abs=0.1)


@pytest.mark.parametrize("tempo", [0.9, 0.95, 1.05, 1.1])
def test_clicks_move_with_the_tempo_and_stay_aligned_in_all_stems(tempo):
    clicks = np.arange(1, 9) * RATE // 4
    sources = np.zeros((2, 2, 3 * RATE), np.float32)
    sources[0, :, clicks] = 0.5
    sources[1, :, clicks] = -0.25
    changed = change(sources, RATE, tempo=tempo)
    found = np.flatnonzero(changed[0, 0] > 0.25) / RATE
    for click in clicks / RATE / tempo:
        assert np.abs(found - click).min() < 0.013  # as far as a piece may move
    np.testing.assert_array_equal(changed[1], -changed[0] / 2)


def test_tempo_agrees_with_librosa_on_where_bursts_begin():
    burst = (np.arange(3 * RATE) % (RATE // 2) < RATE // 5) * tone(700)[0, 0]
    ours = change(np.tile(burst, (1, 2, 1)).astype(np.float32), RATE, tempo=1.1)[0, 0]
    theirs = librosa.effects.time_stretch(burst, rate=1.1)
    envelopes = [np.convolve(np.abs(wave[: 2 * RATE]), np.ones(2048) / 2048, "same") > 0.1 for wave in (ours, theirs)]
    assert np.mean(envelopes[0] == envelopes[1]) > 0.95
    assert np.mean(envelopes[0] == (np.convolve(np.abs(burst[: 2 * RATE]), np.ones(2048) / 2048, "same") > 0.1)) < 0.9


@pytest.mark.parametrize(("semitones", "tempo"), CHANGES)
def test_the_changed_stems_sum_to_the_changed_mixture(semitones, tempo):
    sources = noise(sources=4)
    sources[1] += tone(330, 2.0)[0]
    mixture = sources.sum(axis=0, keepdims=True)
    error = change(sources, RATE, semitones=semitones, tempo=tempo).sum(axis=0) - change(
        mixture, RATE, semitones=semitones, tempo=tempo
    )
    assert level_db(error) < level_db(mixture) - 90


def test_no_change_at_0_semitones_and_tempo_1():
    sources = noise()
    assert change(sources, RATE) is sources
    same = make_augment({"pitch_semitones": 0.0, "tempo": 0.0})(sources, np.random.default_rng(0), RATE)
    assert same.tobytes() == sources.tobytes()


def test_stretch_at_rate_1_gives_the_input_back():
    sources = noise()
    np.testing.assert_allclose(
        stretch(sources, RATE, rate=1.0, length=sources.shape[-1] - RATE // 2), sources[..., : -RATE // 2], atol=1e-6
    )


def test_a_faster_clip_goes_on_from_its_start_instead_of_ending_in_silence():
    changed = change(noise(seconds=3.0), RATE, tempo=1.1)
    assert level_db(changed[..., -RATE // 4 :]) == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize("samples", [1, 100, 4410, 9999])
@pytest.mark.parametrize(("semitones", "tempo"), CHANGES)
def test_clips_of_any_length_keep_it_and_stay_finite(samples, semitones, tempo):
    sources = noise()[..., :samples]
    changed = change(sources, RATE, semitones=semitones, tempo=tempo)
    assert changed.shape == sources.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()


def test_silence_stays_silent_and_full_scale_finite():
    silence = np.zeros((2, 2, RATE), np.float32)
    assert not change(silence, RATE, semitones=2, tempo=0.9).any()
    square = np.sign(noise(seconds=1.0))
    assert np.abs(change(square, RATE, semitones=2, tempo=0.9)).max() < 4


def test_an_augmentation_is_a_function_of_its_generator_and_its_draws_differ():
    augment = make_augment({"pitch_semitones": 2.0, "tempo": 0.1, "gain_db": 3.0, "swap_channels": 0.5})
    sources = noise(seconds=1.0)
    first, again, other = (augment(sources, np.random.default_rng(seed), RATE) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.shape == sources.shape
    assert first.dtype == np.float32


def test_pitch_is_drawn_over_the_whole_range_and_the_same_for_all_stems():
    augment = make_augment({"pitch_semitones": 2.0})
    sources = np.stack([tone(440, 1.0)[0], tone(880, 1.0)[0]])
    semitones = []
    for seed in range(24):
        changed = augment(sources, np.random.default_rng(seed), RATE)
        low, high = (12 * math.log2(loudest_hz(changed[n, 0]) / f) for n, f in ((0, 440), (1, 880)))
        assert low == pytest.approx(high, abs=0.03)
        semitones.append(low)
    assert -2.02 < min(semitones) < -1.2
    assert 1.2 < max(semitones) < 2.02


def test_probability_is_the_share_of_clips_whose_pitch_and_tempo_change():
    augment = make_augment({"tempo": 0.1, "probability": 0.25})
    sources = noise(seconds=0.3)
    changed = [
        augment(sources, np.random.default_rng(seed), RATE).tobytes() != sources.tobytes() for seed in range(200)
    ]
    assert np.mean(changed) == pytest.approx(0.25, abs=0.08)


def test_gain_and_channel_swap_act_on_each_stem_by_itself():
    sources = noise(seconds=0.1)
    swapped = make_augment({"swap_channels": 1.0})(sources, np.random.default_rng(0), RATE)
    np.testing.assert_array_equal(swapped, sources[:, ::-1])
    louder = make_augment({"gain_db": 6.0})(sources, np.random.default_rng(0), RATE)
    gains = [level_db(louder[n]) - level_db(sources[n]) for n in range(2)]
    assert abs(gains[0] - gains[1]) > 0.1
    assert all(0 < abs(gain) <= 6 for gain in gains)


def test_nothing_asked_for_is_nothing_done_and_wrong_settings_are_refused():
    assert make_augment({}) is None
    with pytest.raises(UsageError, match=r"wobble.*pitch_semitones"):
        make_augment({"wobble": 1})
    for settings in ({"tempo": 1.0}, {"pitch_semitones": -2}, {"probability": 1.5}):
        with pytest.raises(UsageError, match=next(iter(settings))):
            make_augment(settings)
