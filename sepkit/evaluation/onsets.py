"""Where a source begins to sound anew: drum strokes, plucked strings, syllables.

Onsets are those of `librosa.onset.onset_detect` with its defaults, on the sum of the channels at 44.1 kHz (other rates
are resampled to that): rises of the log-power mel spectrum (128 bands, FFT 2048, hop 512). A peak of them is at least
as large as in the two frames before, by 7 % of the largest rise above the mean of eight frames on both sides, and more
than two frames after the last. The sum is brought to peak 1, so that a level changes nothing, and mirrored beyond its
ends, so that an excerpt's cuts are no onsets.

librosa reports a frame 0 to 15 ms after the attack (measured on clicks, tones, and bursts with and without a ramp of
10 ms). Windows of 50 ms therefore begin 15 ms before it: they hold the attack and at least the 35 ms after it, and
nothing from 50 ms after it on. As a rise counts relative to the largest, a source that sounds steadily has onsets too,
in its fluctuations.
"""

import numpy as np
from numpy.typing import NDArray

from sepkit.dsp import resample
from sepkit.evaluation.signals import Array
from sepkit.parallel import import_librosa

RATE = 44100  # Hz, at which onsets are found
MARGIN = 4096  # mirrored samples at both ends: librosa puts zeros beyond, whose edges are onsets to it
LEAD_S, WINDOW_S = 0.015, 0.050
QUIET_DB = -60.0  # below the loudest 50 ms of the source: what librosa finds in its noise


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
    found = import_librosa().onset.onset_detect(y=mirrored, sr=RATE, units="samples") - MARGIN

    window, lead = round(WINDOW_S * sample_rate), round(LEAD_S * sample_rate)
    energy = np.einsum("ct,ct->t", target, target)
    loudest = np.add.reduceat(energy, np.arange(0, len(energy), window)).max()
    for onset in found:
        start = round(onset * sample_rate / RATE) - lead
        part = slice(max(start, 0), max(start + window, 0))
        near[part] |= energy[part].sum() >= loudest * 10 ** (QUIET_DB / 10)
    return near
