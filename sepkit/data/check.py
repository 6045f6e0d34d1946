"""Is this folder of songs fit for work?

Headers are checked first, which costs nothing, then the audio.  A blocking `Problem` stops training and evaluation
until the song is repaired or excluded; songs are never trimmed or padded.
"""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.headers import Problem, check_headers, format_problems, is_audio
from sepkit.data.songs import (
    GET_FFMPEG,
    SPLITS,
    SongFolder,
    Track,
    accompaniment,
    artist_of,
    entries_of,
    holds_songs,
    missing_decoders,
    on_disk,
    place_of,
    read_song,
)
from sepkit.errors import SepkitError
from sepkit.parallel import spread
from sepkit.profiles import SAMPLE_RATE

# Energy of mixture − Σ stems beside that of the mixture, dB.  Rounding to 16 bits leaves −80, AAC −28 (at worst −21).
MAX_RESIDUAL_DB = {"wav": -30.0, "stem.mp4": -15.0}
# A long song is checked on excerpts: the check of 32 GB of songs must not take as long as a run.
EXCERPTS, EXCERPT_S, WHOLE_BELOW_S = 6, 5.0, 60.0
TRAIN_SONGS = {"wav": ("MUSDB18-HQ", 100), "stem.mp4": ("MUSDB18", 100), "preview": ("the 7-second preview", 94)}
SHORT_S = 10.0
LOUD = 4.0  # times full scale: no music, and no sum of stems, reaches it


class UnusableSongs(SepkitError):
    """Songs with blocking `problems`."""

    def __init__(self, message: str, problems: list[Problem]) -> None:
        super().__init__(message)
        self.problems = problems


def check_audio(track: Track, audio: dict[str, np.ndarray], sample_rate: int) -> list[Problem]:
    """What only the samples show: not finite, silent, mixture unlike the sum of stems; of AAC also the format."""
    problem, name, wav = partial(Problem, track.name), track.path.name, track.layout == "wav"
    problems = [] if wav else list(format_problems(track, name, sample_rate, len(audio["mixture"])))
    for source, samples in audio.items():
        file = f"{source}.wav" if wav else f"{name}, {source}"
        if bad := int(np.count_nonzero(~np.isfinite(samples))):
            problems.append(problem(file, "not finite", "finite samples", f"{bad} NaN or infinite"))
        elif not samples.any():
            fix = "its scores will be undefined; nothing to do if the song is like that"
            problems.append(problem(file, "silent", "sound", "only zeros", fix, blocking=False))
    loudest = max(audio, key=lambda source: np.abs(audio[source]).max(initial=0))
    if LOUD < (peak := float(np.abs(audio[loudest]).max(initial=0))) < np.inf:
        fix = "divide all five files by one number, so that their peaks lie below 1"
        file, within = f"{loudest}.wav" if wav else f"{name}, {loudest}", "samples between -1 and 1"
        problems.append(problem(file, "level", within, f"a peak of {peak:.1f}", fix, blocking=False))
    limit = MAX_RESIDUAL_DB[track.layout]
    if not any(found.blocking for found in problems) and (residual := residual_db(audio)) > limit:
        fix = "listen to it; exclude the song if its stems do not belong to its mixture"
        expected = f"mixture − sum of stems below {limit:.0f} dB of the mixture"
        file = "mixture.wav" if wav else name
        problems.append(problem(file, "residual", expected, f"{residual:.1f} dB", fix, blocking=False))
    return problems


def residual_db(audio: dict[str, np.ndarray]) -> float:
    """10·log10(Σ(mixture − Σ stems)² / Σ mixture²), dB; −inf where the mixture is the exact sum."""
    mixture = audio["mixture"].astype(np.float64)
    residual = mixture - audio["vocals"] - accompaniment(audio)
    ratio = np.sum(residual**2) / max(float(np.sum(mixture**2)), 1e-30)
    return float(10 * np.log10(ratio)) if ratio > 0 else -np.inf


@dataclass(frozen=True)
class Checked:
    """One song: its duration, its problems, and a digest of the samples of its mixture and of its vocals."""

    duration_s: float
    problems: list[Problem]
    digests: dict[str, str] = field(default_factory=dict)


def check_track(track: Track) -> Checked:
    """One song, audio included; long WAV songs on excerpts."""
    problems, spans = check_headers(track), [(0, None)]
    if any(problem.blocking for problem in problems):
        return Checked(0.0, problems)
    duration_s = sf.info(on_disk(track.files[0])).duration if track.layout == "wav" else 0.0
    if duration_s > WHOLE_BELOW_S:
        starts = np.linspace(0, (duration_s - EXCERPT_S) * SAMPLE_RATE, EXCERPTS).astype(int)
        spans = [(start, start + int(EXCERPT_S * SAMPLE_RATE)) for start in starts]
    try:
        parts = [read_song(track, *span) for span in spans]
    except SepkitError as error:
        return Checked(0.0, [*problems, Problem(track.name, track.path.name, "unreadable", "audio", str(error))])
    audio, sample_rate = parts[0]
    if len(parts) > 1:
        audio = {source: np.concatenate([part[source] for part, _ in parts], axis=1) for source in audio}
    duration_s, found = duration_s or audio["mixture"].shape[1] / sample_rate, check_audio(track, audio, sample_rate)
    return Checked(duration_s, problems + found, {source: _digest(audio[source]) for source in ("mixture", "vocals")})


def _digest(samples: np.ndarray) -> str:
    """Of the samples (channel, time) with 16 bits; empty where these are silent."""
    rounded = np.rint(np.nan_to_num(samples).clip(-1, 1) * 32767).astype(np.int16)
    return blake2b(rounded.tobytes()).hexdigest() if rounded.any() else ""


def check_folder(folder: SongFolder, n_jobs: int = -1) -> tuple[float, float, list[Problem]]:
    """(hours, median duration in seconds, problems) of all songs and of the folder as a whole."""
    if folder.layout == "stem.mp4" and missing_decoders():
        return 0.0, 0.0, list(check_counts(folder))
    songs = list(spread((delayed(check_track)(track) for track in folder.tracks), n_jobs=n_jobs))
    median_s = float(np.median([song.duration_s for song in songs if song.duration_s] or [0.0]))
    shared = [*check_counts(folder, median_s), *_same_audio(folder, songs), *_same_artists(folder)]
    problems = chain.from_iterable(song.problems for song in songs)
    return sum(song.duration_s for song in songs) / 3600, median_s, [*shared, *problems]


def _same_audio(folder: SongFolder, songs: list[Checked]) -> Iterator[Problem]:
    """Songs whose mixture or vocals are those of a song before; across train/ and test/ they block."""
    first: dict[str, Track] = {}
    for track, song in zip(folder.tracks, songs, strict=True):
        for source, digest in song.digests.items():
            other = first.setdefault(digest, track) if digest else track
            if other is not track:
                blocking = (track.split == "test") != (other.split == "test")
                file, found = f"{source}.wav", f"those of {other.name!r} in {other.path.parent.name}/"
                fix = "delete one of the two songs, or name it in exclude.txt"
                yield Problem(track.name, file, "same audio", "samples of its own", found, fix, blocking)
                break


def _same_artists(folder: SongFolder) -> Iterator[Problem]:
    known = {artist_of(track.name).casefold() for track in folder.tracks if track.split != "test"}
    shared = [track.name for track in folder.split("test") if artist_of(track.name).casefold() in known]
    if shared:
        wanted, fix = (
            "test songs of artists who are not in train/",
            "the network knows their voices: say so beside scores",
        )
        found = f"{len(shared)}: {', '.join(shared[:3])}" + (" …" if len(shared) > 3 else "")
        yield Problem("", str(folder.path), "artist in train and test", wanted, found, fix, blocking=False)


def check_counts(folder: SongFolder, median_s: float = np.inf, splits: Collection[str] = SPLITS) -> Iterator[Problem]:
    """Problems of the folder as a whole; notes where songs with MUSDB's validation names are not all of it, or short."""
    problem = partial(Problem, "", str(folder.path))
    note = partial(problem, blocking=False)
    if folder.layout == "stem.mp4" and (missing := missing_decoders()):
        yield problem("no ffmpeg", f"{' and '.join(missing)} on the PATH to read .stem.mp4 songs", "none", GET_FFMPEG)
    yield from unknown_names(folder.unknown, folder.subsets)
    strays = [entry for entry in entries_of(folder.path) if entry.name not in ("train", "test")]
    places = {entry: place for entry in strays if (place := place_of(entry)) and holds_songs(entry)}
    for split in splits:
        if folder.counts[split] == 0:
            fix = " and ".join(places.values()) or f"copy songs into {folder.path / split.replace('valid', 'train')}"
            if split == "valid" and folder.counts["train"] and not places:
                fix = "name songs of train/ in validation.txt beside it"
            elif split == "train" and folder.counts["valid"]:
                fix = "all songs of train/ are validation songs: name fewer in validation.txt beside it"
            yield problem(f"no {split} songs", "at least 1", "0", fix, blocking=split != "test")
    yield from _not_read(folder, strays)
    for name, count in Counter(track.name for track in folder.tracks).items():
        if count > 1:
            subsets = {track.path.parent.name for track in folder.tracks if track.name == name}
            kind = "song in train and test" if len(subsets) > 1 else "two songs of one name"
            yield Problem(name, str(folder.path), kind, "one place", "two", "delete one, or rename it")
    if folder.own_validation:
        return
    preview = 0 < median_s < SHORT_S and folder.layout == "stem.mp4"
    known, train = TRAIN_SONGS["preview" if preview else folder.layout]
    if (total := len(folder.tracks) + len(folder.excluded)) != train + 50:  # each has 50 test songs
        fix = "results on other songs are not comparable with MUSDB18's; complete the set if you meant it"
        yield note("song count", f"{train + 50} songs ({known} has {train} + 50)", f"{total}", fix)
    if 0 < median_s < SHORT_S:
        fix = "fine for the preview profile; use MUSDB18-HQ for results that you report"
        found = f"clips of {median_s:.1f} s" + (f" ({known})" if preview else "")
        yield note("short clips", "whole songs", found, fix)


def _not_read(folder: SongFolder, strays: list[Path]) -> Iterator[Problem]:
    """Notes on what is no song: songs in other places than train/ and test/, broken links, single files."""
    for entry in strays:
        if holds_songs(entry):
            place = place_of(entry) or "move them into train/ or test/"
            yield Problem("", entry.name, "not read", "songs in train/ and test/", "songs", place, blocking=False)
    used = {track.path for track in (*folder.tracks, *folder.excluded)}
    for entry in chain(entries_of(folder.path / "train"), entries_of(folder.path / "test")):
        if entry not in used and (entry.is_symlink() or is_audio(entry)):
            found = "a broken link" if not entry.exists() else "a file"
            where = f"{entry.parent.name}/{entry.name}"
            fix = "give each song a folder with mixture, vocals, drums, bass and other .wav"
            yield Problem("", where, "not read", "a song's folder", found, fix, blocking=False)


def unknown_names(unknown: Iterable[tuple[str, str]], subsets: Mapping[str, str]) -> Iterator[Problem]:
    """Notes on lines of exclude.txt and validation.txt that name no song, with the closest; subsets: {song: its place}."""
    songs = {name.casefold(): name for name in subsets}
    for file, line in unknown:
        wanted, fix = "a song of train/" if file == "validation.txt" else "a song of this folder", f"correct {file}"
        if match := difflib.get_close_matches(line.casefold(), songs, 1):
            fix += f" (the closest song is {songs[match[0]]!r} in {subsets[songs[match[0]]]}/)"
        yield Problem("", file, "unknown name", wanted, repr(line), fix, blocking=False)


def tell_unknown(unknown: Sequence[tuple[str, str]], subsets: Mapping[str, str]) -> None:
    """Prints the first three of these notes."""
    for problem in unknown_names(unknown[:3], subsets):
        print(f"note: {problem}", flush=True)
    if len(unknown) > 3:
        print(f"note: … and {len(unknown) - 3} more (python -m sepkit doctor lists them)", flush=True)


def require(problems: list[Problem], doing: str) -> None:
    """Raises UnusableSongs with the first three blocking problems and how many there are."""
    if blocking := [problem for problem in problems if problem.blocking]:
        more = f" … and {len(blocking) - 3} more (python -m sepkit doctor lists them)"
        shown = " | ".join(map(str, blocking[:3])) + (more if len(blocking) > 3 else "")
        raise UnusableSongs(f"{doing} can't start: {len(blocking)} problem(s) with the songs: {shown}", blocking)


def require_headers(folder: SongFolder, doing: str, splits: Collection[str] = SPLITS) -> None:
    """The cheap part of the check, before any work: headers of the songs of `splits`, counts of these splits."""
    tracks = (track for track in folder.tracks if track.split in splits)
    require([*check_counts(folder, splits=splits), *chain.from_iterable(map(check_headers, tracks))], doing)
