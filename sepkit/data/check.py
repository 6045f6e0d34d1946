"""Is this folder of songs fit for work?

Headers are checked first, which costs nothing, then the audio.  A finding is a `Problem`: song and
file, what was expected, what was found, what to do.  A blocking one stops training and evaluation
until the song is repaired or excluded; songs are never trimmed or padded.
"""

import difflib
import re
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.songs import (
    GET_FFMPEG,
    SPLITS,
    SongFolder,
    Track,
    accompaniment,
    duration_s,
    missing_decoders,
    read_song,
)
from sepkit.errors import SepkitError
from sepkit.parallel import spread
from sepkit.profiles import SAMPLE_RATE

CHANNELS = 2
# Energy of mixture − Σ stems beside that of the mixture, dB.  16-bit rounding leaves −80 dB and
# AAC coding −28 dB (worst −21 dB in the preview).
MAX_RESIDUAL_DB = {"wav": -30.0, "stem.mp4": -15.0}
# A long song is checked on excerpts: the check of 32 GB of songs must not take as long as a run.
EXCERPTS, EXCERPT_S, WHOLE_BELOW_S = 6, 5.0, 60.0
EXPECTED_SONGS = {
    "wav": (150, "MUSDB18-HQ has 100 + 50"),
    "stem.mp4": (150, "MUSDB18 has 100 + 50"),
    "preview": (144, "the 7-second preview has 94 + 50"),
}
SHORT_S = 10.0
EXCLUDE = "repair it, or exclude the song (one name a line in exclude.txt under the root)"
CUT_SHORT = re.compile(r"^data : \d+ \(should be", re.MULTILINE)  # libsndfile's words


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

    def to_dict(self) -> dict:
        return asdict(self)


def check_headers(track: Track) -> list[Problem]:
    """What file names and WAV headers show: missing, misnamed, truncated, mono, other-rate, unequal."""
    problem = partial(Problem, track.name)
    if track.layout == "stem.mp4":
        empty = track.path.stat().st_size == 0
        return [problem(track.path.name, "empty file", "audio", "0 bytes")] if empty else []
    problems: list[Problem] = []
    lengths: dict[str, int] = {}
    present = {file.name for file in track.path.iterdir()}
    for file in track.files:
        if file.name not in present:
            problems.append(_missing(track, file.name, present))
            continue
        try:
            info = sf.info(file, verbose=True)
        except (sf.LibsndfileError, RuntimeError):
            found = f"{file.stat().st_size} bytes that are not audio"
            problems.append(problem(file.name, "unreadable", "a WAV file", found))
            continue
        n_samples = lengths[file.name] = info.frames
        if n_samples == 0:
            problems.append(problem(file.name, "empty file", "audio", "0 samples"))
        elif CUT_SHORT.search(info.extra_info):
            expected = "as many samples as the header says"
            problems.append(problem(file.name, "truncated", expected, f"{n_samples}"))
        problems += _format_problems(track, file.name, info.samplerate, info.channels)
    common = Counter(lengths.values()).most_common(1)[0][0] if lengths else 0
    for name, n_samples in lengths.items():
        if n_samples != common:
            found = f"{n_samples} ({n_samples - common:+d})"
            problems.append(problem(name, "unequal length", f"{common} samples as its other stems", found))
    return problems


def _missing(track: Track, name: str, present: set[str]) -> Problem:
    lower = {other.lower(): other for other in present}
    close = [lower[match] for match in difflib.get_close_matches(name, lower, 1, 0.75)]
    found = f"no such file (but {close[0]})" if close else "no such file"
    fix = f"rename {close[0]} to {name}" if close else EXCLUDE
    return Problem(track.name, name, "missing stem", name, found, fix)


def _format_problems(track: Track, file: str, sample_rate: int, channels: int) -> list[Problem]:
    problem, problems, rate = partial(Problem, track.name, file), [], f"{SAMPLE_RATE} Hz"
    if channels != CHANNELS:
        problems.append(problem("channels", f"{CHANNELS} channels", f"{channels}"))
    if sample_rate != SAMPLE_RATE:
        fix = f"resample all stems of the song to {rate}"
        problems.append(problem("sample rate", rate, f"{sample_rate} Hz", fix))
    return problems


def check_audio(track: Track, audio: dict[str, np.ndarray], sample_rate: int) -> list[Problem]:
    """What only the samples show: not finite, silent, mixture unlike the sum of stems; of AAC also the format."""
    problem, name, problems = partial(Problem, track.name), track.path.name, []
    wav = track.layout == "wav"
    if not wav:
        problems += _format_problems(track, name, sample_rate, audio["mixture"].shape[0])
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
    problems = check_headers(track)
    if any(problem.blocking for problem in problems):
        return 0.0, problems
    try:
        if track.layout == "wav" and (long_s := duration_s(track)) > WHOLE_BELOW_S:
            starts = np.linspace(0, (long_s - EXCERPT_S) * SAMPLE_RATE, EXCERPTS).astype(int)
            stop = int(EXCERPT_S * SAMPLE_RATE)
            parts = [read_song(track, start, start + stop)[0] for start in starts]
            audio = {source: np.concatenate([part[source] for part in parts], axis=1) for source in parts[0]}
            return long_s, problems + check_audio(track, audio, SAMPLE_RATE)
        audio, sample_rate = read_song(track)
    except SepkitError as error:
        return 0.0, [*problems, Problem(track.name, track.path.name, "unreadable", "audio", str(error))]
    return audio["mixture"].shape[1] / sample_rate, problems + check_audio(track, audio, sample_rate)


def check_folder(folder: SongFolder, n_jobs: int = -1) -> tuple[float, float, list[Problem]]:
    """(hours, median duration in seconds, problems) of all songs and of the folder as a whole."""
    if folder.layout == "stem.mp4" and missing_decoders():
        return 0.0, 0.0, check_counts(folder)
    results = list(spread((delayed(check_track)(track) for track in folder.tracks), n_jobs=n_jobs))
    durations = [duration for duration, _ in results]
    median_s = float(np.median([duration for duration in durations if duration] or [0.0]))
    problems = [problem for _, found in results for problem in found]
    return sum(durations) / 3600, median_s, [*check_counts(folder, median_s), *problems]


def check_counts(folder: SongFolder, median_s: float | None = None) -> list[Problem]:
    """Problems of the folder as a whole: counts, doubled names, validation songs, short clips."""
    problem, problems = partial(Problem, "", str(folder.path)), []
    if folder.layout == "stem.mp4" and (missing := missing_decoders()):
        tools = f"{' and '.join(missing)} on the PATH to read .stem.mp4 songs"
        problems.append(problem("no ffmpeg", tools, "none", GET_FFMPEG))
    for name in folder.unknown:
        fix = "correct exclude.txt under the root, or validation.txt"
        problems.append(problem("unknown name", "a song of this folder", repr(name), fix, blocking=False))
    named = "name some songs of train/ in validation.txt beside it"
    for split in SPLITS:
        if folder.counts[split] == 0:
            fix = named if split == "valid" else f"check {folder.path}"
            problems.append(problem(f"no {split} songs", "at least 1", "0", fix, blocking=split != "test"))
    for name, count in Counter(track.name for track in folder.tracks).items():
        if count > 1:
            where = (name, str(folder.path), "song in train and test")
            problems.append(Problem(*where, "one place", "two", "delete one"))
    if not folder.own_validation:
        problems += _unlike_musdb(folder, median_s)
    return problems


def _unlike_musdb(folder: SongFolder, median_s: float | None) -> list[Problem]:
    """Notes on a set that bears MUSDB's validation names, but not its number of songs or their length."""
    problem, problems = partial(Problem, "", str(folder.path), blocking=False), []
    short = median_s is not None and median_s < SHORT_S
    preview = short and folder.layout == "stem.mp4"
    expected, why = EXPECTED_SONGS["preview" if preview else folder.layout]
    total = len(folder.tracks) + len(folder.excluded)
    if total != expected:
        fix = "results on other songs are not comparable with MUSDB18's; complete the set if you meant it"
        problems.append(problem("song count", f"{expected} songs ({why})", f"{total}", fix))
    if short:
        fix = "fine for the preview profile; use MUSDB18-HQ for results that you report"
        found = f"clips of {median_s:.1f} s" + (" (the 7-second preview)" if preview else "")
        problems.append(problem("short clips", "whole songs", found, fix))
    return problems


def require(problems: list[Problem], doing: str) -> None:
    """Raises SepkitError with the first three blocking problems and how many there are."""
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        more = f" … and {len(blocking) - 3} more (python -m sepkit doctor lists them)"
        shown = " | ".join(map(str, blocking[:3])) + (more if len(blocking) > 3 else "")
        raise SepkitError(f"{doing} can't start: {len(blocking)} problem(s) with the songs: {shown}")


def require_headers(folder: SongFolder, doing: str) -> None:
    """The cheap part of the check, before any work: headers of all songs, counts of the splits."""
    require([*check_counts(folder), *(p for track in folder.tracks for p in check_headers(track))], doing)
