"""Clips a second: sepkit's cache, plain soundfile, and openunmix's MUSDBDataset, in one run.

    python benchmarks/bench_loader.py --data FOLDER     # a folder of songs, WAV or .stem.mp4
    python benchmarks/bench_loader.py                   # demo songs

A clip is 6 seconds of mixture and vocals, stereo, float32, at a random place of a random training
song.  Songs in the .stem.mp4 layout are decoded to WAV first, so that all three read the same
files.  openunmix's loader needs ffmpeg.  The floor is what the clip's bytes cost to copy.
"""

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from sepkit.data.batches import TrainingClips
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.demo.songs import make_demo_songs
from sepkit.data.songs import find_songs, read_song
from sepkit.data.tracks import Track
from sepkit.storage import Root

SECONDS, RATE = 6.0, 44100


def per_second(clip: Callable[[int], object], count: int) -> float:
    clip(0)
    start = time.perf_counter()
    for index in range(count):
        clip(index)
    return count / (time.perf_counter() - start)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--clips", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        songs = Path(args.data) if args.data else make_demo_songs(place / "demo", test=1)
        folder = find_songs(songs)
        if folder.layout == "stem.mp4":
            decode(folder.split("train"), place / "wav")
            shutil.copytree(place / "wav" / "train", place / "wav" / "test")  # the layout has both
            folder = find_songs(place / "wav")
        tracks = folder.split("train")
        cache = build_cache(folder, Root.open(place / "root", "demo"), CacheSettings(), splits=["train"])
        clips = TrainingClips(cache, seconds=SECONDS, seed=0)

        def cached(index: int) -> tuple[torch.Tensor, torch.Tensor]:
            clip = clips[0, index]
            return clip["mixture"], clip["sources"][0]

        rng = np.random.default_rng(0)
        memory = torch.zeros(2, 2, int(SECONDS * RATE))
        rates = {
            "cache": per_second(cached, args.clips),
            "soundfile": per_second(lambda _: soundfile_clip(tracks, rng), args.clips),
            "floor (a copy in memory)": per_second(lambda _: memory.clone(), args.clips),
        }
        if shutil.which("ffmpeg"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from openunmix.data import MUSDBDataset

                theirs = MUSDBDataset(
                    target="vocals", root=str(folder.path), is_wav=True, split="train", seq_duration=SECONDS,
                    samples_per_track=1, source_augmentations=lambda audio: audio,
                )  # fmt: skip
                rates["openunmix"] = per_second(lambda index: theirs[index % len(tracks)], 10)
        for name, rate in rates.items():
            ratio = f", {rate / rates['openunmix']:.0f} × openunmix's" if "openunmix" in rates else ""
            print(f"{name:26} {rate:8.1f} clips of {SECONDS:g} s a second{ratio}")


if __name__ == "__main__":
    main()
