"""Caches -> training clips.

Every draw is a function of (seed, epoch, index) alone, so the clips do not depend on the number of
workers, on what was drawn before, or on a restart.  A sampler hands (epoch, index) to the data
set, which knows from the epoch how long a clip is, so workers keep no state between epochs.

A clip is {"mixture", "sources", "track"}: float32 waveforms (channel, time) and (source, channel, time),
the mixture being the sum of the sources; from a stft cache both are magnitudes ([source,] channel, freq, frame).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from sepkit.data.cache import ACTIVITY_S, Cache, mixture_of
from sepkit.errors import SepkitError, UsageError

SILENCE_DBFS = -60.0  # vocals below this, in every 0.1 s of a clip, count as absent


def clip_seeds(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one clip's draws.

    >>> a, b = clip_seeds(0, 1, 2).random(2), clip_seeds(0, 1, 2).random(2)
    >>> bool((a == b).all())
    True
    """
    return np.random.default_rng([seed, epoch, index])


class Starts:
    """Where clips of `length` samples may begin in each song, with vocals and without.

    Positions lie on the 0.1 s grid of the stored loudness.  A song shorter than a clip gives one
    position, and the clip is padded with zeros at its end.
    """

    def __init__(self, cache: Cache, names: Sequence[str], length: int) -> None:
        hop, span = round(ACTIVITY_S * cache.sample_rate), length
        self.with_vocals: dict[str, np.ndarray] = {}
        self.without_vocals: dict[str, np.ndarray] = {}
        for name in names:
            starts = np.arange(0, max(1, cache.n_samples(name) - span + 1), hop)
            loud = np.concatenate([[0], np.cumsum(cache.activity_db(name) > SILENCE_DBFS)])
            first = starts // hop
            last = np.minimum(-(-(starts + span) // hop), len(loud) - 1)
            active = loud[last] - loud[first] > 0
            for found, kept in ((active, self.with_vocals), (~active, self.without_vocals)):
                if found.any():
                    kept[name] = starts[found]

    def draw(self, rng: np.random.Generator, vocals: bool | None) -> tuple[str, int]:
        """(song, start): songs equally likely, then positions; None takes any position."""
        if vocals is None:
            names = sorted(self.with_vocals.keys() | self.without_vocals.keys())
            name = names[rng.integers(len(names))]
            kept = [table[name] for table in (self.with_vocals, self.without_vocals) if name in table]
            starts = np.concatenate(kept)
        else:
            table = self.with_vocals if vocals else self.without_vocals
            table = table or self.with_vocals or self.without_vocals  # "where such clips exist"
            names = list(table)
            name = names[rng.integers(len(names))]
            starts = table[name]
        return name, int(starts[rng.integers(len(starts))])


class TrainingClips(Dataset):
    """Clips keyed by (epoch, index).

    sampling: "balanced" (even indices with vocals, odd ones without, where there are any) or
    "uniform".  remix: share of the clips whose other stems come from other draws, every stem from its
    own: with two stems the accompaniment, with four each of drums, bass and other.  augment: a
    callable (sources, rng, sample_rate) -> sources of the same shape, or None.  curriculum:
    [(epochs, seconds), …], clips of other lengths in the first epochs, in turn; then `seconds`.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        seconds: float,
        seed: int,
        sampling: str = "balanced",
        remix: float = 0.0,
        augment: Any = None,
        curriculum: Sequence[Sequence[float]] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.cache, self.seed, self.sampling, self.remix, self.augment = cache, seed, sampling, remix, augment
        self.length = clip_length(seconds, cache.sample_rate)
        self.names = list(names) if names is not None else cache.names("train")
        if not self.names:
            raise SepkitError(
                f"No training songs in {cache.path} (0 found); give a folder whose train/ has songs."
            )
        if cache.settings.kind == "stft" and (remix or augment):
            raise UsageError(
                "A stft cache holds magnitudes, which can be neither remixed nor augmented; use cache_kind wave."
            )
        lengths = [(epochs, clip_length(shorter, cache.sample_rate)) for epochs, shorter in curriculum or ()]
        self.lengths = [length for epochs, length in lengths for _ in range(int(epochs))]
        self.starts = {length: Starts(cache, self.names, length) for length in {self.length, *self.lengths}}

    def length_in(self, epoch: int) -> int:
        """Samples of a clip in `epoch`, from 0."""
        return self.lengths[epoch] if epoch < len(self.lengths) else self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        rng = clip_seeds(self.seed, epoch, index)
        vocals = index % 2 == 0 if self.sampling == "balanced" else None
        length = self.length_in(epoch)
        starts = self.starts[length]
        name, start = starts.draw(rng, vocals)
        sources = read_clip(self.cache, name, start, length)
        if rng.random() < self.remix:
            for number in range(1, len(sources)):  # sources[0] is the vocals
                other, other_start = starts.draw(rng, None)
                sources[number] = read_clip(self.cache, other, other_start, length)[number]
                name = f"{name} + {other}"
        if self.augment is not None:
            sources = self.augment(sources, rng, self.cache.sample_rate)
        return _item(self.cache, sources, name)


class FixedClips(Dataset):
    """The same clips every time: `count` evenly spaced ones of each song, for validation."""

    def __init__(self, cache: Cache, *, seconds: float, count: int, names: Sequence[str]) -> None:
        self.cache, self.length = cache, clip_length(seconds, cache.sample_rate)
        self.clips: list[tuple[str, int]] = []
        if not names:
            raise SepkitError(f"No songs to take fixed clips from in {cache.path} (0 found); name some.")
        for name in names:
            room = max(0, cache.n_samples(name) - self.length)
            starts = np.linspace(0, room, count + 2)[1:-1] if room else [0]
            self.clips += [(name, int(start)) for start in starts]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, start = self.clips[index]
        return _item(self.cache, read_clip(self.cache, name, start, self.length), name)


def clip_length(seconds: float, sample_rate: int) -> int:
    """Samples of a clip; SepkitError below 0.1 s, which no network here can use."""
    if seconds < ACTIVITY_S:
        raise SepkitError(f"Clips must last at least {ACTIVITY_S} s, but segment_s is {seconds}.")
    return round(seconds * sample_rate)


def read_clip(cache: Cache, name: str, start: int, length: int) -> np.ndarray:
    """A clip in float32, its last axis padded with zeros where the song ends earlier.

    `start` and `length` count samples; a stft cache gives the 1 + length // hop frames from there.
    """
    if cache.settings.kind == "stft":
        hop = cache.settings.hop_length
        first, wanted = start // hop, 1 + length // hop
        clip = cache.magnitudes(name, first, first + wanted)
    else:
        wanted = length
        clip = cache.sources(name, start, start + length)
    missing = wanted - clip.shape[-1]
    return np.pad(clip, [(0, 0)] * (clip.ndim - 1) + [(0, missing)]) if missing else clip


def _item(cache: Cache, clip: np.ndarray, name: str) -> dict[str, Any]:
    tensor = torch.from_numpy(clip)
    if cache.settings.kind == "stft":  # the mixture comes first
        return {"mixture": tensor[0], "sources": tensor[1:], "track": name}
    return {"mixture": mixture_of(tensor), "sources": tensor, "track": name}


class EpochSampler(Sampler):
    """Yields (epoch, index) for every index of this process; Lightning calls `set_epoch`.

    length: indices an epoch of all processes together, or a function of the epoch.
    """

    def __init__(self, length: int | Callable[[int], int], rank: int = 0, world_size: int = 1) -> None:
        self.length, self.rank, self.world_size, self.epoch = length, rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _indices(self) -> range:
        length = self.length(self.epoch) if callable(self.length) else self.length
        return range(self.rank, length, self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter((self.epoch, index) for index in self._indices())

    def __len__(self) -> int:
        return len(self._indices())


class EpochBatches(Sampler):
    """Lists of (epoch, index), `steps` an epoch; clips half as long come in batches twice as large.

    So every epoch sees the same seconds in the same number of updates, up to rounding to whole clips.
    """

    def __init__(
        self, clips: TrainingClips, batch_size: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.clips, self.batch_size, self.steps = clips, batch_size, steps
        self.sampler = EpochSampler(lambda epoch: self.size(epoch) * steps * world_size, rank, world_size)

    def size(self, epoch: int) -> int:
        """Clips of a batch in `epoch`."""
        return max(1, round(self.batch_size * self.clips.length / self.clips.length_in(epoch)))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches: Any = BatchSampler(self.sampler, self.size(self.sampler.epoch), drop_last=False)
        return iter(batches)

    def __len__(self) -> int:
        return self.steps


def training_loader(
    clips: TrainingClips, *, batch_size: int, steps: int, workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """`steps` batches an epoch and process; the clips are the same for any number of workers."""
    return DataLoader(
        clips,
        batch_sampler=EpochBatches(clips, batch_size, steps, rank, world_size),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
