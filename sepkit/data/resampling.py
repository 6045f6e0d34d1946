"""Change of sample rate, offline and per song."""

from math import gcd

import numpy as np
from scipy.signal import resample_poly


def resample(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`audio` (…, time) at `new_rate` Hz, by a zero-phase polyphase filter; float32.

    Untouched where the rates are equal.  n samples become ⌈n · new_rate / rate⌉.

    >>> resample(np.ones((2, 441), np.float32), 44100, 32000).shape
    (2, 320)
    """
    if rate == new_rate:
        return audio
    divisor = gcd(rate, new_rate)
    return resample_poly(audio, new_rate // divisor, rate // divisor, axis=-1).astype(np.float32)
