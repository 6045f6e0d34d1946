"""Audio players that keep level differences, and stay in a notebook that was executed headless.

Conventions: clips are `(channel, time)` or `(time,)`, floating point, full scale at 1. All clips of a player share one
printed gain: 0 dB, or less where the loudest would clip; so a silent estimate stays silent. Players are plain
`<audio controls>` tags with the data in them: no JavaScript, no kernel.

Format: MP3 at about 250 kbit/s (LAME through libsndfile ≥ 1.1), 0.4 MB for 10 s of stereo where WAV takes 2.4;
levels stay within 0.1 %. FLAC, 16 bits, where libsndfile can't write MP3.
"""

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile

from sepkit.dsp import resample
from sepkit.errors import SepkitError

MAX_SECONDS = 10.0
PEAK = 0.89  # −1 dBFS: what an encoder may overshoot
MP3_RATES = (32000, 44100, 48000)  # below them LAME lowers the level by 5 %
_CELL = "padding:3px 12px 3px 0;text-align:left;vertical-align:middle"


def player(
    clips: Mapping[str, Any],
    sample_rate: int = 44100,
    *,
    start_s: float = 0.0,
    seconds: float = 10.0,
    title: str = "",
    error: tuple[str, str] | None = None,
) -> Any:
    """One player a clip, in one table, as `IPython.display.HTML`; its `data` is the text.

    Args:
        clips: `(channel, time)` or `(time,)` by name, NumPy or torch; one or two channels.
        sample_rate: Hz; resampled to 44.1 kHz where it is not 32, 44.1 or 48 kHz.
        start_s, seconds: which part is played; at most 10 s.
        error: names of an estimate and its target; adds a row "error", estimate − target.

    Raises:
        SepkitError: no clip, a wrong shape, samples that are not finite, nothing at `start_s`, an `error` between
            clips that are not there or differ in length.

    >>> tone = np.sin(np.arange(22050) / 10) / 2
    >>> page = player({"loud": tone, "quiet": tone / 100}, 22050).data
    >>> page.count("<audio controls"), "common gain 0.0 dB" in page
    (2, True)
    """
    from IPython.display import HTML  # only where something is displayed

    if not clips:
        raise SepkitError("expected at least one clip to play, got none.")
    first, count = round(start_s * sample_rate), round(min(seconds, MAX_SECONDS) * sample_rate)
    cut = {}
    for name, clip in clips.items():
        whole = as_clip(clip, name)
        cut[name] = whole[:, first : first + count]
        if not cut[name].size:
            raise SepkitError(f"clip {name!r} has {whole.shape[1] / sample_rate:.2f} s, nothing from {start_s:g} s on.")
    if error is not None:
        cut["error"] = difference(cut, *error)
    peak = max(float(np.abs(clip).max()) for clip in cut.values())
    gain_db = min(0.0, 20 * np.log10(PEAK / peak)) if peak else 0.0
    rows = []
    for name, clip in cut.items():
        source, label = _encoded(clip * 10 ** (gain_db / 20), sample_rate), html.escape(name)
        rms = float(np.sqrt((clip**2).mean()))
        level = f"RMS {20 * np.log10(rms):.1f} dBFS" if rms else "silent"
        rows.append(
            f'<tr><th scope="row" style="{_CELL}">{label}</th><td style="{_CELL}">'
            f'<audio controls preload="metadata" aria-label="{label}" src="{source}">'
            f'</audio></td><td style="{_CELL}">{level}</td></tr>'
        )
    length = max(clip.shape[1] for clip in cut.values()) / sample_rate
    where = f"{length:.1f} s" + (f" from {start_s:.1f} s" if start_s else "")
    heading = f"<b>{html.escape(title)}</b><br>" if title else ""
    return HTML(
        f'<div style="font-family:sans-serif;font-size:14px">{heading}<table style="border-collapse:collapse">'
        f"{''.join(rows)}</table><small>{where}; common gain {gain_db:z.1f} dB for all clips; levels are before it."
        "</small></div>"
    )


def difference(clips: Mapping[str, np.ndarray], estimate: str, target: str) -> np.ndarray:
    """`clips[estimate] − clips[target]`; SepkitError where one is missing or their lengths differ."""
    missing = [name for name in (estimate, target) if name not in clips]
    if missing:
        raise SepkitError(f"error needs the clip {missing[0]!r}; there are {', '.join(map(repr, clips))}.")
    if clips[estimate].shape[-1] != clips[target].shape[-1]:
        shapes = f"{clips[estimate].shape} and {clips[target].shape}"
        raise SepkitError(f"the error of {estimate!r} needs a target of its length; got {shapes}.")
    return clips[estimate] - clips[target]


def as_clip(clip: Any, name: str) -> np.ndarray:
    """`(channel, time)` float64 with one or two channels; SepkitError naming the clip otherwise."""
    array = np.asarray(clip.detach().cpu() if hasattr(clip, "detach") else clip)
    channels = array[None] if array.ndim == 1 else array
    if channels.ndim != 2 or channels.shape[0] not in (1, 2) or not channels.shape[1]:
        raise SepkitError(
            f"clip {name!r} must be (channel, time) with one or two channels; got shape {array.shape}; "
            "transpose it if time comes first."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise SepkitError(f"clip {name!r} must be floating point with full scale at 1; got {array.dtype}.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise SepkitError(f"clip {name!r} has {bad} samples that are not finite; it can't be played or drawn.")
    return channels.astype(np.float64)


def _encoded(clip: np.ndarray, sample_rate: int) -> str:
    """A `(channel, time)` clip as a data: address."""
    buffer, kind = io.BytesIO(), "mpeg" if "MP3" in soundfile.available_formats() else "flac"
    if kind == "flac":
        soundfile.write(buffer, clip.T.clip(-1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    else:
        if sample_rate not in MP3_RATES:
            clip, sample_rate = resample(clip, sample_rate, 44100), 44100
        soundfile.write(buffer, clip.T, sample_rate, format="MP3", bitrate_mode="AVERAGE", compression_level=0.2)
    return f"data:audio/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
