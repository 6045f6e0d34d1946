"""The cache: one HDF5 file a track, read in slices.  `sepkit.data.build` writes it.

`wave`: int16 (source, channel, time), chunked along time, one second a chunk over all sources, so
that a 6-second clip of everything is seven neighbouring chunks.  The mixture is the sum of the
sources and is stored only where the song's own mixture is not (AAC coding, mastering).
`stft`: float16 magnitudes (1 + source, channel, freq, frame), the mixture first, all bins below the
bandwidth, chunked along frames.  At hop 256 they take twice the bytes of the waveform.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sepkit.data.songs import STEMS
from sepkit.errors import SepkitError, UsageError

ACTIVITY_S = 0.1  # hop of the stored loudness of the vocals


@dataclass(frozen=True)
class CacheSettings:
    """What a cache holds: kind, rate in Hz, the sources, and the STFT where the kind is stft.

    bandwidth_hz: bins above it are left out; None keeps all.  UsageError for another kind.
    """

    kind: str = "wave"
    sample_rate: int = 44100
    sources: tuple[str, ...] = ("vocals", "accompaniment")
    n_fft: int = 1024
    hop_length: int = 256
    bandwidth_hz: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("wave", "stft"):
            raise UsageError(f"There is no cache of kind {self.kind!r}; expected wave or stft.")

    @property
    def n_bins(self) -> int:
        """Bins of a stft cache, up to the bandwidth."""
        bins = self.n_fft // 2 + 1
        return (
            bins
            if self.bandwidth_hz is None
            else min(bins, int(self.bandwidth_hz * self.n_fft / self.sample_rate) + 1)
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings that decide what the files hold."""
        settings = json.loads(json.dumps(asdict(self)))
        if self.kind == "wave":
            for name in ("n_fft", "hop_length", "bandwidth_hz"):
                settings.pop(name)
        return settings


@dataclass
class Cache:
    """An opened cache; file handles are opened where they are first used, once a process."""

    path: Path
    settings: CacheSettings
    songs: dict[str, dict[str, Any]]
    _handles: dict[tuple[int, str], h5py.File] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # a worker process opens its own handles: HDF5 handles survive neither fork nor pickling
        return {**self.__dict__, "_handles": {}}

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    @property
    def fingerprint(self) -> str:
        return self.path.name

    def names(self, split: str) -> list[str]:
        return [name for name, song in self.songs.items() if song["split"] == split]

    def frames(self, name: str) -> int:
        """Length of a song in samples."""
        return int(self.songs[name]["frames"])

    def file(self, name: str) -> h5py.File:
        key = (os.getpid(), name)
        if key not in self._handles:
            file = track_file(self.path, name)
            try:
                self._handles[key] = h5py.File(file, "r")
            except OSError as error:
                raise SepkitError(
                    f"The cache file {file} can't be read ({error}); delete it and run cache again."
                ) from error
        return self._handles[key]

    def sources(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (source, channel, time), sources in the order of the settings."""
        audio = self.file(name)["audio"]
        return audio[:, :, start:stop].astype(np.float32) * np.float32(audio.attrs["scale"])

    def mixture(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (channel, time): the song's own mixture, or the sum of its sources where that is it."""
        file = self.file(name)
        if "mixture" in file:
            mixture = file["mixture"]
            return mixture[:, start:stop].astype(np.float32) * np.float32(mixture.attrs["scale"])
        return self.sources(name, start, stop).sum(axis=0)

    def magnitudes(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (1 + source, channel, freq, frame) of a stft cache, the mixture first; frames count."""
        return self.file(name)["magnitudes"][..., start:stop].astype(np.float32)

    def activity_db(self, name: str) -> np.ndarray:
        """Loudness of the vocals, dBFS, one value each 0.1 s."""
        return self.file(name)["activity_db"][:]

    def close(self) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()


def cache_sources(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The sources that a run with this config.json is scored on, by what its network estimates.

    Vocals and accompaniment; the four stems where it estimates drums, bass or other.

    >>> cache_sources({"model": {"name": "demucs-tiny", "sources": ["drums", "bass"]}})
    ('vocals', 'drums', 'bass', 'other')
    """
    estimated = config.get("model", {}).get("sources", ("vocals",))
    two = ("vocals", "accompaniment")
    return two if set(estimated) <= set(two) else STEMS


def training_sources(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The sources that its clips are made of: the same, or the four stems where its training asks for them."""
    return STEMS if config["training"]["stems"] else cache_sources(config)


def track_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.h5"


def cache_gigabytes(hours: float, settings: CacheSettings) -> float:
    """Size of a cache before it is built, GB: 2 bytes a value, 2 channels, each source (stft: and mixture)."""
    seconds, channels, width = hours * 3600, 2, 2
    if settings.kind == "stft":
        values = settings.sample_rate / settings.hop_length * settings.n_bins * (1 + len(settings.sources))
    else:
        values = settings.sample_rate * len(settings.sources)
    return seconds * channels * width * values / 1e9
