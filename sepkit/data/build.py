"""Songs -> cache: each song read, checked, resampled and written, once.

A folder `cache/<kind>-<fingerprint>` belongs to one set of settings and source files.  A song's file is renamed into
place and then listed in `manifest.json` with its size and digest: one that is not listed, cut short or damaged is built
again.  The manifest says which splits are whole: they can be used without the songs, on any machine.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from functools import cache as memory
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from joblib import delayed

from sepkit.data.cache import ACTIVITY_S, Cache, CacheSettings, cache_gigabytes, mixture_of, stores_mixture, track_file
from sepkit.data.check import check_audio, check_headers, require, residual_db
from sepkit.data.manifest import Checks, read_manifest, read_manifests
from sepkit.data.songs import accompaniment, read_song
from sepkit.data.sound import FFMPEG, extent, require_ffmpeg
from sepkit.data.tracks import SPLITS, Problem, SongFolder, Track
from sepkit.dsp import STFT, resample
from sepkit.errors import SepkitError
from sepkit.parallel import progress, spread
from sepkit.storage import Root, remove_leftovers, spending, write_json, writing
from sepkit.storage.copying import digest

FORMAT = 2
# Of a larger source file, as many evenly spaced blocks of 16 KiB stand for the whole.
HASH_WHOLE_BYTES, HASH_BLOCKS, BLOCK = 2**21, 64, 2**14
STFT_CHUNK_FRAMES = 256  # 1.5 s at hop 256, 1.6 MB of two sources and their mixture


class CacheWriter:
    """Writes a cache song by song; what it has listed survives a kill, and the next writer of that cache goes on.

    name: of the cache's folder; "" names it after the settings, for songs that are not known beforehand.
    """

    def __init__(self, root: Root, settings: CacheSettings, layout: str, name: str = "", origin: str = "") -> None:
        made = hashlib.blake2b(json.dumps([FORMAT, settings.to_dict(), layout]).encode()).hexdigest()[:12]
        self.settings, self.path = settings, root.path / "cache" / (name or f"{settings.kind}-{made}")
        manifest = read_manifest(self.path)
        self.songs: dict[str, dict[str, Any]] = manifest.get("songs", {})
        self.state = {"whole": manifest.get("whole", []), "without": manifest.get("without", {})}
        self.facts = {"settings": settings.to_dict(), "layout": layout, "origin": origin or manifest.get("origin", "")}
        self.checks = Checks(self.path, self.songs)

    def enter(self, name: str, song: dict[str, Any]) -> None:
        """Lists a song whose file is written."""
        self.songs[name] = song
        self.checks.trust(name)
        self._write()

    def finish(self, splits: Iterable[str], without: Iterable[Track] = ()) -> None:
        """Marks splits as whole; without: the songs of all splits that were left out because they are excluded."""
        missing = {track.name: track.facts for track in without if track.name not in self.songs}
        whole = [split for split in SPLITS if split in {*self.state["whole"], *splits}]
        if self.state != (state := {"whole": whole, "without": missing}):
            self.state = state
            self._write()

    def _write(self) -> None:
        songs = dict(sorted(self.songs.items(), key=lambda item: (SPLITS.index(item[1]["split"]), item[0])))
        write_json(self.path / "manifest.json", {**self.facts, **self.state, "songs": songs})


def build_cache(
    folder: SongFolder, root: Root, settings: CacheSettings, splits: Iterable[str] = SPLITS, n_jobs: int = -1
) -> Cache:
    """Opens the cache of `folder` for `splits`; builds what is missing or damaged, saying its size first.

    Songs that can't be used are told at once for what headers show, at the end for what only the audio shows.
    """
    splits = tuple(splits)
    tracks = [track for track in folder.tracks if track.split in splits]
    if not tracks:
        raise SepkitError(f"No songs of {'/'.join(splits)} under {folder.path} (0 found); nothing to cache.")
    if two := [song.name for song in tracks if not {*settings.sources} <= {*song.sources, "accompaniment"}]:
        which = f"{len(two)} of {len(tracks)} songs in {folder.path} have two sources, vocals and accompaniment (first {two[0]})"
        raise SepkitError(f"{which}: experiments with {', '.join(settings.sources)} need four; leave these out.")
    writer = CacheWriter(root, settings, folder.layout, _name(folder, root, settings), folder.origin)
    damaged = writer.checks.damaged(track.name for track in tracks if track.name in writer.songs)
    for name, fault in damaged.items():
        print(f"cache: {track_file(writer.path, name).name} {fault}; it is built again")
    if todo := [track for track in tracks if track.name not in writer.songs or track.name in damaged]:
        with spending(root, stage="cache", device="cpu"):
            _build(writer, todo, n_jobs)
    for track in tracks:
        if (song := writer.songs[track.name])["split"] != track.split:  # validation.txt has changed
            writer.enter(track.name, {**song, "split": track.split})
    writer.finish(splits, without=folder.excluded)
    songs = {track.name: writer.songs[track.name] for track in tracks}
    excluded = {track.name: track.facts for track in folder.excluded}
    return Cache(writer.path, settings, songs, excluded, folder.layout, folder.origin)


def _build(writer: CacheWriter, todo: list[Track], n_jobs: int) -> None:
    """Writes the songs of `todo`."""
    if any(file.suffix.casefold() in FFMPEG for track in todo for file in track.files):
        require_ffmpeg()  # one sentence, not one a song
    require([problem for track in todo for problem in check_headers(track)], "The cache")
    writer.path.mkdir(parents=True, exist_ok=True)
    remove_leftovers(writer.path)
    sizes = [extent(track.files[0]) for track in todo]
    hours, free = sum(n_samples / rate for n_samples, rate in sizes) / 3600, shutil.disk_usage(writer.path).free / 1e9
    needed = cache_gigabytes(hours, writer.settings)
    print(f"cache: {len(todo)} songs, {hours:.2f} hours: {needed:.2f} GB of {free:.1f} GB free in {writer.path}")
    if needed > free:
        wanted = f"The cache of {len(todo)} songs needs {needed:.2f} GB, but {writer.path} has {free:.2f} GB free"
        raise SepkitError(f"{wanted}; free some space, or give a --root on another disk.")
    results = spread((delayed(cache_track)(track, writer.path, writer.settings) for track in todo), n_jobs=n_jobs)
    pairs, problems = zip(todo, results, strict=True), []
    for track, (song, found) in progress(pairs, doing="cache", total=len(todo), name=lambda pair: pair[0].name):
        problems += found
        if song:
            writer.enter(track.name, song)
    require(problems, "The cache")


def fingerprint(folder: SongFolder, settings: CacheSettings) -> str:
    """Twelve hexadecimal digits over the settings and the content of every source file, not their place or times."""
    tracks = sorted((*folder.tracks, *folder.excluded), key=lambda track: (track.path.parent.name, track.name))
    facts = [FORMAT, settings.to_dict(), *((track.name, source_digest(track)) for track in tracks)]
    return hashlib.blake2b(json.dumps(facts).encode()).hexdigest()[:12]


def _name(folder: SongFolder, root: Root, settings: CacheSettings) -> str:
    """The name of the cache of `folder`: of one that is there and has the very same songs, as from an archive."""
    name = f"{settings.kind}-{fingerprint(folder, settings)}"
    if (root.path / "cache" / name).exists():
        return name
    tracks = {track.name: track for track in (*folder.tracks, *folder.excluded)}
    for other, manifest in read_manifests(root.path).items():
        songs, names = manifest["songs"], {*manifest["songs"], *manifest["without"]}
        alike = manifest["settings"] == settings.to_dict() and names == tracks.keys()
        if alike and all(source_digest(tracks[song]) == songs[song]["source"] for song in songs):
            return other
    return name


def source_digest(track: Track) -> str:
    """32 hexadecimal digits over the content of a song's own files, read again where size or time have changed."""
    # the header check names those that are absent
    there = ((label, file, file.stat()) for file, label in track.labels.items() if file.exists())
    return _digest_of(tuple((label, file, state.st_size, state.st_mtime_ns) for label, file, state in there))


@memory
def _digest_of(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    """Over each file's name and size, and its content or the blocks that stand for it."""
    digest = hashlib.blake2b(digest_size=16)
    for label, file, size, _ in files:
        digest.update(f"{label}{file.name}:{size}".encode())
        blocks, length = (range(HASH_BLOCKS), BLOCK) if size > HASH_WHOLE_BYTES else ([0], size)
        with file.open("rb") as content:
            for block in blocks:
                content.seek((size - length) * block // (HASH_BLOCKS - 1))
                digest.update(content.read(length))
    return digest.hexdigest()


def cache_track(track: Track, path: Path, settings: CacheSettings) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Writes one song: (its manifest entry, its problems); with a blocking problem, no entry and no file."""
    problems = check_headers(track)
    try:
        if not any(problem.blocking for problem in problems):
            audio, sample_rate = read_song(track)
            problems += check_audio(track, audio, sample_rate)
    except SepkitError as error:
        problems.append(Problem(track.name, track.path.name, "unreadable", "audio", str(error), "copy it again"))
    if any(problem.blocking for problem in problems):
        return None, problems
    residual, rate = residual_db(audio), settings.sample_rate
    audio["accompaniment"] = accompaniment(audio)
    used = {"mixture", "vocals", *settings.sources}
    audio = {name: resample(audio[name], sample_rate, rate) for name in used}
    sources = np.stack([audio[name] for name in settings.sources])  # (source, channel, time)
    file = track_file(path, track.name)
    content = io.BytesIO()  # where the disk is full, HDF5 would print a traceback for each object that it can't write
    _write_song(content, audio, sources, residual, settings)
    try:
        with writing(file) as part:
            part.write_bytes(content.getbuffer())
            written = digest(part)
    except OSError as error:
        fix = "free some space, or give a --root on another disk"
        raise SepkitError(f"{file} can't be written ({error.strerror}); {fix}.") from error
    song = {
        **track.facts,
        "frames": int(sources.shape[-1]),
        "bytes": file.stat().st_size,
        "digest": written,
        "source": source_digest(track),
        "residual_db": round(residual, 1) if np.isfinite(residual) else None,
    }
    return song, problems


def _write_song(
    file: Path | io.BytesIO, audio: dict[str, np.ndarray], sources: np.ndarray, residual: float, settings: CacheSettings
) -> None:
    """Writes `audio`, already at the cache's rate, and its stacked `sources` (source, channel, time)."""
    with h5py.File(file, "w", locking=False) as out:
        if settings.kind == "stft":  # the mixture first; |X| stays below n_fft / 2 · peak
            stack = torch.from_numpy(np.concatenate([mixture_of(sources)[None], sources]))
            magnitudes = STFT(settings.n_fft, settings.hop_length)(stack).abs()[..., : settings.n_bins, :].numpy()
            chunks = (*magnitudes.shape[:-1], min(STFT_CHUNK_FRAMES, magnitudes.shape[-1]))
            out.create_dataset("magnitudes", data=magnitudes.astype(np.float16), chunks=chunks)
        else:
            _write_int16(out, "audio", sources, settings.sample_rate)
            if stores_mixture(settings, residual):
                _write_int16(out, "mixture", audio["mixture"], settings.sample_rate)
        out["activity_db"] = activity_db(audio["vocals"], settings.sample_rate)


def converted(cache: Cache, names: Sequence[str], path: Path, settings: CacheSettings) -> Cache:
    """Songs of `cache` in a cache of another kind at the same rate, in the folder `path` (day 1 compares kinds)."""
    for name in names:
        mixture, targets = cache.song(name)
        sources = np.stack([targets[source] for source in settings.sources])
        with writing(track_file(path, name)) as part:
            _write_song(part, {"mixture": mixture, **targets}, sources, -np.inf, settings)
    return Cache(path, settings, {name: cache.songs[name] for name in names})


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
