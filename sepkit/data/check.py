"""Is this folder of songs fit for work?  A blocking Problem stops it; songs are never trimmed or padded."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import delayed

from sepkit.data.layouts import STEMS_YAML, entries_of, is_song
from sepkit.data.songs import BY_MUSDB, accompaniment, read_song
from sepkit.data.sound import AUDIO, FFMPEG, GET_FFMPEG, LOSSY, BadSound, Sound, extent, missing_decoders
from sepkit.data.tracks import EXCLUDE, MUSDB, SPLITS, Problem, SongFolder, Track, artist_of
from sepkit.errors import SepkitError
from sepkit.parallel import spread
from sepkit.profiles import SAMPLE_RATE

# Energy of mixture − Σ stems beside that of the mixture, dB.  Rounding to 16 bits leaves −80, AAC −28 (at worst −21).
MAX_RESIDUAL_DB, MAX_RESIDUAL_LOSSY_DB = -30.0, -15.0
# A long song is checked on excerpts: the check of 32 GB of songs must not take as long as a run.
EXCERPTS, EXCERPT_S, WHOLE_BELOW_S = 6, 5.0, 60.0
TRAIN_SONGS = {"wav": ("MUSDB18-HQ", 100), "stem.mp4": ("MUSDB18", 100), "preview": ("the 7-second preview", 94)}
SHORT_S = 10.0
SHORTEST_S = 0.1
EXPECTED = {"truncated": "as many samples as the header says", "channels": "2 channels"}  # by kind; else audio
LOUD = 4.0  # times full scale: no music, and no sum of stems, reaches it


class UnusableSongs(SepkitError):
    """Songs with blocking `problems`."""

    problems: list[Problem]


def check_headers(track: Track) -> list[Problem]:
    """What its files are not: there, readable, whole, long enough, of one length, rate and number of channels."""
    problems, problem = list(track.problems), partial(Problem, track.name)
    lengths, rates = dict[str, int](), dict[str, int]()
    for file in track.files if not problems else ():
        name = track.shown(file)
        if file.is_symlink() and not file.exists():
            found, fix = f"a link to {file.readlink()}, which is not there", f"copy {name} itself there"
            problems.append(problem(name, "broken link", "audio", found, fix))
        elif not file.exists():
            problems.append(problem(name, "missing stem", name, *_instead(track, file)))
        elif file.suffix.casefold() in FFMPEG:  # whose headers only another program reads
            problems += [] if file.stat().st_size else [problem(name, "empty file", "audio", "0 bytes")]
        else:
            try:
                with Sound(file) as sound:
                    rates[name] = sound.samplerate
                    if sound.there is not None and sound.format != "MP3":  # which may only estimate it
                        lengths[name] = sound.there
                    if sound.channels == 1:
                        musdb, fix = track.layout in MUSDB, "it is taken as two equal channels; nothing to do"
                        fix = EXCLUDE if musdb else fix
                        problems.append(problem(name, "channels", "2 channels", "1", fix, blocking=musdb))
            except BadSound as error:
                problems.append(problem(name, error.kind, EXPECTED.get(error.kind, "audio"), error.found))
    for kind, facts, unit in (("unequal length", lengths, "samples"), ("sample rate", rates, "Hz")):
        common = Counter(facts.values()).most_common(1)[0][0] if facts else 0
        for name, value in facts.items():
            if value != common:
                found = f"{value} ({value - common:+d})" if unit == "samples" else f"{value} Hz"
                problems.append(problem(name, kind, f"{common} {unit} as its other files", found))
    if lengths and max(lengths.values()) < SHORTEST_S * SAMPLE_RATE:
        found = f"{max(lengths.values())} sample(s)"
        problems.append(problem(next(iter(lengths)), "too short", f"at least {SHORTEST_S} s", found))
    return problems


def _instead(track: Track, file: Path) -> tuple[str, str]:
    """(what is there in place of an absent file, what to do)."""
    there = sorted({*entries_of(file.parent)} - {*track.files})
    others = {each.stem: each.name for each in there if each.suffix.casefold() in AUDIO}
    close, found, fix = difflib.get_close_matches(file.stem, others, 1, 0.75), "no such file", EXCLUDE
    if close:
        found, fix = f"{found} (but {others[close[0]]})", f"rename {others[close[0]]} to {file.stem}"
    elif others and track.layout not in MUSDB:
        found, fix = f"{found} (but {', '.join(others.values())})", f"name the stems in {STEMS_YAML}, or {EXCLUDE}"
    return found, fix


def check_audio(track: Track, audio: dict[str, np.ndarray], sample_rate: int) -> list[Problem]:
    """What only the samples show: not finite, silent, far too loud, at another rate, mixture unlike the sum of stems."""
    problem = partial(Problem, track.name)
    note, problems = partial(problem, blocking=False), []
    for source, samples in audio.items():
        if bad := int(np.count_nonzero(~np.isfinite(samples))):
            problems.append(problem(track.told(source), "not finite", "finite samples", f"{bad} NaN or infinite"))
        elif not samples.any():
            fix = "its scores will be undefined; nothing to do if the song is like that"
            problems.append(note(track.told(source), "silent", "sound", "only zeros", fix))
    loudest = max(audio, key=lambda source: np.abs(audio[source]).max(initial=0))
    if LOUD < (peak := float(np.abs(audio[loudest]).max(initial=0))) < np.inf:
        fix = "divide all files of the song by one number, so that their peaks lie below 1"
        problems.append(note(track.told(loudest), "level", "samples between -1 and 1", f"a peak of {peak:.1f}", fix))
    if sample_rate != SAMPLE_RATE:
        fix = "the cache resamples it; nothing to do"
        problems.append(note("its files", "sample rate", f"{SAMPLE_RATE} Hz", f"{sample_rate} Hz", fix))
    limit = MAX_RESIDUAL_LOSSY_DB if any(file.suffix.casefold() in LOSSY for file in track.files) else MAX_RESIDUAL_DB
    if not any(found.blocking for found in problems) and (residual := residual_db(audio)) > limit:
        fix = "listen to it; exclude the song if its stems do not belong to its mixture"
        expected = f"mixture − sum of stems below {limit:.0f} dB of the mixture"
        problems.append(note(track.shown(track.files[0]), "residual", expected, f"{residual:.1f} dB", fix))
    return problems


def residual_db(audio: dict[str, np.ndarray]) -> float:
    """10·log10(Σ(mixture − Σ stems)² / Σ mixture²), dB; −inf where the mixture is the exact sum."""
    mixture = audio["mixture"].astype(np.float64)
    residual = mixture - audio["vocals"] - accompaniment(audio)
    ratio = np.sum(residual**2) / max(float(np.sum(mixture**2)), 1e-30)
    return float(10 * np.log10(ratio)) if ratio > 0 else -np.inf


class Checked(NamedTuple):
    duration_s: float
    problems: list[Problem]
    digests: dict[str, str]  # of its mixture and of its vocals, with 16 bits, where these are not silent


def check_track(track: Track) -> Checked:
    """One song, audio included; long WAV songs on excerpts."""
    problems, spans = check_headers(track), [(0, None)]
    if any(problem.blocking for problem in problems):
        return Checked(0.0, problems, {})
    decoded = any(file.suffix.casefold() in FFMPEG for file in track.files)  # by ffmpeg, which reads all
    n_samples, rate = (0, 1) if decoded else extent(track.files[0])
    if n_samples > WHOLE_BELOW_S * rate:
        starts = np.linspace(0, n_samples - EXCERPT_S * rate, EXCERPTS).astype(int)
        spans = [(start, start + int(EXCERPT_S * rate)) for start in starts]
    try:
        parts = [read_song(track, *span) for span in spans]
    except SepkitError as error:
        return Checked(0.0, [*problems, Problem(track.name, track.path.name, "unreadable", "audio", str(error))], {})
    audio, sample_rate = parts[0]
    if len(parts) > 1:
        audio = {source: np.concatenate([part[source] for part, _ in parts], axis=1) for source in audio}
    duration_s, found = (n_samples or audio["mixture"].shape[1]) / sample_rate, check_audio(track, audio, sample_rate)
    rounded = {source: np.rint(np.nan_to_num(audio[source]).clip(-1, 1) * 32767) for source in ("mixture", "vocals")}
    heard = {source: samples.astype(np.int16).tobytes() for source, samples in rounded.items() if samples.any()}
    return Checked(duration_s, problems + found, {source: blake2b(heard[source]).hexdigest() for source in heard})


def check_folder(folder: SongFolder, n_jobs: int = -1) -> tuple[float, float, list[Problem]]:
    """(hours, median duration in seconds, problems) of all songs and of the folder as a whole."""
    problems = list(check_counts(folder))
    if any(problem.kind == "no ffmpeg" for problem in problems):
        return 0.0, 0.0, problems
    songs = list(spread((delayed(check_track)(track) for track in folder.tracks), n_jobs=n_jobs))
    median_s = float(np.median([song.duration_s for song in songs if song.duration_s] or [0.0]))
    shared = [*check_counts(folder, median_s), *_same_audio(folder, songs), *_same_artists(folder)]
    of_songs = chain.from_iterable(song.problems for song in songs)
    return sum(song.duration_s for song in songs) / 3600, median_s, [*shared, *of_songs]


def _same_audio(folder: SongFolder, songs: list[Checked]) -> Iterator[Problem]:
    """Songs whose mixture or vocals are those of a song before; across train/ and test/ they block."""
    first: dict[str, Track] = {}
    for track, song in zip(folder.tracks, songs, strict=True):
        for source, digest in song.digests.items():
            if (other := first.setdefault(digest, track)) is not track:
                blocking = (track.split == "test") != (other.split == "test")
                file, found = track.told(source), f"those of {other.name!r} in {other.path.parent.name}/"
                fix = "delete one of the two songs, or name it in exclude.txt"
                yield Problem(track.name, file, "same audio", "samples of its own", found, fix, blocking)
                break


def _same_artists(folder: SongFolder) -> Iterator[Problem]:
    known = {artist_of(track.name).casefold() for track in folder.tracks if track.split != "test"}
    shared = [track.name for track in folder.split("test") if artist_of(track.name).casefold() in known]
    if shared:
        wanted, found = "test songs of artists who are not in train/", f"{len(shared)}: {', '.join(shared[:3])}"
        what = (wanted, found + " …" * (len(shared) > 3), "the network knows their voices: say so beside scores")
        yield Problem("", str(folder.path), "artist in train and test", *what, blocking=False)


def check_counts(folder: SongFolder, median_s: float = np.inf, splits: Collection[str] = SPLITS) -> Iterator[Problem]:
    """Problems of the folder as a whole; notes where songs with MUSDB's validation names are not all of it, or short."""
    problem = partial(Problem, "", str(folder.path))
    note = partial(problem, blocking=False)
    decoded = sorted({file.suffix.casefold() for track in folder.tracks for file in track.files} & {*FFMPEG})
    if decoded and (missing := missing_decoders()):
        kinds = ", ".join(decoded).replace(".mp4", ".stem.mp4")
        yield problem("no ffmpeg", f"{missing} on the PATH to read {kinds} songs", "none", GET_FFMPEG)
    yield from unknown_names(folder.unknown, folder.places)
    counts, fix = folder.counts, f"copy songs into {folder.path}/train"
    fixes = {"train": fix, "valid": fix, "test": f"copy songs into {folder.path}/test"}
    if counts["train"]:
        fixes["valid"] = "name songs of train/ in validation.txt beside it"
    elif counts["valid"]:
        fixes["train"] = "all songs of train/ are validation songs: name fewer in validation.txt beside it"
    for split in (split for split in splits if counts[split] == 0):
        yield problem(f"no {split} songs", "at least 1", "0", fixes[split], blocking=split != "test")
    yield from _not_read(folder)
    for name, count in Counter(track.name for track in folder.tracks).items():
        if count > 1:
            places = {track.path.parent for track in folder.tracks if track.name == name}
            kind = "song in train and test" if len(places) > 1 else "two songs of one name"
            yield Problem(name, str(folder.path), kind, "one place", "two", "delete one, or rename it")
    if folder.split_by["valid"] != BY_MUSDB or folder.layout not in MUSDB:
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


def _not_read(folder: SongFolder) -> Iterator[Problem]:
    """Notes on what is no song: songs in other places, broken links, single files."""
    paths = {track.path for track in (*folder.tracks, *folder.excluded)}
    parents = {path.parent for path in paths} | {folder.path}
    for entry in sorted(entry for parent in parents for entry in entries_of(parent)):
        single = entry.is_symlink() or entry.suffix.casefold() in AUDIO
        if entry not in paths | parents and (single or is_song(entry, 2)):
            found = "a broken link" if not entry.exists() else "songs" if entry.is_dir() else "a file"
            what = ("a song's folder", found, "give each song a folder, in train/, test/ or valid/")
            yield Problem("", entry.relative_to(folder.path).as_posix(), "not read", *what, blocking=False)


def unknown_names(unknown: Sequence[tuple[str, str]], subsets: Mapping[str, str]) -> Iterator[Problem]:
    """Notes on lines of exclude.txt and validation.txt that name no song, with the closest; subsets: {song: its place}."""
    songs, wanted = {name.casefold(): name for name in subsets}, dict.fromkeys(dict(unknown), "a song of this folder")
    wanted |= {"validation.txt": "a song of train/", "stems.yaml": "a stem of a song"}
    for file, line in unknown:
        match, fix = difflib.get_close_matches(line.casefold(), songs, 1), f"correct {file}"
        if match:
            fix += f" (the closest song is {songs[match[0]]!r} in {subsets[songs[match[0]]]}/)"
        yield Problem("", file, "unknown name", wanted[file], repr(line), fix, blocking=False)


def tell_unknown(unknown: Sequence[tuple[str, str]], subsets: Mapping[str, str]) -> None:
    """Prints the first three of these notes."""
    more = [f"… and {len(unknown) - 3} more (python -m sepkit doctor lists them)"] if len(unknown) > 3 else []
    for note in (*unknown_names(unknown[:3], subsets), *more):
        print(f"note: {note}", flush=True)


def require(problems: list[Problem], doing: str) -> None:
    """Raises UnusableSongs with the first three blocking problems and how many there are."""
    if blocking := [problem for problem in problems if problem.blocking]:
        more = f" … and {len(blocking) - 3} more (python -m sepkit doctor lists them)"
        shown = " | ".join(map(str, blocking[:3])) + (more if len(blocking) > 3 else "")
        error = UnusableSongs(f"{doing} can't start: {len(blocking)} problem(s) with the songs: {shown}")
        error.problems = blocking
        raise error


def require_headers(folder: SongFolder, doing: str, splits: Collection[str] = SPLITS) -> None:
    """The cheap part of the check, before any work: headers of the songs of `splits`, counts of these splits."""
    tracks = (track for track in folder.tracks if track.split in splits)
    require([*check_counts(folder, splits=splits), *chain.from_iterable(map(check_headers, tracks))], doing)
