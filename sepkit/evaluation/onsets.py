"""Where a source begins to sound anew: drum strokes, plucked strings, syllables.

Onsets are those of `librosa.onset.onset_detect` with its defaults (Böck, Krebs, Schedl, ISMIR 2012), on the sum of the
channels at 44.1 kHz (other rates are resampled to that): rises of the log-power mel spectrum (128 bands, FFT 2048, hop
512). A peak of them is at least as large as in the two frames before, by 7 % of the largest rise above the mean of eight
frames on both sides, and more than two frames after the last. The sum is brought to peak 1, so that a level changes
nothing, and mirrored beyond its ends, so that an excerpt's cuts are no onsets.

A frame is named 0 to 15 ms after the attack (measured on clicks, tones, and bursts with and without a ramp of
10 ms). Windows of 50 ms therefore begin 15 ms before it: they hold the attack and at least the 35 ms after it, and
nothing from 50 ms after it on. As a rise counts relative to the largest, a source that sounds steadily has onsets too,
in its fluctuations.
"""

from functools import cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sepkit.dsp import mel_filters, resample
from sepkit.evaluation.signals import Array

RATE = 44100  # Hz, at which onsets are found
FFT, HOP, BANDS = 2048, 512, 128
BEFORE, AROUND, DELTA = 2, 8, 0.07  # frames that a peak exceeds or waits for; of the mean; above that mean
MARGIN = 4096  # mirrored samples at both ends: beyond them are zeros, whose edges would be onsets
LEAD_S, WINDOW_S = 0.015, 0.050
QUIET_DB = -60.0  # below the loudest 50 ms of the source: what is found in its noise


def at_onsets(target: Array, sample_rate: int = RATE) -> NDArray[np.bool_]:
    """`(time,)`: True in the 50 ms at each onset of target, `(channel, time)`.

    Windows that hold less than −60 dB of the target's loudest 50 ms are left out.

        >>> click = np.zeros((2, 44100)); click[:, 20000] = 1
        >>> near = at_onsets(click)
        >>> int(near.sum()), bool(near[20000:21500].all()), bool(near[22205:].any())
        (2205, True, False)
    """
    near = np.zeros(target.shape[1], bool)
    mono = target.sum(axis=0)
    peak = np.abs(mono).max()
    if peak == 0:
        return near
    mono = resample(mono / peak, sample_rate, RATE).astype(np.float32)
    mirrored = np.pad(mono, MARGIN, mode="reflect")
    found = peaks(rises(mirrored)) * HOP - MARGIN

    window, lead = round(WINDOW_S * sample_rate), round(LEAD_S * sample_rate)
    energy = np.einsum("ct,ct->t", target, target)
    loudest = np.add.reduceat(energy, np.arange(0, len(energy), window)).max()
    for onset in found:
        start = round(onset * sample_rate / RATE) - lead
        part = slice(max(start, 0), max(start + window, 0))
        near[part] |= energy[part].sum() >= loudest * 10 ** (QUIET_DB / 10)
    return near


def rises(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much the mel spectrum of `(time,)` rises from frame to frame, dB, mean over bands, 0 where it falls, `(frame,)`.

    A rise stands at the frame whose window begins with it, half a window later than the window's middle.
    """
    frames = sliding_window_view(np.pad(signal, FFT // 2), FFT)[::HOP]
    window, filters = _window_and_filters()
    spectrum = scipy.fft.rfft(frames * window)
    power = filters @ (spectrum.real**2 + spectrum.imag**2).T
    level = 10 * np.log10(np.maximum(power, 1e-10))
    level = np.maximum(level, level.max() - 80)
    rise = np.maximum(np.diff(level), 0).mean(axis=0)
    return np.pad(rise, (1 + FFT // (2 * HOP), 0))[: len(frames)]


@cache
def _window_and_filters() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    return window.astype(np.float32), mel_filters(RATE, FFT, BANDS, RATE / 2)


def peaks(rise: NDArray[np.float32]) -> NDArray[np.int64]:
    """The frames at which `(frame,)` rises peak."""
    rise = rise - rise.min()
    if not rise.any():
        return np.zeros(0, np.int64)
    rise = rise / rise.max()
    frames = np.arange(len(rise))
    largest = sliding_window_view(np.pad(rise, (BEFORE, 0)), BEFORE + 1).max(axis=1)
    total, first, last = np.append(0, np.cumsum(rise, dtype=np.float64)), frames - AROUND, frames + AROUND + 1
    first, last = first.clip(min=0), last.clip(max=len(rise))
    mean = (total[last] - total[first]) / (last - first)
    found = list[int]()
    for frame in np.flatnonzero((rise == largest) & (rise >= mean + DELTA)):
        if not found or frame > found[-1] + BEFORE:
            found.append(int(frame))
    return np.array(found, np.int64)
