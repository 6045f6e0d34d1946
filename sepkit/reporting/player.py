"""Audio players that keep level differences, and stay in a notebook that was executed headless.

Conventions: clips are `(channel, time)` or `(time,)`, floating point, full scale at 1. All clips of a player share one
printed gain: 0 dB, or less where the loudest would clip; so a silent estimate stays silent.

A player is a table of `<audio controls>` with the data in them, and a script (player.js) that turns the table into one
player on one clock. Where scripts do not run (an untrusted notebook, `ipywidgets.HTML`) the table stays.

Format: Opus at 64 kbit/s for stereo: 85 kB of a page for 8 s. On mixtures, vocals and errors of six songs its levels
are within 0.05 dB, and every clip keeps its length to the sample. Safari plays it from 18.4 on. (MP3 of 76 to 146
kbit/s lowers everything by 0.4 dB, of 250 it takes four times the bytes.) FLAC, 16 bits, where libsndfile has no Opus.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sepkit.dsp import resample
from sepkit.errors import SepkitError

MAX_SECONDS = 10.0
PEAK = 0.89  # −1 dBFS: what an encoder may overshoot
OPUS_RATE = 48000  # Hz
N_PEAKS = 240  # of a drawn waveform
_CELL = "padding:3px 12px 3px 0;text-align:left;vertical-align:middle"


def player(
    clips: Mapping[str, Any],
    sample_rate: int = 44100,
    *,
    start_s: float = 0.0,
    seconds: float = 10.0,
    title: str = "",
    error: tuple[str, str] | Sequence[tuple[str, str]] | None = None,
    kbit_s: int = 64,
) -> Any:
    """One row a clip, all on one clock, as `IPython.display.HTML`; its `data` is the text.

    Keys, once the player has the focus: space plays, 1 to 9 and ↑ ↓ choose a clip, ← → move by a second, e switches to
    the errors and back. A drag over a waveform loops a part. A new player takes over position, loop and row from an
    earlier one of the same title on the page.

    Args:
        clips: `(channel, time)` or `(time,)` by name, NumPy or torch; one or two channels.
        sample_rate: Hz.
        start_s, seconds: the part to play, at most 10 s.
        error: names of an estimate and its target; adds a row "error", estimate − target. A list of such pairs gives
            each estimate's row its error as a second sound, and one switch leads to all errors. Errors are encoded
            from the difference itself: a difference of two encoded clips is mostly what the encoder lost.
        kbit_s: of a stereo clip; a mono clip takes half. Levels are right from 48 on.

    Raises:
        SepkitError: no clip, a wrong shape, not finite, nothing at `start_s`, an `error` of absent or unequal clips.

    >>> page = player({"loud": np.ones(8000) / 2, "quiet": np.ones(8000) / 200}, 8000).data
    >>> page.count("<audio controls"), "common gain 0.0 dB" in page
    (2, True)
    """
    from IPython.display import HTML  # only where something is displayed

    first, count = round(start_s * sample_rate), round(min(seconds, MAX_SECONDS) * sample_rate)
    rows = _rows(clips, slice(first, first + count), sample_rate, error)
    sounds = {name: sound for row in rows.values() for name, sound in row.items()}
    length = max(sound.shape[1] for sound in sounds.values())
    peak = max(float(np.abs(sound).max()) for sound in sounds.values())
    gain = min(1.0, PEAK / peak) if peak else 1.0

    made = _audios(sounds, gain * peak, gain, length, sample_rate, kbit_s)
    table = "".join(
        f'<tr><th scope="row" style="{_CELL}">{html.escape(name)}</th>'
        f'<td style="{_CELL}">{"".join(map(made.__getitem__, row))}</td>'
        f'<td style="{_CELL}">{"<br>error ".join(map(_level, row.values()))}</td></tr>'
        for name, row in rows.items()
    )
    duration, escaped = length / sample_rate, html.escape(title)
    return HTML(
        f'<div class="sepkit-player" data-seconds="{duration:.4f}" data-title="{escaped}" '
        f'style="font-family:sans-serif;font-size:14px">{f"<b>{escaped}</b>" if title else ""}'
        f'<table style="border-collapse:collapse;table-layout:auto">{table}</table>'
        f"<small>{duration:.1f} s{f' from {start_s:.1f} s' if start_s else ''}; common gain {20 * np.log10(gain):z.1f} dB "
        f"for all clips; levels are before it.</small><script>{_script()}</script></div>"
    )


def _rows(clips: Mapping[str, Any], part: slice, sample_rate: int, error: Any) -> dict[str, dict[str, np.ndarray]]:
    """The sounds of each row, by name: the clip, and its error where `error` is a list."""
    if not clips:
        raise SepkitError("expected at least one clip to play, got none.")
    rows = {}
    for name, clip in clips.items():
        whole = as_clip(clip, name)
        rows[name] = {name: whole[:, part]}
        if not rows[name][name].size:
            have, start = whole.shape[1] / sample_rate, part.start / sample_rate
            raise SepkitError(f"clip {name!r} has {have:.2f} s, nothing from {start:g} s on.")
    single = bool(error) and isinstance(error[0], str)
    for estimate, target in [error] if single else error or ():
        missing = [name for name in (estimate, target) if name not in clips]
        if missing:
            raise SepkitError(f"error needs the clip {missing[0]!r}; there are {', '.join(map(repr, clips))}.")
        one, other = rows[estimate][estimate], rows[target][target]
        if one.shape[1] != other.shape[1]:
            raise SepkitError(
                f"the error of {estimate!r} needs a target of its length; got {one.shape}, {other.shape}."
            )
        row, name = ("error", "error") if single else (estimate, f"error of {estimate}")
        rows.setdefault(row, {})[name] = one - other
    return rows


def _audios(
    sounds: Mapping[str, np.ndarray], loudest: float, gain: float, length: int, sample_rate: int, kbit_s: int
) -> dict[str, str]:
    """An <audio> for each sound, times `gain`; loudest: the peak of all then."""

    def audio(name: str, sound: np.ndarray) -> str:
        scaled = np.pad(gain * sound, ((0, 0), (0, length - sound.shape[1])))  # a loop needs equal lengths
        source = _address(scaled.astype(np.float32).tobytes(), len(scaled), sample_rate, kbit_s)
        peaks = _peaks(scaled, loudest)
        return f'<audio controls aria-label="{html.escape(name)}" data-peaks="{peaks}" src="{source}"></audio>'

    with ThreadPoolExecutor() as pool:  # an encoder, most of the time of a player, runs outside Python's lock
        return dict(zip(sounds, pool.map(audio, sounds, sounds.values()), strict=True))


def _level(sound: np.ndarray) -> str:
    rms = float(np.sqrt((sound**2).mean()))
    return f"RMS {20 * np.log10(rms):.1f} dBFS" if rms else "silent"


def _peaks(sound: np.ndarray, loudest: float) -> str:
    """`N_PEAKS` digits of base 36: the peaks of equal parts, 35 for `loudest`."""
    parts = np.array_split(np.abs(sound).max(axis=0), min(N_PEAKS, sound.shape[1]))
    return "".join(np.base_repr(round(35 * float(part.max()) / (loudest or 1)), 36) for part in parts).lower()


def _script() -> str:
    """player.js without its comments and indentation."""
    lines = Path(__file__).with_name("player.js").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in map(str.strip, lines) if not line.startswith("// "))


def as_clip(clip: Any, name: str) -> np.ndarray:
    """`(channel, time)` float64 with one or two channels; SepkitError naming the clip otherwise."""
    array = np.asarray(clip.detach().cpu() if hasattr(clip, "detach") else clip)
    channels = array[None] if array.ndim == 1 else array
    if channels.ndim != 2 or channels.shape[0] not in (1, 2) or not channels.shape[1]:
        raise SepkitError(
            f"clip {name!r} must be (channel, time) with one or two channels; got shape {array.shape}; transpose it if time comes first."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise SepkitError(f"clip {name!r} must be floating point with full scale at 1; got {array.dtype}.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise SepkitError(f"clip {name!r} has {bad} samples that are not finite; it can't be played or drawn.")
    return channels.astype(np.float64)


@lru_cache(8)  # 3 MB each: players of one song share mixture and target
def _address(samples: bytes, channels: int, sample_rate: int, kbit_s: int) -> str:
    """A clip, the bytes of its `(channel, time)` in float32, as a data: address."""
    clip = np.frombuffer(samples, np.float32).reshape(channels, -1)
    buffer, kind = io.BytesIO(), "ogg" if "OPUS" in soundfile.available_subtypes("OGG") else "flac"
    if kind == "flac":
        soundfile.write(buffer, clip.T.clip(-1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    else:  # libsndfile maps 0 … 1 to 256 … 6 kbit/s a channel
        level = min(max(1 - (kbit_s / 2 - 6) / 250, 0), 1)
        clip = resample(clip, sample_rate, OPUS_RATE)
        soundfile.write(buffer, clip.T, OPUS_RATE, format="OGG", subtype="OPUS", compression_level=level)
    return f"data:audio/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
