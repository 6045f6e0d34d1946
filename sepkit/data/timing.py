"""Which cache is faster here?  Clips a second from waveforms and from magnitudes, measured."""

import contextlib
import io
import tempfile
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from sepkit.data.batches import FixedClips, TrainingClips, read_clip
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import SongFolder
from sepkit.dsp import STFT
from sepkit.profiles import Profile
from sepkit.storage import Root

SONGS, CLIPS = 4, 40


def compare_caches(folder: SongFolder, root: Root, profile: Profile) -> pd.DataFrame:
    """Milliseconds a clip, megabytes read, and size an hour of music, for both kinds, side by side.

    A few training songs are cached in a temporary folder.  A waveform still has to be transformed:
    its row counts the STFT of mixture and sources on the CPU; a GPU does that in under 1 ms.
    """
    few = replace(folder, tracks=tuple(folder.split("train")[:SONGS]), excluded=())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=root.path) as temporary:
        for kind in ("wave", "stft"):
            settings = CacheSettings(kind=kind, sample_rate=profile.sample_rate)
            with contextlib.redirect_stdout(io.StringIO()):
                cache = build_cache(few, Root(root.path / temporary), settings, splits=("train",))
            clips = TrainingClips(cache, seconds=profile.segment_s, seed=0)
            first, start = FixedClips(cache, seconds=profile.segment_s, count=1, names=clips.names[:1]).clips[
                0
            ]
            read = 1000 * _seconds(lambda index, clips=clips: clips[0, index])
            row = {"cache": kind, "read, ms a clip": read, "STFT, ms a clip": 0.0}
            if kind == "wave":
                stft, clip = STFT(settings.n_fft, settings.hop_length), clips[0, 0]
                stack = torch.cat([clip["mixture"][None], clip["sources"]])
                row["STFT, ms a clip"] = 1000 * _seconds(
                    lambda index, stft=stft, stack=stack: stft(stack).abs()
                )
            width = 2 / 1e6  # both kinds store two bytes a value
            row["MB a clip"] = read_clip(cache, first, start, clips.length).size * width
            stored = sum(song["bytes"] for song in cache.songs.values())
            seconds = sum(cache.n_samples(name) for name in cache.songs) / cache.sample_rate
            row["GB an hour"] = stored / 1e9 / (seconds / 3600)
            rows.append(row)
            cache.close()
    reading = {row["cache"]: row["read, ms a clip"] for row in rows}
    overall = {row["cache"]: row["read, ms a clip"] + row["STFT, ms a clip"] for row in rows}
    print(
        f"Reading alone, {min(reading, key=lambda kind: reading[kind])} is faster here (wave {reading['wave']:.1f}, stft "
        f"{reading['stft']:.1f} ms a clip); with the STFT on this CPU, {min(overall, key=lambda kind: overall[kind])} (wave "
        f"{overall['wave']:.1f}, stft {overall['stft']:.1f} ms). The {profile.name} profile "
        f"reads {profile.cache_kind}: training transforms a batch on its own device in any case"
        + (", and clips of magnitudes can't be remixed." if profile.remix else ".")
    )
    return pd.DataFrame(rows).set_index("cache").round(2)


def _seconds(clip) -> float:
    """Seconds a call, over CLIPS calls after one that warms up."""
    clip(0)
    start = time.perf_counter()
    for index in range(CLIPS):
        clip(index)
    return (time.perf_counter() - start) / CLIPS
