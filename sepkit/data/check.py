"""Is this folder of songs fit for work?

Headers are checked first, which costs nothing, then the audio.  A blocking `Problem` stops training and evaluation
until the song is repaired or excluded; songs are never trimmed or padded.
"""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.songs import GET_FFMPEG, SPLITS, SongFolder, Track, accompaniment, missing_decoders, read_song
from sepkit.errors import SepkitError
from sepkit.parallel import spread
from sepkit.profiles import SAMPLE_RATE

# Energy of mixture − Σ stems beside that of the mixture, dB.  Rounding to 16 bits leaves −80, AAC −28 (at worst −21).
MAX_RESIDUAL_DB = {"wav": -30.0, "stem.mp4": -15.0}
# A long song is checked on excerpts: the check of 32 GB of songs must not take as long as a run.
EXCERPTS, EXCERPT_S, WHOLE_BELOW_S = 6, 5.0, 60.0
TRAIN_SONGS = {"wav": ("MUSDB18-HQ", 100), "stem.mp4": ("MUSDB18", 100), "preview": ("the 7-second preview", 94)}
SHORT_S = 10.0
EXCLUDE = "repair it, or exclude the song (one name a line in exclude.txt under the root)"
CUT_SHORT = re.compile(r"^data : \d+ \(should be", re.MULTILINE)  # libsndfile's words


class UnusableSongs(SepkitError):
    """Songs with blocking `problems`."""

    def __init__(self, message: str, problems: list["Problem"]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Problem:
    """A finding about a file of the song `track`, or about the whole folder, where `track` is empty."""

    track: str
    file: str
    kind: str
    expected: str
    found: str
    fix: str = EXCLUDE
    blocking: bool = True

    def __str__(self) -> str:
        where = f"{self.track}: {self.file}" if self.track else self.file
        return f"{where}: {self.kind}: expected {self.expected}, found {self.found}; {self.fix}."


def check_headers(track: Track) -> list[Problem]:
    """What file names and WAV headers show: missing, misnamed, truncated, mono, other-rate, unequal."""
    problem, problems, lengths = partial(Problem, track.name), [], {}
    if track.layout == "stem.mp4":
        return [] if track.path.stat().st_size else [problem(track.path.name, "empty file", "audio", "0 bytes")]
    present = {file.name for file in track.path.iterdir()}
    lower = {name.lower(): name for name in present}
    for file in track.files:
        name = file.name
        if name not in present:
            close = [lower[match] for match in difflib.get_close_matches(name, lower, 1, 0.75)]
            but, fix = (f" (but {close[0]})", f"rename {close[0]} to {name}") if close else ("", EXCLUDE)
            problems.append(problem(name, "missing stem", name, f"no such file{but}", fix))
            continue
        try:
            info = sf.info(file, verbose=True)
        except (sf.LibsndfileError, RuntimeError):
            problems.append(problem(name, "unreadable", "a WAV file", f"{file.stat().st_size} bytes, not audio"))
            continue
        lengths[name] = info.frames
        if info.frames == 0:
            problems.append(problem(name, "empty file", "audio", "0 samples"))
        elif CUT_SHORT.search(info.extra_info):
            problems.append(problem(name, "truncated", "as many samples as the header says", f"{info.frames}"))
        problems += _format_problems(track, name, info.samplerate, info.channels)
    common = Counter(lengths.values()).most_common(1)[0][0] if lengths else 0
    for name, n_samples in lengths.items():
        if n_samples != common:
            found = f"{n_samples} ({n_samples - common:+d})"
            problems.append(problem(name, "unequal length", f"{common} samples as its other stems", found))
    return problems


def _format_problems(track: Track, file: str, sample_rate: int, channels: int) -> Iterator[Problem]:
    problem, rate = partial(Problem, track.name, file), f"{SAMPLE_RATE} Hz"
    if channels != 2:
        yield problem("channels", "2 channels", f"{channels}")
    if sample_rate != SAMPLE_RATE:
        yield problem("sample rate", rate, f"{sample_rate} Hz", f"resample all stems of the song to {rate}")


def check_audio(track: Track, audio: dict[str, np.ndarray], sample_rate: int) -> list[Problem]:
    """What only the samples show: not finite, silent, mixture unlike the sum of stems; of AAC also the format."""
    problem, name, wav = partial(Problem, track.name), track.path.name, track.layout == "wav"
    problems = [] if wav else list(_format_problems(track, name, sample_rate, len(audio["mixture"])))
    for source, samples in audio.items():
        file = f"{source}.wav" if wav else f"{name}, {source}"
        if bad := int(np.count_nonzero(~np.isfinite(samples))):
            problems.append(problem(file, "not finite", "finite samples", f"{bad} NaN or infinite"))
        elif not samples.any():
            fix = "its scores will be undefined; nothing to do if the song is like that"
            problems.append(problem(file, "silent", "sound", "only zeros", fix, blocking=False))
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


def check_track(track: Track) -> tuple[float, list[Problem]]:
    """(duration in seconds, problems) of one song, audio included; long WAV songs on excerpts."""
    problems, spans = check_headers(track), [(0, None)]
    if any(problem.blocking for problem in problems):
        return 0.0, problems
    duration_s = sf.info(track.files[0]).duration if track.layout == "wav" else 0.0
    if duration_s > WHOLE_BELOW_S:
        starts = np.linspace(0, (duration_s - EXCERPT_S) * SAMPLE_RATE, EXCERPTS).astype(int)
        spans = [(start, start + int(EXCERPT_S * SAMPLE_RATE)) for start in starts]
    try:
        parts = [read_song(track, *span) for span in spans]
    except SepkitError as error:
        return 0.0, [*problems, Problem(track.name, track.path.name, "unreadable", "audio", str(error))]
    audio, sample_rate = parts[0]
    if len(parts) > 1:
        audio = {source: np.concatenate([part[source] for part, _ in parts], axis=1) for source in audio}
    duration_s = duration_s or audio["mixture"].shape[1] / sample_rate
    return duration_s, problems + check_audio(track, audio, sample_rate)


def check_folder(folder: SongFolder, n_jobs: int = -1) -> tuple[float, float, list[Problem]]:
    """(hours, median duration in seconds, problems) of all songs and of the folder as a whole."""
    if folder.layout == "stem.mp4" and missing_decoders():
        return 0.0, 0.0, list(check_counts(folder))
    results = spread((delayed(check_track)(track) for track in folder.tracks), n_jobs=n_jobs)
    durations, problems = zip(*results, strict=True)
    median_s = float(np.median([duration_s for duration_s in durations if duration_s] or [0.0]))
    return sum(durations) / 3600, median_s, [*check_counts(folder, median_s), *chain.from_iterable(problems)]


def check_counts(folder: SongFolder, median_s: float = np.inf, splits: Collection[str] = SPLITS) -> Iterator[Problem]:
    """Problems of the folder as a whole; notes where songs with MUSDB's validation names are not all of it, or short."""
    problem = partial(Problem, "", str(folder.path))
    note = partial(problem, blocking=False)
    if folder.layout == "stem.mp4" and (missing := missing_decoders()):
        yield problem("no ffmpeg", f"{' and '.join(missing)} on the PATH to read .stem.mp4 songs", "none", GET_FFMPEG)
    yield from unknown_names(folder)
    for split in splits:
        if folder.counts[split] == 0:
            fix = "name songs of train/ in validation.txt beside it" if split == "valid" else f"check {folder.path}"
            yield problem(f"no {split} songs", "at least 1", "0", fix, blocking=split != "test")
    for name, count in Counter(track.name for track in folder.tracks).items():
        if count > 1:
            yield Problem(name, str(folder.path), "song in train and test", "one place", "two", "delete one")
    if folder.own_validation:
        return
    preview = median_s < SHORT_S and folder.layout == "stem.mp4"
    known, train = TRAIN_SONGS["preview" if preview else folder.layout]
    if (total := len(folder.tracks) + len(folder.excluded)) != train + 50:  # each has 50 test songs
        fix = "results on other songs are not comparable with MUSDB18's; complete the set if you meant it"
        yield note("song count", f"{train + 50} songs ({known} has {train} + 50)", f"{total}", fix)
    if median_s < SHORT_S:
        fix = "fine for the preview profile; use MUSDB18-HQ for results that you report"
        found = f"clips of {median_s:.1f} s" + (f" ({known})" if preview else "")
        yield note("short clips", "whole songs", found, fix)


def unknown_names(folder: SongFolder) -> Iterator[Problem]:
    """Notes on lines of exclude.txt and validation.txt that name no song, with the name that is closest."""
    songs = {track.name.casefold(): track for track in (*folder.tracks, *folder.excluded)}
    for file, line in folder.unknown:
        wanted, fix = "a song of train/" if file == "validation.txt" else "a song of this folder", f"correct {file}"
        if match := difflib.get_close_matches(line.casefold(), songs, 1):
            song = songs[match[0]]
            fix += f" (the closest song is {song.name!r} in {song.path.parent.name}/)"
        yield Problem("", file, "unknown name", wanted, repr(line), fix, blocking=False)


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
