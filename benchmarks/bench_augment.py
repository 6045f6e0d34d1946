"""Milliseconds a clip for another pitch and tempo: sepkit's WSOLA beside librosa's phase vocoder, in one run.

    python benchmarks/bench_augment.py

A clip is 6 seconds of two stereo stems.  CPU time of one thread, the least of five; the share is of a Base step,
a clip's eighth of it, measured here: experiment D may slow training by a tenth at most.
"""

import time
import timeit
from collections.abc import Callable

import librosa
import numpy as np

from sepkit.data.augment import change
from sepkit.experiments import get_experiment
from sepkit.profiles import get_profile
from sepkit.training.plan import step_seconds

SECONDS, RATE = 6.0, 44100
SEMITONES, TEMPO = 1.9, 1.07  # near the ends of what D draws, where most is computed


def milliseconds(work: Callable[[], object]) -> float:
    return 1000 * min(timeit.repeat(work, timer=time.process_time, number=1, repeat=5))


def main() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 2, int(SECONDS * RATE))).astype(np.float32)
    profile = get_profile("full")
    step = 1000 * step_seconds(get_experiment("Base"), profile, "cpu") / profile.batch_size
    ways = {
        "tempo": lambda: change(noise, RATE, semitones=0.0, tempo=TEMPO),
        "pitch": lambda: change(noise, RATE, semitones=SEMITONES, tempo=1.0),
        "both": lambda: change(noise, RATE, semitones=SEMITONES, tempo=TEMPO),
        "tempo, librosa": lambda: librosa.effects.time_stretch(noise, rate=TEMPO),
        "pitch, librosa": lambda: librosa.effects.pitch_shift(noise, sr=RATE, n_steps=SEMITONES),
    }
    print(f"{'a Base step':16} {step:8.1f} ms a clip")
    for name, work in ways.items():
        spent = milliseconds(work)
        print(f"{name:16} {spent:8.1f} ms a clip, {spent / step:.1%} of the step")


if __name__ == "__main__":
    main()
