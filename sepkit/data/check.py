"""Is this folder of songs fit for work?

Headers are looked at first, and cost nothing; then the audio itself, which finds what headers
can't tell.  A finding is a `Problem` that names song and file, says what was expected, what was
found and what to do; a blocking one stops training and evaluation, and the song is then repaired
or put on the exclusion list.  Songs are refused, never trimmed or padded.
"""

import difflib
import re
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.songs import GET_FFMPEG, SongFolder, Track, accompaniment, missing_decoders, read_song
from sepkit.errors import SepkitError
from sepkit.parallel import spread

SAMPLE_RATE = 44100
CHANNELS = 2
# Energy of mixture − Σ stems beside that of the mixture, dB.  16-bit rounding leaves −80 dB and
# AAC coding −28 dB (worst −21 dB in the preview).
MAX_RESIDUAL_DB = {"wav": -30.0, "stem.mp4": -15.0}
# A long song is checked on excerpts: the check of 32 GB of songs must not take as long as a run.
EXCERPTS, EXCERPT_S, WHOLE_BELOW_S = 6, 5.0, 60.0
EXPECTED_SONGS = {
    "wav": (150, "MUSDB18-HQ has 100 + 50"),
    "stem.mp4": (150, "MUSDB18 has 100 + 50"),
}
PREVIEW_SONGS = (144, "the 7-second preview has 94 + 50")
SHORT_S = 10.0


@dataclass(frozen=True)
class Problem:
    track: str
    file: str
    kind: str
    expected: str
    found: str
    fix: str
    blocking: bool

    def __str__(self) -> str:
        where = f"{self.track}: {self.file}" if self.track else self.file
        return f"{where}: {self.kind}: expected {self.expected}, found {self.found}; {self.fix}."

    def to_dict(self) -> dict:
        return asdict(self)


EXCLUDE = "repair it, or exclude the song (one name a line in exclude.txt under the root)"


def check_headers(track: Track) -> list[Problem]:
    """What file names and WAV headers tell: missing, misnamed, truncated, mono, other-rate, unequal."""
    if track.layout == "stem.mp4":
        size = track.path.stat().st_size
        return [] if size else [_problem(track, track.path.name, "empty file", "audio", "0 bytes")]
    problems, frames = [], {}
    present = {file.name for file in track.path.iterdir()}
    for file in track.files:
        if file.name not in present:
            close = difflib.get_close_matches(file.name, {p.lower(): p for p in present}, 1, 0.75)
            original = next((p for p in present if close and p.lower() == close[0]), None)
            found = f"no such file (but {original})" if original else "no such file"
            fix = f"rename {original} to {file.name}" if original else EXCLUDE
            problems.append(_problem(track, file.name, "missing stem", file.name, found, fix))
            continue
        try:
            info = sf.info(file, verbose=True)
        except (sf.LibsndfileError, RuntimeError):
            size = file.stat().st_size
            problems.append(
                _problem(track, file.name, "unreadable", "a WAV file", f"{size} bytes that are not audio")
            )
            continue
        frames[file.name] = info.frames
        if info.frames == 0:
            problems.append(_problem(track, file.name, "empty file", "audio", "0 samples"))
        elif re.search(r"^data : \d+ \(should be", info.extra_info, re.MULTILINE):  # libsndfile's words
            problems.append(
                _problem(
                    track,
                    file.name,
                    "truncated",
                    "as many samples as the header says",
                    f"{info.frames}",
                )
            )
        if info.channels != CHANNELS:
            problems.append(_problem(track, file.name, "channels", "2 channels", f"{info.channels}"))
        if info.samplerate != SAMPLE_RATE:
            fix = "resample all stems of the song to 44100 Hz"
            problems.append(
                _problem(track, file.name, "sample rate", "44100 Hz", f"{info.samplerate} Hz", fix)
            )
    if frames:
        common = Counter(frames.values()).most_common(1)[0][0]
        for name, count in frames.items():
            if count != common:
                found = f"{count} ({count - common:+d})"
                problems.append(
                    _problem(track, name, "unequal length", f"{common} samples as its other stems", found)
                )
    return problems


def check_audio(track: Track, audio: dict[str, np.ndarray], sample_rate: int) -> list[Problem]:
    """What only the samples tell: not finite, silent, rate, channels, mixture against the sum of stems."""
    problems = []
    if track.layout == "stem.mp4":
        if sample_rate != SAMPLE_RATE:
            problems.append(_problem(track, track.path.name, "sample rate", "44100 Hz", f"{sample_rate} Hz"))
        if audio["mixture"].shape[0] != CHANNELS:
            problems.append(
                _problem(track, track.path.name, "channels", "2 channels", f"{audio['mixture'].shape[0]}")
            )
    names = {file.stem: file.name for file in track.files} if track.layout == "wav" else {}
    for source, samples in audio.items():
        file = names.get(source, f"{track.path.name}, {source}")
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        if bad:
            problems.append(_problem(track, file, "not finite", "finite samples", f"{bad} NaN or infinite"))
        elif not samples.any():
            fix = "its scores will be undefined; nothing to do if the song is like that"
            problems.append(_problem(track, file, "silent", "sound", "only zeros", fix, blocking=False))
    if not any(problem.blocking for problem in problems):
        residual = residual_db(audio)
        limit = MAX_RESIDUAL_DB[track.layout]
        if residual > limit:
            fix = "listen to it; exclude the song if its stems do not belong to its mixture"
            found = f"{residual:.1f} dB"
            where = "mixture.wav" if track.layout == "wav" else track.path.name
            expected = f"mixture − sum of stems below {limit:.0f} dB of the mixture"
            problems.append(_problem(track, where, "residual", expected, found, fix, blocking=False))
    return problems


def residual_db(audio: dict[str, np.ndarray]) -> float:
    """10·log10(Σ(mixture − Σ stems)² / Σ mixture²), dB; −inf where the mixture is the exact sum."""
    mixture = audio["mixture"].astype(np.float64)
    residual = mixture - audio["vocals"] - accompaniment(audio)
    ratio = np.sum(residual**2) / max(float(np.sum(mixture**2)), 1e-30)
    return float(10 * np.log10(ratio)) if ratio > 0 else -np.inf


def check_track(track: Track) -> tuple[float, list[Problem]]:
    """(duration in seconds, problems) of one song, its audio included; long songs on excerpts."""
    problems = check_headers(track)
    if any(problem.blocking for problem in problems):
        return 0.0, problems
    try:
        if track.layout == "wav":
            info = sf.info(track.files[0])
            duration_s = info.frames / info.samplerate
            if duration_s > WHOLE_BELOW_S:
                starts = np.linspace(0, info.frames - EXCERPT_S * info.samplerate, EXCERPTS).astype(int)
                stop = int(EXCERPT_S * info.samplerate)
                parts = [read_song(track, start, start + stop)[0] for start in starts]
                audio = {
                    source: np.concatenate([part[source] for part in parts], axis=1) for source in parts[0]
                }
                return duration_s, problems + check_audio(track, audio, info.samplerate)
        audio, sample_rate = read_song(track)
    except SepkitError as error:
        return 0.0, [*problems, _problem(track, track.path.name, "unreadable", "audio", str(error))]
    return audio["mixture"].shape[1] / sample_rate, problems + check_audio(track, audio, sample_rate)


def check_folder(folder: SongFolder, n_jobs: int = -1) -> tuple[float, float, list[Problem]]:
    """(hours, median duration in seconds, problems) of all songs and of the folder as a whole."""
    if folder.layout == "stem.mp4" and missing_decoders():
        return 0.0, 0.0, check_counts(folder)
    results = list(spread((delayed(check_track)(track) for track in folder.tracks), n_jobs=n_jobs))
    durations = [duration for duration, _ in results]
    median_s = float(np.median([duration for duration in durations if duration] or [0.0]))
    problems = check_counts(folder, median_s)
    for _, found in results:
        problems.extend(found)
    return sum(durations) / 3600, median_s, problems


def check_counts(folder: SongFolder, median_s: float | None = None) -> list[Problem]:
    """Problems of the folder as a whole: counts, doubled names, validation songs, short clips."""
    counts, problems = folder.counts, []
    if folder.layout == "stem.mp4" and (missing := missing_decoders()):
        tools = f"{' and '.join(missing)} on the PATH to read .stem.mp4 songs"
        problems.append(_whole(folder, "no ffmpeg", tools, "none", GET_FFMPEG, blocking=True))
    for name in folder.unknown:
        fix = "correct exclude.txt under the root, or validation.txt"
        problems.append(_whole(folder, "unknown name", "a song of this folder", repr(name), fix))
    for split in ("train", "valid", "test"):
        if counts[split] == 0:
            fix = (
                "name some songs of train/ in validation.txt beside it"
                if split == "valid"
                else f"check {folder.path}"
            )
            problems.append(
                _whole(folder, f"no {split} songs", "at least 1", "0", fix, blocking=split != "test")
            )
    twice = [name for name, count in Counter(track.name for track in folder.tracks).items() if count > 1]
    for name in twice:
        problems.append(
            Problem(
                name,
                str(folder.path),
                "song in train and test",
                "one place",
                "two",
                "delete one",
                True,
            )
        )
    if not folder.own_validation:
        preview = folder.layout == "stem.mp4" and median_s is not None and median_s < SHORT_S
        expected, why = PREVIEW_SONGS if preview else EXPECTED_SONGS[folder.layout]
        total = sum(counts.values()) + len(folder.excluded)
        if total != expected:
            fix = "results on other songs are not comparable with MUSDB18's; complete the set if you meant it"
            problems.append(_whole(folder, "song count", f"{expected} songs ({why})", f"{total}", fix))
        if median_s is not None and median_s < SHORT_S:
            fix = "fine for the preview profile; use MUSDB18-HQ for results that you report"
            found = f"clips of {median_s:.1f} s" + (" (the 7-second preview)" if preview else "")
            problems.append(_whole(folder, "short clips", "whole songs", found, fix))
    return problems


def require(problems: list[Problem], doing: str) -> None:
    """Raises SepkitError naming the first blocking problems and how many there are; else nothing."""
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        more = (
            f" … and {len(blocking) - 3} more (python -m sepkit doctor lists them)"
            if len(blocking) > 3
            else ""
        )
        lines = " | ".join(str(problem) for problem in blocking[:3])
        raise SepkitError(f"{doing} can't start: {len(blocking)} problem(s) with the songs: {lines}{more}")


def require_headers(folder: SongFolder, doing: str) -> None:
    """The cheap part of the check, before any work: headers of all songs, counts of the splits."""
    require(
        [*check_counts(folder), *(p for track in folder.tracks for p in check_headers(track))],
        doing,
    )


def _problem(
    track: Track,
    file: str,
    kind: str,
    expected: str,
    found: str,
    fix: str = EXCLUDE,
    blocking: bool = True,
):
    return Problem(track.name, file, kind, expected, found, fix, blocking)


def _whole(
    folder: SongFolder, kind: str, expected: str, found: str, fix: str, blocking: bool = False
) -> Problem:
    return Problem("", str(folder.path), kind, expected, found, fix, blocking)
