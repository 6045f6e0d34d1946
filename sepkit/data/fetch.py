"""Archive -> cache: song by song, with neither the archive nor a folder of songs on the disk.

Several songs are fetched side by side, training songs first.  A song's five WAV files lie under `songs-in-progress/` of
the root until its cache file is written; then the manifest lists it.  After a kill the same call goes on with the other songs.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import delayed

from sepkit.data.archive import MUSDB18_HQ, Archive, Packed, located, packed_songs, unpack
from sepkit.data.build import CacheWriter, cache_track
from sepkit.data.cache import CacheSettings, cache_gigabytes
from sepkit.data.check import Problem, check_headers, require
from sepkit.data.songs import SPLITS
from sepkit.devices import pick_device
from sepkit.errors import SepkitError
from sepkit.parallel import progress, spread
from sepkit.profiles import PROTOCOLS, SAMPLE_RATE
from sepkit.storage import Root, remove_leftovers, spending
from sepkit.storage.locks import alone

SIDE_BY_SIDE = 4  # songs at a time; servers refuse many requests, and each takes about 1 GB of memory
RATE_MB_S = 10.0  # for the minutes told beforehand
WAV_BYTES_S = SAMPLE_RATE * 2 * 2  # of one stereo file


@dataclass
class Fetched:
    """What a worker did with a song: its manifest entries, in the order of the caches; None where it has none."""

    song: Packed
    entries: list[dict[str, Any] | None]
    problems: list[Problem]
    notes: list[str]
    disk: int  # bytes of caches and songs in progress, when this one was complete


def fetch_songs(
    root: Root,
    settings: Sequence[CacheSettings],
    archive: Archive = MUSDB18_HQ,
    file: Path | None = None,
    n_jobs: int = SIDE_BY_SIDE,
) -> list[CacheWriter]:
    """The caches of all songs of `archive`, one for each of `settings`; what is there already is not fetched again.

    file: a copy of the archive that was put here by hand.  Raises SepkitError, naming the URL, the file and what to do by
    hand, where songs do not arrive, do not fit on the disk or can't be used; the others are kept.
    """
    work = root.path / "songs-in-progress"
    writers = _writers(root, settings)
    if all(is_whole(writer, root) for writer in writers):
        return writers
    work.mkdir(exist_ok=True)
    with alone(work, "filled"), spending(root, stage="fetch", device="cpu"):
        for folder in work.glob("*.*/"):  # of a call that was killed
            shutil.rmtree(folder, ignore_errors=True)
        writers = _writers(root, settings)
        archive = located(archive, work, file)
        songs, excluded = packed_songs(archive), root.excluded()
        lacking = {song.name: [writer for writer in writers if not _has(writer, song)] for song in songs}
        todo = [song for song in songs if lacking[song.name] and song.name not in excluded]
        if todo:
            _say_sizes(songs, todo, root, settings, archive, n_jobs)
        problems: list[Problem] = []
        peak = 0
        calls = (delayed(_fetch)(archive, song, work, _places(lacking[song.name])) for song in todo)
        results = spread(calls, n_jobs=n_jobs, ahead="n_jobs", in_order=False)
        for done in progress(results, doing="fetch", total=len(todo), name=_Speed(todo)):
            problems, peak = problems + done.problems, max(peak, done.disk)
            for writer, entry in zip(lacking[done.song.name], done.entries, strict=True):
                if entry:
                    writer.enter(done.song.name, entry)
            for line in (*done.notes, *(f"note: {problem}" for problem in done.problems if not problem.blocking)):
                print(line, flush=True)
        require(problems, "The cache")
        without = [song.track(work) for song in songs if song.name in excluded]
        for writer in writers:
            writer.finish(SPLITS, without=without)
        print(f"fetch: all songs are cached; the disk held at most {peak / 1e9:.2f} GB at a time", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return writers


def _writers(root: Root, settings: Sequence[CacheSettings]) -> list[CacheWriter]:
    writers = [CacheWriter(root, each, "wav") for each in settings]
    for writer in writers:
        remove_leftovers(writer.path)
    return writers


def is_whole(writer: CacheWriter, root: Root) -> bool:
    """Whether a cache holds every song that is not excluded, undamaged."""
    complete = writer.state["whole"] == list(SPLITS) and set(writer.state["without"]) <= set(root.excluded())
    return complete and not writer.checks.damaged(writer.songs)


def _has(writer: CacheWriter, song: Packed) -> bool:
    return song.name in writer.songs and not writer.checks.damaged([song.name])


def _places(writers: Sequence[CacheWriter]) -> list[tuple[Path, CacheSettings]]:
    return [(writer.path, writer.settings) for writer in writers]


def _fetch(archive: Archive, song: Packed, work: Path, caches: Sequence[tuple[Path, CacheSettings]]) -> Fetched:
    """Reads one song out of the archive and writes it into `caches`, in a worker."""
    folder = work / f"{song.name}.{os.getpid()}"  # a worker of a killed call may still write into its own
    track = song.track(folder)
    try:
        notes, entries = unpack(archive, song, folder), []
        problems = check_headers(track)
        for path, settings in caches:
            path.mkdir(parents=True, exist_ok=True)
            entry, found = (None, []) if any(each.blocking for each in problems) else cache_track(track, path, settings)
            entries.append(entry)
            problems += [problem for problem in found if problem not in problems]
        disk = sum(map(folder_bytes, {work, *(path for path, _ in caches)}))
        return Fetched(song, entries, problems, notes, disk)
    except OSError as error:
        raise SepkitError(
            f"{song.name} can't be written under {work.parent} ({error.strerror or error}); free some space, and "
            "the same command goes on."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a folder that others are writing to."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


class _Speed:
    """A song's words in the progress: its size, the speed so far, and the time left at this speed."""

    def __init__(self, todo: Sequence[Packed]) -> None:
        self.left, self.since, self.read = sum(song.packed_bytes for song in todo), time.perf_counter(), 0

    def __call__(self, done: Fetched) -> str:
        self.read, self.left = self.read + done.song.packed_bytes, self.left - done.song.packed_bytes
        rate = self.read / (time.perf_counter() - self.since)
        size = f"{done.song.packed_bytes / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
        return f"{done.song.name} ({done.song.split}): {size}, {self.left / rate / 60:.0f} min left"


def _say_sizes(
    songs: list[Packed],
    todo: list[Packed],
    root: Root,
    settings: Sequence[CacheSettings],
    archive: Archive,
    n_jobs: int,
) -> None:
    """Prints what will be read and written, before it is; SepkitError where it does not fit on the disk."""
    to_read, place = sum(song.packed_bytes for song in todo) / 1e6, archive.file or archive.url
    print(
        f"fetch: {len(todo)} of {len(songs)} songs, {_hours(todo):.2f} hours, {to_read / 1000:.2f} GB from {place}"
        + (f": {to_read / RATE_MB_S / 60:.0f} minutes at {RATE_MB_S:.0f} MB/s" if archive.file is None else "")
    )
    sizes = {
        f"{len(sources)} stems at {rate / 1000:g} kHz": cache_gigabytes(
            _hours(songs), CacheSettings(sample_rate=rate, sources=sources)
        )
        for sources in PROTOCOLS.values()
        for rate in (SAMPLE_RATE, 32000)
    }
    print("sizes of a cache of all songs:", ", ".join(f"{name} {size:.2f} GB" for name, size in sizes.items()))
    new = sum(cache_gigabytes(_hours(todo), each) for each in settings)
    largest = sorted((song.wav_bytes / 1e9 for song in todo), reverse=True)[:n_jobs]
    needed, free = new + sum(largest), shutil.disk_usage(root.path).free / 1e9
    print(
        f"here: {new:.2f} GB of cache and {sum(largest):.2f} GB of songs in progress, {needed:.2f} GB at most, of "
        f"{free:.1f} GB free in {root.path}",
        flush=True,
    )
    if needed > free:
        raise SepkitError(
            f"The songs need {needed:.2f} GB, but {root.path} has {free:.2f} GB free; free some space, give a --root on "
            "another disk, or take --profile full-32k, which needs less."
        )
    if pick_device(None) == "cuda":
        print("A GPU is attached, and its minutes count: fetch songs on a runtime without one.", flush=True)


def _hours(songs: Sequence[Packed]) -> float:
    return sum(song.wav_bytes for song in songs) / 5 / WAV_BYTES_S / 3600
