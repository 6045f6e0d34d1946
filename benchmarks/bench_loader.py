"""CPU time of a clip and of a cache: sepkit's beside openunmix's MUSDBDataset, and beside musdb with h5py, in one run.

    python benchmarks/bench_loader.py --data FOLDER     # a folder of songs, WAV or .stem.mp4
    python benchmarks/bench_loader.py                   # demo songs of a minute

A clip is 6 seconds of mixture and vocals, stereo, float32, at a random place of a random training song. A cache holds
mixture, vocals and accompaniment of every song as 16-bit samples; the peer reads them with musdb and writes them with
h5py, uncompressed and unchecked. Songs in the .stem.mp4 layout are decoded to WAV first, so that all read the same
files. Both peers need ffmpeg. The floor of a clip is a copy of its bytes in memory.
"""

import argparse
import itertools
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile as sf
import torch

from sepkit.data.batches import TrainingClips
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.demo.songs import make_demo_songs
from sepkit.data.songs import find_songs, read_song
from sepkit.data.tracks import SongFolder, Track
from sepkit.storage import Root

SECONDS, RATE = 6.0, 44100
ROUNDS = 5


def decode(tracks: list[Track], folder: Path) -> None:
    for track in tracks:
        audio, rate = read_song(track)
        place = folder / "train" / track.name
        place.mkdir(parents=True)
        for source, samples in audio.items():
            sf.write(place / f"{source}.wav", samples.T, rate, subtype="PCM_16")


def soundfile_clip(tracks: list[Track], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    track = tracks[rng.integers(len(tracks))]
    files = {file.stem: file for file in track.files}
    room = sf.info(files["mixture"]).frames - int(SECONDS * RATE)
    start = int(rng.integers(max(1, room)))
    stop = start + int(SECONDS * RATE)
    read = (sf.read(files[name], start=start, stop=stop, dtype="float32")[0] for name in ("mixture", "vocals"))
    mixture, vocals = (torch.from_numpy(np.ascontiguousarray(audio.T)) for audio in read)
    return mixture, vocals


def openunmix_clips(folder: Path, tracks: int) -> Callable[[int], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openunmix.data import MUSDBDataset

        clips = MUSDBDataset(
            target="vocals", root=str(folder), is_wav=True, split="train", seq_duration=SECONDS, samples_per_track=1,
            source_augmentations=lambda audio: audio,
        )  # fmt: skip
    return lambda index: clips[index % tracks]


def musdb_cache(folder: Path, file: Path) -> None:
    import musdb

    with h5py.File(file, "w") as cache:
        for track in musdb.DB(root=str(folder), is_wav=True, subsets="train"):
            for name in ("linear_mixture", "vocals", "accompaniment"):
                audio = track.targets[name].audio.T
                cache[f"{track.name}/{name}"] = np.rint(audio * 32767).clip(-32768, 32767).astype(np.int16)


def timed(work: Callable[[int], object], count: int = 1, rounds: int = ROUNDS) -> list[float]:
    """CPU seconds of a call, in each round of `count` calls."""
    work(0)
    seconds = []
    for turn in range(rounds):
        start = time.process_time()
        for index in range(count):
            work(turn * count + index)
        seconds.append((time.process_time() - start) / count)
    return seconds


def row(line: str, ours: Sequence[float], peer: Sequence[float], note: str) -> dict[str, Any]:
    medians = {"ours": float(np.median(ours)), "peer": float(np.median(peer)) if peer else None}
    return {"line": line, **medians, "unit": "CPU s", "spread": f"{min(ours):.3g} to {max(ours):.3g}", "note": note}


def rows(data: Path | str | None = None, clips: int = 200) -> list[dict[str, Any]]:
    """A line for a clip, a line for the cache: {line, ours, peer, unit, spread, note}; peer None without ffmpeg."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        songs = Path(data) if data else make_demo_songs(place / "demo", train=4, valid=0, test=1, duration_s=(60, 60))
        folder = find_songs(songs)
        if folder.layout == "stem.mp4":
            decode(folder.split("train"), place / "wav")
            shutil.copytree(place / "wav" / "train", place / "wav" / "test")  # the layout has both
            folder = find_songs(place / "wav")
        return [clip_row(folder, place, clips), cache_row(folder, place)]


def clip_row(folder: SongFolder, place: Path, count: int) -> dict[str, Any]:
    tracks, rng = folder.split("train"), np.random.default_rng(0)
    cache = build_cache(folder, Root.open(place / "root", "demo"), CacheSettings(), splits=["train"], n_jobs=1)
    clips, memory = TrainingClips(cache, seconds=SECONDS, seed=0), torch.zeros(2, 2, int(SECONDS * RATE))
    ours = timed(lambda index: clips[0, index], count)
    plain = np.median(timed(lambda _: soundfile_clip(tracks, rng), count // 4))
    floor = np.median(timed(lambda _: memory.clone(), count))
    peer = timed(openunmix_clips(folder.path, len(tracks)), 4) if shutil.which("ffmpeg") else []
    note = f"against openunmix's MUSDBDataset; by soundfile alone {plain:.3g}, the bytes copied in memory {floor:.2g}"
    return row(f"a clip of {SECONDS:g} s for training", ours, peer, note)


def cache_row(folder: SongFolder, place: Path) -> dict[str, Any]:
    tracks = folder.split("train")
    minutes, built = sum(sf.info(track.files[0]).duration for track in tracks) / 60, itertools.count()

    def build(_: int) -> None:
        build_cache(
            folder, Root.open(place / f"root{next(built)}", "demo"), CacheSettings(), splits=["train"], n_jobs=1
        )

    ours = timed(build, rounds=3)
    peer = timed(lambda _: musdb_cache(folder.path, place / "peer.h5"), rounds=3) if shutil.which("ffmpeg") else []
    times = 60 * minutes / np.median(ours)
    note = f"against musdb and h5py, unchecked; {times:.0f} × real time, with a check of every sample and digests of all files"
    return row(f"cache of {len(tracks)} songs, {minutes:.1f} minutes", ours, peer, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--clips", type=int, default=200)
    options = parser.parse_args()
    for found in rows(options.data, options.clips):
        peer = f", peer {found['peer']:.3g}, {found['peer'] / found['ours']:.3g} times" if found["peer"] else ""
        print(f"{found['line']}: {found['ours']:.3g} {found['unit']} [{found['spread']}]{peer}; {found['note']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
