"""Songs on disk: found, split into train, valid and test, read."""

import importlib.util
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import yaml

from sepkit.data.layouts import entries_of, is_song, read_songs, split_of
from sepkit.data.sound import BadSound, read_sound
from sepkit.data.tracks import SPLITS, Part, SongFolder, Track, artist_of
from sepkit.errors import SepkitError
from sepkit.storage.files import named, read_names

LISTS = {"test": ("test.txt", 5), "valid": ("validation.txt", 7)}  # a list of names, and one song in so many without it
BY_MUSDB = "MUSDB18's own"


@cache
def musdb_validation_names() -> frozenset[str]:
    """musdb's 14 validation songs, from its configuration file: importing musdb needs ffmpeg."""
    spec = importlib.util.find_spec("musdb")
    if spec is None or not spec.submodule_search_locations:
        raise SepkitError("musdb is not installed: pip install 'musdb>=0.4.3'")
    config = Path(spec.submodule_search_locations[0]) / "configs" / "mus.yaml"
    return frozenset(yaml.safe_load(config.read_text(encoding="utf-8"))["validation_tracks"])


def find_songs(path: Path | str, exclude: Iterable[str] = ()) -> SongFolder:
    """The songs under `path`, by split and name, not decoded; exclude: lines of exclude.txt; SepkitError for none."""
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        what = "is a file; unpack it first" if root.exists() else "does not exist; check the path"
        raise SepkitError(f"No folder of songs at {root}: it {what}, and give the folder that holds the songs.")
    layout, songs, unknown = read_songs(root)
    if not songs:
        raise SepkitError(_why_none(root))
    songs, split_by, misnamed = _split(root, songs)
    songs.sort(key=lambda track: (SPLITS.index(track.split), track.name))
    names = {track.name for track in songs}
    excluded, strange = named(exclude, names)
    if names <= excluded:
        raise SepkitError(f"All {len(names)} songs under {root} are on the exclusion list; take some off exclude.txt.")
    unknown = [*(("exclude.txt", line) for line in strange), *misnamed, *unknown]
    used, left_out = ([track for track in songs if (track.name in excluded) == out] for out in (False, True))
    sums = sum(track.mixture is None for track in songs)
    chosen = "; ".join(f"{split} songs {how}" for split, how in split_by.items())
    origin = f"{root.name}, read as {layout}: {len(songs)} songs, mixtures {f'of {sums} summed' if sums else 'given'}; {chosen}"
    return SongFolder(root, layout, tuple(used), tuple(left_out), split_by, tuple(unknown), origin)


def _split(root: Path, songs: list[Track]) -> tuple[list[Track], dict[str, str], list[tuple[str, str]]]:
    """(the songs with their splits, of folders, lists or drawn; how each was chosen; lines of lists that name no song)."""
    split_by, unknown = dict[str, str](), list[tuple[str, str]]()
    placed = {song.split for song in songs} - {""}
    for split, (file, share) in LISTS.items():
        free = {song.name for song in songs if song.split in ("", "train")}
        if (root / file).exists() and not (placed and split == "test"):
            chosen, misnamed = named(read_names(root / file), free)
            split_by[split] = f"named in {file}"
            unknown += [(file, line) for line in misnamed if free]
        elif split in placed or (placed and split == "test"):
            chosen, split_by[split] = set(), f"in {split}/"
        elif placed and split == "valid" and not (free and free.isdisjoint(musdb_validation_names())):
            chosen, split_by[split] = free & musdb_validation_names(), BY_MUSDB
        else:
            chosen, split_by[split] = _drawn(free, share), "drawn by artist"
        moved = {song.path for song in songs if song.name in chosen and song.split in ("", "train")}
        songs = [replace(song, split=split) if song.path in moved else song for song in songs]
    return [song if song.split else replace(song, split="train") for song in songs], split_by, unknown


def _drawn(names: set[str], share: int) -> set[str]:
    """About one song in `share`: the songs of whole artists; none where that leaves no other artist."""
    chosen: set[str] = set()
    artists = sorted({artist_of(name) for name in names}, key=lambda artist: blake2b(artist.encode()).digest())
    for artist in artists[:-1]:
        if len(chosen) * share < len(names):
            chosen |= {name for name in names if artist_of(name) == artist}
    return chosen


def _why_none(root: Path) -> str:
    """The sentence for a folder without songs: what was found, and the likely fix."""
    entries, outer = entries_of(root), root.parent.parent if split_of(root.parent) else root.parent
    nested = [entry for entry in entries if is_song(entry, 2)]
    fix = "copy songs there: each is a folder with vocals and accompaniment, or a .stem.mp4"
    if any(entry.suffix in (".zip", ".tar", ".gz", ".7z") for entry in entries):
        fix = "unpack the archive first"
    if is_song(root):
        fix = f"this looks like one song: give the folder that holds the songs, {outer}"
    elif nested:
        fix = f"the songs seem to lie one level deeper: give {nested[0]}"
        fix = f"this looks like a train or test folder itself: give its parent {root.parent}" if split_of(root) else fix
    found = ", ".join(entry.name for entry in entries[:4]) + " …" * (len(entries) > 4) or "nothing"
    return f"No songs under {root} (0 found): expected folders of songs, or train/ and test/ with them, found {found}; {fix}."


def read_song(track: Track, start: int = 0, stop: int | None = None) -> tuple[dict[str, np.ndarray], int]:
    """Mixture and sources of `track`, each float32 (channel, time), mono as two equal channels, and the rate in Hz.

    start, stop: in samples.  SepkitError, by song and file, for files that are missing, unreadable or unlike each other.
    """
    try:
        sounds = {path: read_sound(path, start, stop) for path in track.files}
    except BadSound as error:
        raise SepkitError(f"{track.name}: {error}") from error
    facts = {track.shown(path): f"{streams.shape[-1]} at {rate} Hz" for path, (streams, rate) in sounds.items()}
    if len({*facts.values()}) > 1:
        said = f"its stems have different sample rates or numbers of samples ({facts})".replace("'", "")
        raise SepkitError(f"{track.name}: {said}; mend them.")
    silence = np.zeros_like(next(iter(sounds.values()))[0][0])

    def summed(parts: tuple[Part, ...]) -> np.ndarray:
        total = None
        for path, stream in parts:
            if stream >= len(streams := sounds[path][0]):
                raise SepkitError(f"{track.name}: expected {stream + 1} audio streams in {path}, found {len(streams)}.")
            total = streams[stream] if total is None else total + streams[stream]
        total = silence if total is None else total
        return total if len(total) == 2 else np.repeat(total, 2, axis=0)

    sources = {source: summed(parts) for source, parts in track.sources.items()}
    mixture = summed((track.mixture,)) if track.mixture else np.sum(list(sources.values()), axis=0)
    return {"mixture": mixture, **sources}, next(iter(sounds.values()))[1]


def accompaniment(audio: dict[str, np.ndarray]) -> np.ndarray:
    """The accompaniment, or the sum of drums, bass and other, (channel, time)."""
    return audio["accompaniment"] if "accompaniment" in audio else audio["drums"] + audio["bass"] + audio["other"]
