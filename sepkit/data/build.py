"""Songs -> cache: each song read, checked, resampled and written, once.

A folder `cache/<kind>-<fingerprint>` belongs to one set of settings and source files.  A song's file is renamed into
place and then listed in `manifest.json` with its size: one that is not listed, or cut short, is built again.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from joblib import delayed

from sepkit.data.cache import ACTIVITY_S, Cache, CacheSettings, cache_gigabytes, mixture_of, stores_mixture, track_file
from sepkit.data.check import Problem, check_audio, check_headers, require, residual_db
from sepkit.data.songs import SPLITS, SongFolder, Track, accompaniment, artist_of, duration_s, import_musdb, read_song
from sepkit.dsp import STFT, resample
from sepkit.errors import SepkitError
from sepkit.parallel import progress, spread
from sepkit.storage import Root, read_json, remove_leftovers, spending, write_json, writing

FORMAT = 2
# Of a larger source file, as many evenly spaced blocks of 16 KiB stand for the whole.
HASH_WHOLE_BYTES, HASH_BLOCKS, BLOCK = 2**21, 64, 2**14
STFT_CHUNK_FRAMES = 256  # 1.5 s at hop 256, 1.6 MB of two sources and their mixture


def build_cache(
    folder: SongFolder, root: Root, settings: CacheSettings, splits: Iterable[str] = SPLITS, n_jobs: int = -1
) -> Cache:
    """Opens the cache of `folder` for `splits`; builds what is missing or damaged, saying its size first.

    Raises SepkitError where the cache does not fit on the disk and, by song and file, where songs can't be used: at
    once for what headers show; at the end, with all other songs cached, for what only the audio shows.
    """
    tracks = [track for track in folder.tracks if track.split in set(splits)]
    if not tracks:
        raise SepkitError(f"No songs of {'/'.join(splits)} under {folder.path} (0 found); nothing to cache.")
    path = root.path / "cache" / f"{settings.kind}-{fingerprint(folder, settings)}"
    manifest = path / "manifest.json"
    songs = read_json(manifest, "the manifest of a cache")["songs"] if manifest.exists() else {}
    excluded = {track.name: {"split": track.split, "artist": artist_of(track.name)} for track in folder.excluded}
    cache = Cache(path, settings, songs, excluded)
    if todo := [track for track in tracks if not _is_whole(cache, track.name)]:
        with spending(root, stage="cache", device="cpu"):
            _build(folder, cache, todo, n_jobs)
    cache.songs = {track.name: {**cache.songs[track.name], "split": track.split} for track in tracks}
    return cache


def _is_whole(cache: Cache, name: str) -> bool:
    file = track_file(cache.path, name)
    if name not in cache.songs or not file.exists():
        return False
    size, written = file.stat().st_size, cache.songs[name]["bytes"]
    if size != written:
        print(f"cache: {file.name} has {size} bytes where {written} were written; it is built again")
    return size == written


def _build(folder: SongFolder, cache: Cache, todo: list[Track], n_jobs: int) -> None:
    """Writes the songs of `todo` and lists them in the manifest and in `cache.songs`."""
    if folder.layout == "stem.mp4":
        import_musdb()  # one sentence where ffmpeg is absent, not one a song
    require([problem for track in todo for problem in check_headers(track)], "The cache")
    cache.path.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache.path)
    hours, free = sum(map(duration_s, todo)) / 3600, shutil.disk_usage(cache.path).free / 1e9
    needed = cache_gigabytes(hours, cache.settings)
    print(f"cache: {len(todo)} songs, {hours:.2f} hours: {needed:.2f} GB of {free:.1f} GB free in {cache.path}")
    if needed > free:
        raise SepkitError(
            f"The cache of {len(todo)} songs needs {needed:.2f} GB, but {cache.path} has {free:.2f} GB free; "
            "free some space, or give a --root on another disk."
        )
    order = {track.name: number for number, track in enumerate((*folder.tracks, *folder.excluded))}
    results = spread((delayed(_cache_track)(track, cache.path, cache.settings) for track in todo), n_jobs=n_jobs)
    pairs, problems = zip(todo, results, strict=True), []
    for track, (song, found) in progress(pairs, doing="cache", total=len(todo), name=lambda pair: pair[0].name):
        problems += found
        if song:
            songs = {**cache.songs, track.name: song}
            cache.songs = dict(sorted(songs.items(), key=lambda item: order[item[0]]))
            content = {"settings": cache.settings.to_dict(), "layout": folder.layout, "songs": cache.songs}
            write_json(cache.path / "manifest.json", content)
    require(problems, "The cache")


def fingerprint(folder: SongFolder, settings: CacheSettings) -> str:
    """Twelve hexadecimal digits over the settings and the content of every source file, not their place or times."""
    digest = hashlib.blake2b(json.dumps([FORMAT, settings.to_dict()]).encode())
    for track in sorted((*folder.tracks, *folder.excluded), key=lambda track: (track.path.parent.name, track.name)):
        for file in filter(Path.exists, track.files):  # the header check names those that are absent
            size = file.stat().st_size
            digest.update(f"{track.name}/{file.name}:{size}".encode())
            blocks, length = (range(HASH_BLOCKS), BLOCK) if size > HASH_WHOLE_BYTES else ([0], size)
            with file.open("rb") as content:
                for block in blocks:
                    content.seek((size - length) * block // (HASH_BLOCKS - 1))
                    digest.update(content.read(length))
    return digest.hexdigest()[:12]


def _cache_track(track: Track, path: Path, settings: CacheSettings) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Writes one song: (its manifest entry, its problems); with a blocking problem, no entry and no file."""
    try:
        audio, sample_rate = read_song(track)
    except SepkitError as error:
        return None, [Problem(track.name, track.path.name, "unreadable", "audio", str(error), "copy it again")]
    problems = check_audio(track, audio, sample_rate)
    if any(problem.blocking for problem in problems):
        return None, problems
    residual, rate = residual_db(audio), settings.sample_rate
    audio["accompaniment"] = accompaniment(audio)
    used = {"mixture", "vocals", *settings.sources}
    audio = {name: resample(audio[name], sample_rate, rate) for name in used}
    sources = np.stack([audio[name] for name in settings.sources])  # (source, channel, time)
    file = track_file(path, track.name)
    with writing(file) as part, h5py.File(part, "w") as out:
        if settings.kind == "stft":  # the mixture first; |X| stays below n_fft / 2 · peak
            stack = torch.from_numpy(np.concatenate([mixture_of(sources)[None], sources]))
            magnitudes = STFT(settings.n_fft, settings.hop_length)(stack).abs()[..., : settings.n_bins, :].numpy()
            chunks = (*magnitudes.shape[:-1], min(STFT_CHUNK_FRAMES, magnitudes.shape[-1]))
            out.create_dataset("magnitudes", data=magnitudes.astype(np.float16), chunks=chunks)
        else:
            _write_int16(out, "audio", sources, rate)
            if stores_mixture(settings, residual):
                _write_int16(out, "mixture", audio["mixture"], rate)
        out["activity_db"] = activity_db(audio["vocals"], rate)
    song = {
        "split": track.split,
        "artist": artist_of(track.name),
        "frames": int(sources.shape[-1]),
        "bytes": file.stat().st_size,
        "residual_db": round(residual, 1) if np.isfinite(residual) else None,
    }
    return song, problems


def _write_int16(out: h5py.File, name: str, audio: np.ndarray, sample_rate: int) -> None:
    """int16 with one scale for the whole array: sums of stems may exceed full scale."""
    scale = max(1.0, float(np.abs(audio).max(initial=0.0)) * 32768 / 32767) / 32768
    chunks = (*audio.shape[:-1], min(sample_rate, audio.shape[-1]))
    out.create_dataset(name, data=np.rint(audio / scale).astype(np.int16), chunks=chunks).attrs["scale"] = scale


def activity_db(vocals: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS of (channel, time) in windows of 0.1 s, dBFS, float32; the last window may be shorter."""
    hop = round(ACTIVITY_S * sample_rate)
    power = np.square(vocals, dtype=np.float64).mean(axis=0)
    starts = np.arange(0, power.size, hop)
    mean = np.add.reduceat(power, starts) / np.diff(np.append(starts, power.size))
    return (10 * np.log10(np.maximum(mean, 1e-12))).astype(np.float32)
