"""Caches -> training clips.

Every draw is a function of (seed, epoch, index): clips do not depend on workers, on earlier draws, or on a restart.

A clip is {"mixture", "sources", "track"}: float32 waveforms (channel, time) and (source, channel, time), the mixture
being the sum of the sources; from a stft cache both are magnitudes ([source,] channel, freq, frame).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from sepkit.data.cache import ACTIVITY_S, Cache, mixture_of
from sepkit.errors import SepkitError, UsageError
from sepkit.parallel import end_with_parent

SILENCE_DBFS = -60.0  # a clip without vocals has them below this in every 0.1 s


class Starts:
    """Where clips of `length` samples may start: `tables` {True with vocals, False without, None anywhere: {song: starts}}.

    Positions lie on the 0.1 s grid of the stored loudness.  A song shorter than a clip gives one position, 0.
    """

    def __init__(self, cache: Cache, names: Sequence[str], length: int) -> None:
        hop = round(ACTIVITY_S * cache.sample_rate)
        self.tables: dict[bool | None, dict[str, np.ndarray]] = {True: {}, False: {}, None: {}}
        for name in names:
            starts = np.arange(0, max(1, cache.n_samples(name) - length + 1), hop)
            loud = np.concatenate([[0], np.cumsum(cache.file(name)["activity_db"][:] > SILENCE_DBFS)])
            last = np.minimum(-(-(starts + length) // hop), len(loud) - 1)
            active = loud[last] > loud[starts // hop]
            for vocals, found in ((True, active), (False, ~active)):
                if found.any():
                    self.tables[vocals][name] = starts[found]
            self.tables[None][name] = np.concatenate([starts[active], starts[~active]])
        self.tables[None] = dict(sorted(self.tables[None].items()))

    def draw(self, rng: np.random.Generator, vocals: bool | None) -> tuple[str, int]:
        """(song, start): songs equally likely, then positions; None takes any position."""
        table = self.tables[vocals] or self.tables[True] or self.tables[False]  # songs without such clips
        name = list(table)[rng.integers(len(table))]
        return name, int(table[name][rng.integers(len(table[name]))])


class TrainingClips(Dataset):
    """Clips keyed by (epoch, index)."""

    def __init__(
        self,
        cache: Cache,
        *,
        seconds: float,
        seed: int,
        # clips with and without vocals: balanced, in turn, where there are any of both; uniform, as songs have them;
        # vocals, with them alone
        sampling: str = "balanced",
        remix: float = 0.0,  # probability that each non-vocal stem comes from an independently drawn song
        augment: Any = None,  # (sources, rng, sample_rate) -> sources of the same shape
        curriculum: Sequence[Sequence[float]] | None = None,  # (epochs, seconds), … of the first clips; then `seconds`
        names: Sequence[str] | None = None,
    ) -> None:
        self.cache, self.seed, self.sampling, self.remix, self.augment = cache, seed, sampling, remix, augment
        self.length = clip_length(seconds, cache.sample_rate)
        self.names = list(names) if names is not None else cache.names("train")
        if not self.names:
            raise SepkitError(f"No training songs in {cache.path} (0 found); give a folder whose train/ has songs.")
        if cache.settings.kind == "stft" and (remix or augment):
            raise UsageError("A stft cache's magnitudes can be neither remixed nor augmented; use cache_kind wave.")
        self.lengths: list[int] = []
        for epochs, shorter in curriculum or ():
            self.lengths += [clip_length(shorter, cache.sample_rate)] * int(epochs)
        self.starts = {length: Starts(cache, self.names, length) for length in {self.length, *self.lengths}}

    def length_in(self, epoch: int) -> int:
        """Samples of a clip in `epoch`, from 0."""
        return self.lengths[epoch] if epoch < len(self.lengths) else self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        length = self.length_in(epoch)
        starts = self.starts[length]
        name, start = starts.draw(rng, {"balanced": index % 2 == 0, "vocals": True}.get(self.sampling))
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
    """The same clips every time: `count` evenly spaced ones of each song, for validation; a rank has its part."""

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
        return len(part(len(self.clips)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, start = self.clips[part(len(self.clips))[index]]
        return _item(self.cache, read_clip(self.cache, name, start, self.length), name)


def clip_length(seconds: float, sample_rate: int) -> int:
    """Samples of a clip; SepkitError below 0.1 s, too short for the networks."""
    if seconds < ACTIVITY_S:
        raise SepkitError(f"Clips must last at least {ACTIVITY_S} s, but segment_s is {seconds}.")
    return round(seconds * sample_rate)


def read_clip(cache: Cache, name: str, start: int, length: int) -> np.ndarray:
    """A float32 clip from `start`, in samples, zeros after the song's end; of a stft cache its 1 + length // hop frames."""
    read, hop = cache.sources, cache.settings.hop_length
    if cache.settings.kind == "stft":
        read, start, length = cache.magnitudes, start // hop, 1 + length // hop
    clip = read(name, start, start + length)
    missing = length - clip.shape[-1]
    return np.pad(clip, [(0, 0)] * (clip.ndim - 1) + [(0, missing)]) if missing else clip


def _item(cache: Cache, clip: np.ndarray, name: str) -> dict[str, Any]:
    tensor = torch.from_numpy(clip)
    if cache.settings.kind == "stft":  # the mixture comes first
        return {"mixture": tensor[0], "sources": tensor[1:], "track": name}
    return {"mixture": mixture_of(tensor), "sources": tensor, "track": name}


class EpochBatches(Sampler):
    """Lists of (epoch, index), `steps` an epoch, each of the same seconds: a rank's part of clips twice as many where half as long."""

    def __init__(self, clips: TrainingClips, batch_size: int, steps: int) -> None:
        self.clips, self.batch_size, self.steps, self.epoch = clips, batch_size, steps, 0
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = max(1, round(self.batch_size * self.clips.length / self.clips.length_in(self.epoch)))
        for first in range(0, self.steps * size, size):
            yield [(self.epoch, first + index) for index in part(size)]

    def __len__(self) -> int:
        return self.steps


def part(count: int) -> range:
    """Those of `count` clips that this rank takes; all of them, whose mean is the same, where there are fewer than ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return range(count)
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    return range(rank * count // ranks, (rank + 1) * count // ranks) if count >= ranks else range(count)


def training_loader(clips: TrainingClips, *, batch_size: int, steps: int, workers: int = 0) -> DataLoader:
    """`steps` batches an epoch; the clips are the same for any number of workers."""
    batches, gpu = EpochBatches(clips, batch_size, steps), torch.cuda.is_available()
    how: dict[str, Any] = {"persistent_workers": workers > 0, "pin_memory": gpu, "worker_init_fn": end_with_parent}
    return DataLoader(clips, batch_sampler=batches, num_workers=workers, **how)
