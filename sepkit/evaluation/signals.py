"""What every score asks of a signal: its axes, its windows of a second, and which of them are silent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepkit.errors import SepkitError

Array = NDArray[np.float64]
TAPS = 512  # of BSS Eval's filters
MAX_CHANNELS = 8
AXES = "(source, channel, time)"


def checked(signal: Any, name: str, axes: str = AXES, like: Array | None = None) -> Array:
    """The signal as float64; a SepkitError naming `name` if it has other axes than `axes`, is not finite floating
    point, or has another shape than `like`, the checked target."""
    array = np.asarray(signal.detach().cpu() if hasattr(signal, "detach") else signal)
    if array.ndim != axes.count(",") + 1 or array.size == 0:
        raise SepkitError(f"{name} must be {axes} and not empty; got shape {array.shape}.")
    channels, time = array.shape[-2:]
    if channels > MAX_CHANNELS or time < channels:
        raise SepkitError(
            f"{name} must be {axes}; got shape {array.shape}, that is {channels} channels of {time} samples, which looks like {axes.replace('channel, time', 'time, channel')}: swap the last two axes."
        )
    if like is not None and array.shape[:-1] != like.shape[:-1]:
        raise SepkitError(f"{name} must be {axes} of shape {like.shape}, as the target; got {array.shape}.")
    if like is not None and time != like.shape[-1]:
        raise SepkitError(
            f"{name} has {time} samples where {like.shape[-1]} are expected: nothing is padded or cut here, so make the lengths equal before scoring."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise SepkitError(f"{name} must be floating point, full scale at 1; got {array.dtype}.")
    with np.errstate(invalid="ignore", over="ignore"):
        total = array.sum(dtype=np.float64)
    # A sum needs no second array; only then the samples are looked at.
    if not np.isfinite(total) and not (finite := np.isfinite(array)).all():
        where = "" if array.ndim == 2 else f" of source {np.flatnonzero(~finite.all(axis=(1, 2)))[0]}"
        raise SepkitError(
            f"{name}{where} has {array.size - finite.sum()} samples that are NaN or infinite, which would spoil every score: look for a diverged model or a broken file."
        )
    return array.astype(np.float64, copy=False)


def in_windows(signal: Array, sample_rate: int) -> Array:
    """`(…, window, time)`, a view: the full seconds of `(…, time)`; all of it where it is shorter than one."""
    window = min(sample_rate, signal.shape[-1])
    count = signal.shape[-1] // window
    return signal[..., : count * window].reshape(*signal.shape[:-1], count, window)


def silence(signal: Array, sample_rate: int) -> NDArray[np.bool_]:
    """`(source, window)`: True where museval calls the source silent: its channels sum to zero."""
    windows = in_windows(signal, sample_rate)
    sounds = windows[..., :64].sum(axis=1).any(axis=2)  # the first samples tell, nearly always
    for i in np.flatnonzero(~sounds.all(axis=0)):
        sounds[:, i] = windows[:, :, i].sum(axis=1).any(axis=1)
    return ~sounds
