"""The cache: one HDF5 file a song, read in slices.  `sepkit.data.build` writes it.

`wave`: int16 (source, channel, time), one second of all sources a chunk: a 6-second clip is seven neighbouring chunks.
`stft`: float16 magnitudes (1 + source, channel, freq, frame), the mixture first: at hop 256 twice the bytes.

`mixture_of` and `stores_mixture` alone decide what a mixture is: a training clip's is the sum of its sources, perhaps
augmented; a scored song has its own, which a wave cache stores where the two differ (AAC, mastering, missing sources).
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sepkit.errors import SepkitError, UsageError
from sepkit.profiles import PROTOCOLS, SAMPLE_RATE, STEMS, get_profile
from sepkit.storage.files import file_name

ACTIVITY_S = 0.1  # hop of the stored loudness of the vocals
SUM_RESIDUAL_DB = -60.0  # energy of mixture − Σ sources above this, beside the mixture's, is more than three roundings


@dataclass(frozen=True)
class CacheSettings:
    """What a cache holds; the STFT's settings count where the kind is stft."""

    kind: str = "wave"  # or "stft"
    sample_rate: int = SAMPLE_RATE
    sources: tuple[str, ...] = PROTOCOLS["2stem"]
    n_fft: int = 1024
    hop_length: int = 256
    bandwidth_hz: float | None = None  # None keeps all bins

    def __post_init__(self) -> None:
        if self.kind not in ("wave", "stft"):
            raise UsageError(f"There is no cache of kind {self.kind!r}; expected wave or stft.")

    @property
    def n_bins(self) -> int:
        highest_hz = self.sample_rate / 2 if self.bandwidth_hz is None else self.bandwidth_hz
        return min(self.n_fft // 2, int(highest_hz * self.n_fft / self.sample_rate)) + 1

    def to_dict(self) -> dict[str, Any]:
        """The settings that decide what the files hold, as JSON keeps them."""
        left_out = () if self.kind == "stft" else ("n_fft", "hop_length", "bandwidth_hz")
        values = {**asdict(self), "sources": list(self.sources)}
        return {name: value for name, value in values.items() if name not in left_out}


def mixture_of(sources: Any, own: Any = None) -> Any:
    """The mixture (…, channel, time) of sources (…, source, channel, time), arrays or tensors: `own`, else their sum."""
    return sources.sum(-3) if own is None else own


def stores_mixture(settings: CacheSettings, residual_db: float) -> bool:
    """Whether a cache keeps a song's own mixture, whose residual beside the sum of its stems is known."""
    whole = set(settings.sources) in map(set, PROTOCOLS.values())
    return settings.kind == "wave" and (residual_db > SUM_RESIDUAL_DB or not whole)


@dataclass
class Cache:
    """An opened cache; a file is opened at its first use, once a process."""

    path: Path
    settings: CacheSettings
    # by name, as in the manifest: "split", "artist", "frames", "bytes", "residual_db", "digest" of its file here, and
    # "source", the digest of the files that it was made from
    songs: dict[str, dict[str, Any]]
    # "split" and "artist" of the songs of exclude.txt: folds are dealt as if they were there
    excluded: dict[str, dict[str, Any]] = field(default_factory=dict)
    layout: str = ""  # of the songs, as in sepkit.data.layouts
    origin: str = ""  # which folder of songs it was made from, and how that was read
    unusable: dict[str, str] = field(default_factory=dict)  # songs that were asked for and can't be used: why
    _handles: dict[tuple[int, str], h5py.File] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # a worker process opens its own handles: HDF5 handles survive neither fork nor pickling
        return {**self.__dict__, "_handles": {}}

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    def names(self, split: str) -> list[str]:
        return [name for name, song in self.songs.items() if song["split"] == split]

    def n_samples(self, name: str) -> int:
        return int(self.songs[name]["frames"])

    def file(self, name: str) -> h5py.File:
        """The song's open file; beside the audio it holds `activity_db`, the vocals' loudness each 0.1 s in dBFS."""
        key, file = (os.getpid(), name), track_file(self.path, name)
        try:
            if key not in self._handles:
                self._handles[key] = h5py.File(file, "r", locking=False)
        except OSError as error:
            raise SepkitError(f"Cache file {file} can't be read ({error}); delete it and run cache again.") from error
        return self._handles[key]

    def sources(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (source, channel, time), sources in the order of the settings."""
        return _float32(self.file(name)["audio"], start, stop)

    def song(self, name: str, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(the song's own mixture, {source: target}), each float32 (channel, time)."""
        file, sources = self.file(name), self.sources(name, start, stop)
        own = _float32(file["mixture"], start, stop) if "mixture" in file else None
        return mixture_of(sources, own), dict(zip(self.settings.sources, sources, strict=True))

    def magnitudes(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (1 + source, channel, freq, frame) of a stft cache, the mixture first; frames count."""
        return self.file(name)["magnitudes"][..., start:stop].astype(np.float32)

    def close(self) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()


def _float32(data: h5py.Dataset, start: int, stop: int | None) -> np.ndarray:
    return data[..., start:stop].astype(np.float32) * np.float32(data.attrs["scale"])


def cache_sources(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run is scored on: vocals and accompaniment; four stems if its network estimates drums, bass or other."""
    if protocol := config.get("protocol"):
        return PROTOCOLS[protocol]
    estimated = config.get("model", {}).get("sources", ("vocals",))
    return PROTOCOLS["2stem"] if set(estimated) <= set(PROTOCOLS["2stem"]) else STEMS


def training_sources(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The sources of its training clips: the same, or the four stems where its training asks for them."""
    return STEMS if config["training"]["stems"] else cache_sources(config)


def training_cache_settings(config: Mapping[str, Any]) -> CacheSettings:
    """Of the cache that a run with these settings trains from."""
    kind, rate = config["training"]["cache_kind"], config["model"]["sample_rate"]
    return CacheSettings(kind, rate, training_sources(config))


def scoring_cache_settings(config: Mapping[str, Any]) -> CacheSettings:
    """Of the cache that it is scored on."""
    return CacheSettings(sample_rate=get_profile(config["profile"]).scored_at, sources=cache_sources(config))


def track_file(folder: Path, name: str) -> Path:
    return folder / file_name(name, ".h5")


def cache_gigabytes(hours: float, settings: CacheSettings) -> float:
    """Size of a cache before it is built, GB: 2 channels, 2 bytes a value, each source (stft: and the mixture)."""
    values: float = settings.sample_rate * len(settings.sources)  # a second and channel
    if settings.kind == "stft":
        values = settings.sample_rate / settings.hop_length * settings.n_bins * (1 + len(settings.sources))
    return hours * 3600 * 2 * 2 * values / 1e9
