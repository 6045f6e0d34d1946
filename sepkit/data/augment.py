"""Augmentations of a clip's sources; the mixture is the sum of the augmented sources.

Pitch and tempo change by waveform-similarity overlap-add (WSOLA: Verhelst & Roelands, ICASSP 1993; as SoundTouch, which
augmented Demucs v2) and, for the pitch, resampling.  All stems are cut at the same places, chosen on the mixture: they
stay aligned to the sample.  A phase vocoder takes five times as long, smears attacks and cuts each stem elsewhere.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from scipy import fft
from scipy.signal import resample_poly

from sepkit.errors import UsageError

Augment = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]

PIECE_S = 0.08  # length of the pieces of input that make the output
FADE_S = 0.012  # how long two pieces overlap
SEARCH_S = 0.012  # how far a piece may move, either way: one period of 42 Hz
MAX_DENOMINATOR = 300  # of the resampling ratio: within 3 cents of the wanted pitch
LIMITS = {"pitch_semitones": 12.0, "tempo": 0.5, "gain_db": 24.0, "swap_channels": 1.0, "probability": 1.0}


def make_augment(settings: Mapping[str, Any]) -> Augment | None:
    """The augmentation of `settings`; None where they are empty.

    It takes (sources, rng, sample_rate), sources float32 (source, channel, time), and gives sources of the same shape.

    pitch_semitones: the clip's pitch moves by up to this, up or down, uniformly in semitones.
    tempo: the clip's speed is drawn from 1 − tempo to 1 + tempo.
    probability: share of the clips whose pitch and tempo change (1); the others stay as they are.
    gain_db: each stem's level moves by up to this, up or down.
    swap_channels: share of the stems whose channels are swapped.
    Raises UsageError for an unknown name or a value out of range.
    """
    if unknown := sorted(settings.keys() - LIMITS.keys()):
        raise UsageError(f"There is no augmentation {', '.join(unknown)}; expected one of {', '.join(LIMITS)}.")
    for name, value in settings.items():
        if not 0 <= value <= LIMITS[name]:
            raise UsageError(f"Expected {name} from 0 to {LIMITS[name]:g}, got {value}.")
    if not settings:
        return None
    values = {**dict.fromkeys(LIMITS, 0), "probability": 1, **settings}
    return partial(_augmented, tuple(float(values[name]) for name in LIMITS))  # which pickles


def _augmented(values: Any, sources: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    pitch, tempo, gain_db, swap, probability = values
    # everything is drawn, used or not, so that later draws of a clip do not depend on the settings
    chance, semitones, speed = rng.random(), pitch * rng.uniform(-1, 1), 1 + tempo * rng.uniform(-1, 1)
    gains = gain_db * rng.uniform(-1, 1, len(sources))
    swapped = rng.random(len(sources)) < swap
    if chance < probability:
        sources = change(sources, sample_rate, semitones=semitones, tempo=speed)
    if swapped.any():
        sources = np.where(swapped[:, None, None], sources[:, ::-1], sources)
    if gain_db:
        sources = sources * (10 ** (gains / 20)).astype(np.float32)[:, None, None]
    return np.ascontiguousarray(sources)


def change(sources: np.ndarray, sample_rate: int, *, semitones: float = 0.0, tempo: float = 1.0) -> np.ndarray:
    """`sources` (source, channel, time) with another pitch and tempo, of the same shape; float32.

    A slower clip is cut off; a faster one continues with its own start, crossfaded, so that no clip ends in silence.

    >>> change(np.zeros((2, 2, 44100), np.float32), 44100, semitones=2, tempo=0.9).shape
    (2, 2, 44100)
    """
    if semitones == 0 and tempo == 1:
        return sources
    length = sources.shape[-1]
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(MAX_DENOMINATOR)
    needed = max(2, -(-length * ratio.numerator // ratio.denominator))  # two points make a line
    # to raise the pitch, stretch to more samples, then resample them to `length`
    stretched = stretch(sources, sample_rate, rate=tempo / float(ratio), length=needed)
    # "line" subtracts the line through the first and last sample, so that the ends do not ring
    shifted = resample_poly(stretched, ratio.denominator, ratio.numerator, axis=-1, padtype="line")
    return shifted[..., :length].astype(np.float32, copy=False)


def stretch(sources: np.ndarray, sample_rate: int, *, rate: float, length: int) -> np.ndarray:
    """`length` samples of `sources` (…, time) played at `rate` times its speed, the pitch kept; float32.

    Each piece of 80 ms starts near the place given by the speed, where the input is most like the continuation of the
    piece before (largest normalised cross-correlation in the mixture, channels summed; in silence, exactly there).
    Raised cosines crossfade neighbours over 12 ms.  The input counts as a loop, its end crossfaded into its start.
    """
    piece, fade, search = (round(length_s * sample_rate) for length_s in (PIECE_S, FADE_S, SEARCH_S))
    hop = piece - fade
    more = fade + search + hop + fade  # read beyond the end by a piece, the search, and a comparison
    sources = np.pad(sources, [(0, 0)] * (sources.ndim - 1) + [(0, max(0, more - sources.shape[-1]))])
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)).astype(np.float32)
    seam = sources[..., -fade:] * (1 - rise) + sources[..., :fade] * rise
    loop = np.concatenate([sources[..., :-fade], seam, sources[..., fade:more]], axis=-1)
    mixture = loop.reshape(-1, loop.shape[-1]).sum(axis=0)
    energy = np.concatenate([[0.0], np.cumsum(mixture.astype(np.float64) ** 2)])
    size = fft.next_fast_len(2 * search + fade, real=True)
    output = np.empty((*sources.shape[:-1], -(-length // hop) * hop + fade), dtype=np.float32)
    output[..., : hop + fade] = loop[..., : hop + fade]
    start = 0
    for place in range(hop, output.shape[-1] - fade, hop):
        template = mixture[start + hop : start + hop + fade]  # the continuation of the piece before
        start = round(place * rate) % (sources.shape[-1] - fade)
        if template.any():
            low, high = max(0, start - search), start + search
            match = fft.irfft(fft.rfft(mixture[low : high + fade], size) * fft.rfft(template, size).conj(), size)
            power = energy[low + fade : high + fade + 1] - energy[low : high + 1]
            likeness = match[: high - low + 1] / np.sqrt(np.maximum(power, 1e-9 * energy[-1]))
            start = low + int(np.argmax(likeness))
        output[..., place : place + fade] *= 1 - rise
        output[..., place : place + fade] += rise * loop[..., start : start + fade]
        output[..., place + fade : place + hop + fade] = loop[..., start + fade : start + hop + fade]
    return output[..., :length]
