"""Which cache is faster here?  Clips read from waveforms and from magnitudes, measured."""

import contextlib
import io
import tempfile
import timeit
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd

from sepkit.data.batches import TrainingClips
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import SongFolder
from sepkit.dsp import STFT
from sepkit.profiles import Profile
from sepkit.storage import Root, spending

SONGS, CLIPS = 4, 40


def compare_caches(folder: SongFolder, root: Root, profile: Profile) -> pd.DataFrame:
    """Milliseconds a clip, megabytes a clip and gigabytes an hour of both kinds of cache, measured.

    A few training songs are cached in a temporary folder.  The STFT of mixture and sources, which only
    waveforms need, is measured on the CPU; a GPU takes less than 1 ms for it.
    """
    few = replace(folder, tracks=tuple(folder.split("train")[:SONGS]), excluded=())
    rows = {}
    with tempfile.TemporaryDirectory(dir=root.path) as temporary, spending(root, stage="day 1", device="cpu"):
        (Path(temporary) / "budget.csv").symlink_to(root.path / "budget.csv")  # where the build books
        for kind in ("wave", "stft"):
            settings = CacheSettings(kind=kind, sample_rate=profile.sample_rate)
            with contextlib.redirect_stdout(io.StringIO()):
                cache = build_cache(few, Root(Path(temporary)), settings, splits=("train",))
            clips = TrainingClips(cache, seconds=profile.segment_s, seed=0)
            sources, mixture, index = clips[0, 0]["sources"], clips[0, 0]["mixture"], count(1)
            read = _milliseconds(lambda clips=clips, index=index: clips[0, next(index)])
            stft, stored, transform = STFT(settings.n_fft, settings.hop_length), sources.numel(), 0.0
            if kind == "wave":
                transform = _milliseconds(lambda a=sources, b=mixture, stft=stft: (stft(a), stft(b)))
            else:
                stored += mixture.numel()
            hours = sum(map(cache.n_samples, cache.songs)) / cache.sample_rate / 3600
            gigabytes = sum(song["bytes"] for song in cache.songs.values()) / 1e9
            # both kinds store two bytes a value
            rows[kind] = (read, transform, stored * 2 / 1e6, gigabytes / hours)
            cache.close()
    columns = ["read, ms a clip", "STFT, ms a clip", "MB a clip", "GB an hour"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("cache")
    reading, total = table[columns[0]], table[columns[0]] + table[columns[1]]
    print(
        f"Reading alone, {reading.idxmin()} is faster here (wave {reading['wave']:.1f}, stft {reading['stft']:.1f} ms a clip); "
        f"with the STFT on this CPU, {total.idxmin()} (wave {total['wave']:.1f}, stft {total['stft']:.1f} ms). "
        f"The {profile.name} profile reads {profile.cache_kind}: training transforms a batch on its own device in any "
        "case" + (", and clips of magnitudes can't be remixed." if profile.remix else ".")
    )
    return table.round(2)


def _milliseconds(call) -> float:
    """Of one call, over CLIPS calls after one that warms up."""
    call()
    return 1000 * timeit.timeit(call, number=CLIPS) / CLIPS
