"""Archive -> cache, song by song: neither the archive nor a folder of songs is on the disk.

A song's five WAV files lie in `songs-in-progress/` of the root until its cache file is written and listed in the manifest.
After a kill the same call goes on with the other songs.
"""

import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from joblib import delayed

from sepkit.data.archive import Archive, Packed, located, packed_songs, unpack
from sepkit.data.build import CacheWriter, cache_track
from sepkit.data.cache import CacheSettings, cache_gigabytes
from sepkit.data.check import require
from sepkit.data.packs import PACK_BYTES, restore, store, stored_manifests
from sepkit.data.tracks import SPLITS, Problem
from sepkit.devices import pick_device
from sepkit.errors import SepkitError
from sepkit.parallel import locked, progress, spread
from sepkit.profiles import PROTOCOLS, SAMPLE_RATE
from sepkit.storage import Root, drive, named, remove_leftovers, spending

SIDE_BY_SIDE = 3  # songs at a time: servers refuse many requests, and one of 5 minutes takes 1.8 GB of memory
RATE_MB_S = 10.0  # for the minutes told beforehand


def fetch_songs(
    root: Root, settings: Sequence[CacheSettings], archive: Archive, file: Path | None, n_jobs: int
) -> list[CacheWriter]:
    """The caches of all songs of `archive`, or of its copy `file`, one for each of `settings`; what is there is kept."""
    work, listed = root.path / "songs-in-progress", root.excluded()
    writers = [CacheWriter(root, each, "wav") for each in settings]
    if all(_is_whole(writer, listed) for writer in writers):
        return writers
    work.mkdir(exist_ok=True)
    with locked(work / ".lock", "the songs are being fetched"), spending(root, stage="fetch", device="cpu"):
        writers = _restored(root, settings)
        if all(_is_whole(writer, listed) for writer in writers):  # from Drive, or by another process
            shutil.rmtree(work, ignore_errors=True)
            return writers
        for left in (*work.glob("*.*/"), *(writer.path for writer in writers)):  # by a call that was killed
            shutil.rmtree(left, ignore_errors=True) if left.parent == work else remove_leftovers(left)
        archive = located(archive, file)
        songs = packed_songs(archive)
        excluded, _ = named(listed, {song.name for song in songs})
        lacks = [(writer, _lacks(writer, songs)) for writer in writers]
        lacking = {song.name: [writer for writer, names in lacks if song.name in names] for song in songs}
        todo = [song for song in songs if lacking[song.name] and song.name not in excluded]
        _mark_whole(writers, songs, excluded)
        _say_sizes(songs, todo, root, writers, archive, n_jobs)
        caches = {name: [(writer.path, writer.settings) for writer in of] for name, of in lacking.items()}
        calls = (delayed(_fetch)(archive, song, work, caches[song.name]) for song in todo)
        results = spread(calls, n_jobs=n_jobs, ahead="n_jobs", in_order=False)
        problems: list[Problem] = []
        unsaved, line = 0, partial(_line, sum(song.packed_bytes for song in todo), time.perf_counter(), [0])
        for song, entries, found, notes in progress(results, doing="fetch", total=len(todo), name=line):
            problems += found
            for writer, entry in zip(lacking[song.name], entries, strict=False):  # all or none
                writer.enter(song.name, entry)
                unsaved += entry["bytes"]
            _mark_whole(writers, songs, excluded)
            for note in notes:
                print(note, flush=True)
            if unsaved > PACK_BYTES:
                unsaved = save(root)
        require(problems, "The cache")
        print("fetch: all songs are cached", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return writers


def save(root: Root) -> int:
    """Copies to Drive what is there of the caches, and says so; 0 bytes are unsaved then, as far as Drive allows it."""
    if said := store(root):
        print(f"fetch: {said}", flush=True)
    return 0


def _restored(root: Root, settings: Sequence[CacheSettings]) -> list[CacheWriter]:
    """The caches as they are here; one that has no song here yet comes from Drive, as far as it is there."""
    writers = [CacheWriter(root, each, "wav") for each in settings]
    stored = stored_manifests(root) if not all(writer.songs for writer in writers) else {}
    for name in (writer.path.name for writer in writers if not writer.songs and writer.path.name in stored):
        try:
            restore(root, name, stored[name], stored[name]["songs"])
        except SepkitError as error:
            print(f"{error} The songs are fetched from the archive.", flush=True)
    return [CacheWriter(root, each, "wav") for each in settings]


def _is_whole(writer: CacheWriter, listed: Sequence[str]) -> bool:
    without = writer.state["without"]
    complete = writer.state["whole"] == list(SPLITS) and without.keys() == named(listed, without)[0]
    return complete and not writer.checks.damaged(writer.songs)


def _mark_whole(writers: list[CacheWriter], songs: list[Packed], excluded: set[str]) -> None:
    """Marks the splits whose songs are all there: training need not wait for the test songs."""
    without = [song.track(Path()) for song in songs if song.name in excluded]
    for writer in writers:
        lacking = _lacks(writer, songs) - excluded
        left = {song.split for song in songs if song.name in lacking}
        writer.finish([split for split in SPLITS if split not in left], without=without)


def _lacks(writer: CacheWriter, songs: list[Packed]) -> set[str]:
    """Names of songs that a cache does not have, or whose files are damaged."""
    names = {song.name for song in songs}
    return names - writer.songs.keys() | writer.checks.damaged(names & writer.songs.keys()).keys()


def _fetch(archive: Archive, song: Packed, work: Path, caches: list[tuple[Path, CacheSettings]]) -> tuple[Any, ...]:
    """In a worker: (song, its manifest entry for each cache, problems, lines to print)."""
    folder = work / f"{song.name}.{os.getpid()}"  # a worker of a killed call may still write into its own
    track = song.track(folder)
    try:
        notes, entries, problems = unpack(archive, song, folder), list[Any](), list[Problem]()
        for path, settings in caches:
            entry, found = cache_track(track, path, settings)
            entries += [entry] if entry else []
            problems += [problem for problem in found if problem not in problems]
        return song, entries, problems, [*notes, *map(str, problems)]
    except OSError as error:
        fix = "free some space, and the same command goes on"
        raise SepkitError(f"{song.name} can't be written under {work} ({error.strerror or error}); {fix}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _line(total: int, since: float, read: list[int], result: tuple[Any, ...]) -> str:
    """A finished song's words: its size, the speed so far, and the minutes left at this speed."""
    song = result[0]
    read[0] += song.packed_bytes
    rate = read[0] / (time.perf_counter() - since)
    size, left = f"{song.packed_bytes / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s", (total - read[0]) / rate / 60
    return f"{song.name} ({song.split}): {size}, {left:.0f} min left"


def _say_sizes(
    songs: list[Packed], todo: list[Packed], root: Root, writers: list[CacheWriter], archive: Archive, n_jobs: int
) -> None:
    """Prints what will be read and written, before it is; SepkitError where it does not fit on the disk."""

    def gigabytes(some: list[Packed], settings: CacheSettings) -> float:
        seconds = sum(song.wav_bytes for song in some) / 5 / (SAMPLE_RATE * 2 * 2)  # five files, 16 bits, stereo
        return cache_gigabytes(seconds / 3600, settings)

    megabytes, place = sum(song.packed_bytes for song in todo) / 1e6, archive.file or archive.url
    minutes = f", {megabytes / RATE_MB_S / 60:.0f} minutes at {RATE_MB_S:.0f} MB/s" if archive.file is None else ""
    print(f"fetch: {len(todo)} of {len(songs)} songs, {megabytes / 1000:.2f} GB{minutes}, from {place}")
    kinds = [CacheSettings(sample_rate=rate, sources=of) for of in PROTOCOLS.values() for rate in (SAMPLE_RATE, 32000)]
    sizes = (f"{len(k.sources)} stems at {k.sample_rate / 1000:g} kHz {gigabytes(songs, k):.2f} GB" for k in kinds)
    print(f"sizes of a cache of all songs: {', '.join(sizes)}")
    new, free = sum(gigabytes(todo, each.settings) for each in writers), shutil.disk_usage(root.path).free / 1e9
    pack = PACK_BYTES / 1e9 if drive.drive_folder(root) else 0.0
    needed = new + pack + sum(sorted(song.wav_bytes / 1e9 for song in todo)[-n_jobs:])
    most = f"{new:.2f} GB of cache, with the songs in progress at most {needed:.2f} GB"
    print(f"here: {most}, of {free:.2f} GB free in {root.path}", flush=True)
    if needed > free:
        fix = "free some space, give a --root on another disk, or take --profile full-32k, which needs less"
        raise SepkitError(f"The songs need {needed:.2f} GB, but {root.path} has {free:.2f} GB free; {fix}.")
    if pick_device(None) == "cuda":
        print("A GPU is attached, and its minutes count: fetch songs on a runtime without one.", flush=True)
