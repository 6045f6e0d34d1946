"""Sounds of the demo songs: tones, plucked strings, drum hits, a singing voice, a room.

A sound is float64 (time,), a stem (2, time); frequencies in Hz, pitches as MIDI numbers (69 is 440 Hz).
Tones are read from one-period tables without harmonics above `TOP_HZ`, so nothing aliases.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import signal

from sepkit.profiles import SAMPLE_RATE

TOP_HZ = 16_000.0
TABLE_SIZE = 4096
CONTROL = 100  # samples between two values of a control signal (pitch, loudness)
ROOM_S = 0.35  # where the room's response is cut, so that the silence after a phrase is exact

# First three formants of sung a, e, i, o, u in Hz, for a vocal tract of scale 1 (a low voice).
VOWELS = np.array([(730.0, 1090, 2440), (530, 1840, 2480), (290, 2250, 3000), (500, 860, 2410), (320, 870, 2240)])
UPPER_FORMANTS = np.array((3300.0, 4200.0, 5400.0, 6800.0, 8600.0, 10500.0))
FORMANT_WIDTH = np.array((130.0, 160.0, 240.0, 330.0, 450.0, 700.0, 900.0, 1200.0, 1500.0))
FORMANT_DB = np.array((0.0, -2.0, -5.0, -5.0, -9.0, -14.0, -17.0, -20.0, -24.0))
# Low and high edge in Hz, length in s, level: s, sh, f, t, k.
CONSONANTS = (
    (5000.0, 13000.0, 0.11, 0.30), (2300.0, 8000.0, 0.10, 0.35), (1500.0, 11000.0, 0.08, 0.15),
    (2500.0, 12000.0, 0.035, 0.50), (1300.0, 3800.0, 0.045, 0.45),
)  # fmt: skip


def midi_to_hz(pitch):
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def seconds(duration_s: float) -> np.ndarray:
    """Time of each sample of a sound, (time,)."""
    return np.arange(max(1, round(duration_s * SAMPLE_RATE))) / SAMPLE_RATE


def harmonics(highest_hz: float, tilt: float) -> np.ndarray:
    """Amplitudes k**-tilt of the harmonics k = 1, 2, … that stay below `TOP_HZ`."""
    return np.arange(1, int(np.clip(TOP_HZ / highest_hz, 1, TABLE_SIZE // 12)) + 1) ** -tilt


def tone(phase: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """The periodic sound with these harmonics, read at `phase` (in periods)."""
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=complex)
    spectrum[1 : amplitudes.size + 1] = -0.5j * TABLE_SIZE * amplitudes
    table = np.fft.irfft(spectrum, TABLE_SIZE)
    return np.interp((phase % 1.0) * TABLE_SIZE, np.arange(TABLE_SIZE + 1), np.append(table, table[0]))


def noise(rng: Generator, n_samples: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Gaussian noise between two frequencies, RMS 1, with edges a third of an octave wide."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    octave = np.log2(np.maximum(np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE), 1.0))
    rise = np.clip((octave - np.log2(low_hz)) * 3 + 0.5, 0, 1)
    fall = np.clip((np.log2(high_hz) - octave) * 3 + 0.5, 0, 1)
    sound = np.fft.irfft(spectrum * rise * fall, n_samples)
    return sound / (rms(sound) + 1e-12)


def rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def plucked_string(rng: Generator, pitch: float, duration_s: float, decay: float, softness: float) -> np.ndarray:
    """Karplus and Strong's string (1983): a noise burst in a delay line that averages neighbours.

    decay: the loop's gain, just below 1; softness: 0 to 1, pole of the low-pass filter that stands for the pick.
    """
    period = SAMPLE_RATE / midi_to_hz(pitch)
    delay = max(2, round(period - 0.5))  # a loop is N + 1/2 samples long: the nearest such pitch is resampled
    speed = (delay + 0.5) / period
    string = np.zeros(delay + 3 + round(duration_s * SAMPLE_RATE * speed))
    string[1 : delay + 1] = signal.lfilter([1.0], [1.0, -softness], rng.uniform(-1, 1, delay))
    for start in range(delay + 1, string.size, delay):  # a turn needs only the one before it
        turn = decay / 2 * (string[start - delay : start] + string[start - delay - 1 : start - 1])
        string[start : start + delay] = turn[: string.size - start]
    wanted = np.arange(round(duration_s * SAMPLE_RATE)) * speed
    sound = np.interp(wanted, np.arange(string.size - 1), string[1:])
    return sound * np.minimum(1.0, (sound.size - np.arange(sound.size)) / 2000)


def envelope(n_samples: int, attack_s: float, release_s: float) -> np.ndarray:
    """Rises from 0 over `attack_s`, holds 1, falls to 0 over the last `release_s`."""
    index = np.arange(n_samples) / SAMPLE_RATE
    return np.minimum(1.0, index / attack_s) * np.minimum(1.0, index[::-1] / release_s)


def drum_kit(rng: Generator) -> dict[str, np.ndarray]:
    """One kit: kick, snare, hat, open, crash and tom, each (time,), each peaking at 1."""

    def drop(duration_s, low_hz, fall_hz, fall_s, decay_s):
        """A skin: a sine whose pitch falls while it decays."""
        t = seconds(duration_s)
        frequency = low_hz + fall_hz * np.exp(-t / fall_s)
        return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * np.exp(-t / decay_s)

    def hiss(duration_s, low_hz, high_hz, decay_s):
        t = seconds(duration_s)
        return 0.3 * noise(rng, t.size, low_hz, high_hz) * np.exp(-t / decay_s)

    kick = drop(0.4, rng.uniform(42, 58), rng.uniform(90, 220), 0.03, rng.uniform(0.08, 0.16))
    kick[:882] += hiss(0.02, 1500, 9000, 0.004)
    skin = drop(0.3, rng.uniform(165, 220), 60, 0.02, 0.07)
    kit = {
        "kick": kick,
        "snare": 0.8 * skin + 0.6 * hiss(0.3, 900, 9000, rng.uniform(0.05, 0.10)),
        "hat": hiss(0.15, bright := rng.uniform(5500, 8000), 17000, rng.uniform(0.02, 0.045)),
        "open": hiss(0.6, bright * 0.9, 17000, rng.uniform(0.12, 0.25)),
        "crash": hiss(2.0, 3000, 17000, rng.uniform(0.4, 0.7)),
        "tom": drop(0.4, rng.uniform(80, 120), 50, 0.06, 0.14),
    }
    return {name: hit / np.abs(hit).max() for name, hit in kit.items()}


# Lowest note and vocal tract of bass, tenor, alto and soprano, and bounds of what else differs.
VOICES = ((43, 1.0), (48, 1.05), (53, 1.14), (57, 1.18))
TIMBRE = ((0.9, 1.3), (0.03, 0.08), (4.8, 6.4), (0.3, 0.8), (0.08, 0.18))


@dataclass(frozen=True)
class Singer:
    """A voice: `low` and `high` bound its range, `tract` scales its formants (short: above 1)."""

    low: int
    high: int
    tract: float
    tilt: float  # harmonic k of the glottal source has amplitude k**-tilt
    breath: float  # noise beside the source, amplitude
    vibrato_hz: float
    vibrato_semitones: float
    glide_s: float

    @classmethod
    def draw(cls, rng: Generator) -> "Singer":
        low, tract = VOICES[rng.integers(4)]
        low += int(rng.integers(-1, 3))
        high, tract = low + int(rng.integers(15, 20)), tract * rng.uniform(0.96, 1.05)
        return cls(low, high, tract, *(rng.uniform(*bounds) for bounds in TIMBRE))


def smooth(control: np.ndarray, width_s: float) -> np.ndarray:
    """A control signal averaged over a Hann window; its ends are held."""
    window = np.hanning(max(3, round(width_s * SAMPLE_RATE / CONTROL)) + 2)
    padded = np.pad(control, (window.size // 2, (window.size - 1) // 2), mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def sing_phrase(rng: Generator, singer: Singer, notes: list[tuple[float, float, int]]) -> np.ndarray:
    """Sings notes (start and length in seconds, MIDI pitch) without gaps: pulse and breath through moving formants."""
    starts, pitches = np.array([note[0] for note in notes]), np.array([note[2] for note in notes], float)
    end = notes[-1][0] + notes[-1][1]
    n_samples = round((end + 0.1) * SAMPLE_RATE)
    n_samples += -n_samples % CONTROL
    t = np.arange(n_samples // CONTROL + 1) * CONTROL / SAMPLE_RATE
    which = np.clip(np.searchsorted(starts, t, side="right") - 1, 0, None)
    since = t - starts[which]

    # A scoop into the phrase, then vibrato that sets in late in a note; its rate wanders a little.
    pitch = smooth(pitches[which], singer.glide_s) - rng.uniform(0.5, 2.0) * np.exp(-t / 0.05)
    rate = singer.vibrato_hz * (1 + 0.5 * smooth(rng.standard_normal(t.size), 0.4))
    depth = singer.vibrato_semitones * smooth(np.clip((since - 0.15) / 0.3, 0, 1), 0.05)
    pitch += depth * np.sin(2 * np.pi * np.cumsum(rate) * CONTROL / SAMPLE_RATE)
    pitch += 0.6 * smooth(rng.standard_normal(t.size), 0.15)

    loudness = rng.uniform(0.6, 1.0, len(notes))[which] * np.exp(-since / 4)
    loudness *= 0.75 + 0.25 * np.sin(np.pi * np.clip(t / end, 0, 1))
    loudness[t >= end - 0.03] = 0
    bursts = np.zeros(n_samples)
    for start in starts:
        kind, gap_s = rng.integers(len(CONSONANTS) + 3), 0.02  # three in eight notes begin without one
        if kind < len(CONSONANTS):
            low_hz, high_hz, gap_s, level = CONSONANTS[kind]
            burst = level * noise(rng, round(gap_s * SAMPLE_RATE), low_hz, high_hz)
            burst *= envelope(burst.size, 0.3 * gap_s if gap_s > 0.05 else 0.002, 0.5 * gap_s)
            begin = max(0, round((start - 0.6 * gap_s) * SAMPLE_RATE))
            bursts[begin : begin + burst.size] += 0.2 * burst
        loudness[np.abs(t - start - 0.1 * gap_s) < 0.5 * gap_s] *= 0.1 if gap_s > 0.02 else 0.5
    loudness = smooth(loudness, 0.05) * np.minimum(1.0, t / 0.03)

    fine, coarse = np.arange(n_samples), np.arange(t.size) * CONTROL
    frequency = np.interp(fine, coarse, midi_to_hz(pitch))
    phase = np.cumsum(frequency) / SAMPLE_RATE
    source = tone(phase, harmonics(frequency.max(), singer.tilt))
    breath = singer.breath * noise(rng, n_samples, 1000.0, 14000.0)
    source += breath * (1 + np.cos(2 * np.pi * phase))  # while the glottis is open, once a period
    source *= np.interp(fine, coarse, loudness)
    vowels = VOWELS[rng.integers(len(VOWELS), size=len(notes))][which]
    vowels = np.stack([smooth(vowels[:, k], 0.09) for k in range(3)], axis=1)
    return _through_formants(source, vowels * singer.tract, midi_to_hz(pitch), singer.tract) + bursts


def _through_formants(source, vowels, frequency, tract) -> np.ndarray:
    """Filters `source` (time,) by formants; `vowels` (control, 3) and `frequency` (control,) in Hz."""
    n_fft, hop = 1024, 256
    bins, times, spectrum = signal.stft(source, SAMPLE_RATE, nperseg=n_fft, noverlap=n_fft - hop)
    index = np.clip(np.rint(times * SAMPLE_RATE / CONTROL).astype(int), 0, frequency.size - 1)
    centre = np.hstack([vowels[index], np.tile(UPPER_FORMANTS * tract, (index.size, 1))])
    centre[:, 0] = np.maximum(centre[:, 0], frequency[index])  # singers open up for high notes
    gain = np.full((bins.size, index.size), 1e-4)  # power, (freq, frame)
    for k, (width, level_db) in enumerate(zip(FORMANT_WIDTH, FORMANT_DB, strict=True)):
        gain += 10 ** (level_db / 10) / (1 + ((bins[:, None] - centre[:, k]) / width) ** 2) ** 1.5
    _, sound = signal.istft(spectrum * np.sqrt(gain), nperseg=n_fft, noverlap=n_fft - hop)
    return sound[: source.size]


def reverberate(rng: Generator, stem: np.ndarray, wet: float) -> np.ndarray:
    """Adds a room to a stem: decaying noise, different left and right; wet: its amplitude beside the dry sound."""
    t = seconds(ROOM_S)
    decay = np.exp(-6.9 * t / rng.uniform(0.3, 0.7)) * np.minimum(1, (t[-1] - t) / 0.05)
    responses = np.stack([noise(rng, t.size, 200, 7000) * decay for _ in stem])
    responses *= wet / np.sqrt(np.sum(responses**2, axis=1, keepdims=True))
    return stem + signal.oaconvolve(stem, responses, axes=1)[:, : stem.shape[1]]
