"""What file names and headers tell about a song, before its audio is read."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile as sf

from sepkit.data.songs import Track, entries_of, on_disk
from sepkit.profiles import SAMPLE_RATE

EXCLUDE = "repair it, or exclude the song (one name a line in exclude.txt under the root)"
CUT_SHORT = re.compile(r"^data : (\d+) \(should be", re.MULTILINE)  # libsndfile's words
# A program that writes into a pipe can't know the length: it promises this many bytes or more, and all are there.
NO_LENGTH = 0x7F000000
SHORTEST_S = 0.1
OTHER_AUDIO = (".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".wv")
# Files that hold what drums, bass and other add up to.
REST = ("accompaniment", "instrumental", "no_vocals", "karaoke")


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
    """What file names and WAV headers show: missing, misnamed, truncated, too short, mono, other-rate, unequal."""
    problem, lengths = partial(Problem, track.name), {}
    if track.layout == "stem.mp4":
        return [] if track.path.stat().st_size else [problem(track.path.name, "empty file", "audio", "0 bytes")]
    try:
        present = {entry.name: entry for entry in entries_of(track.path)}
    except OSError as error:
        return [problem(track.path.name, "unreadable", "a folder", f"{error.strerror}", "mend its permissions")]
    if not any(is_audio(Path(name)) for name in present):
        found, fix = ", ".join(list(present)[:3]) or "nothing", "copy its files there, or delete the folder"
        return [problem(track.path.name, "no audio", "mixture.wav and four stems", found, fix)]
    problems = list(_two_stems(track, present))
    wanted = [file for file in track.files if not (problems and file.stem in ("drums", "bass", "other"))]
    for file in wanted:
        if fault := _no_file(track, file, present):
            problems.append(fault)
            continue
        try:
            info = sf.info(on_disk(file), verbose=True)
        except (sf.LibsndfileError, RuntimeError):
            found = f"{file.stat().st_size} bytes, not audio" if file.is_file() else "a folder"
            problems.append(problem(file.name, "unreadable", "a WAV file", found))
            continue
        lengths[file.name] = info.frames
        problems += _length_problems(track, file, info)
        problems += format_problems(track, file.name, info.samplerate, info.channels)
    common = Counter(lengths.values()).most_common(1)[0][0] if lengths else 0
    for name, n_samples in lengths.items():
        if n_samples != common:
            found = f"{n_samples} ({n_samples - common:+d})"
            problems.append(problem(name, "unequal length", f"{common} samples as its other stems", found))
    if 0 < common < SHORTEST_S * SAMPLE_RATE:
        problems.append(problem("mixture.wav", "too short", f"at least {SHORTEST_S} s", f"{common} sample(s)"))
    return problems


def is_audio(file: Path) -> bool:
    return file.suffix.casefold() in (".wav", ".wave", *OTHER_AUDIO)


def _two_stems(track: Track, present: dict[str, Path]) -> Iterator[Problem]:
    """A problem where drums, bass and other are one file."""
    stems = {Path(name).stem.casefold(): name for name in present if is_audio(Path(name))}
    rest = next((stems[name] for name in REST if name in stems), None)
    if rest and not {"drums", "bass", "other"} & stems.keys():
        fix = (
            f"rename {rest} to other.wav, and write drums.wav and bass.wav of the same length with zeros: they add up "
            "to the accompaniment, and experiments with vocals and accompaniment need no more"
        )
        yield Problem(track.name, rest, "two stems", "drums.wav, bass.wav and other.wav", f"{rest} in their place", fix)


def _no_file(track: Track, file: Path, present: dict[str, Path]) -> Problem | None:
    """The problem where `file` is absent, perhaps with what stands in its place; None where it is there."""
    if file.is_symlink() and not file.exists():
        found, fix = f"a link to {file.readlink()}, which is not there", f"copy {file.name} itself there"
        return Problem(track.name, file.name, "broken link", "a WAV file", found, fix)
    if file.name in present:
        return None
    others = {name.casefold(): name for name in present if present[name].is_file() and present[name] not in track.files}
    wavs = [name for name in others if name.endswith((".wav", ".wave"))]
    encoded = [others[name] for name in others if Path(name).stem == file.stem and name.endswith(OTHER_AUDIO)]
    but, fix = "", EXCLUDE
    if close := difflib.get_close_matches(file.name, wavs, 1, 0.75):
        but, fix = f" (but {others[close[0]]})", f"rename {others[close[0]]} to {file.name}"
    elif encoded:
        but, fix = f" (but {encoded[0]})", f"convert {encoded[0]} to {file.name}: songs are read as WAV files"
    return Problem(track.name, file.name, "missing stem", file.name, f"no such file{but}", fix)


def _length_problems(track: Track, file: Path, info: "sf._SoundFileInfo") -> Iterator[Problem]:
    problem, size = partial(Problem, track.name, file.name), file.stat().st_size
    cut = CUT_SHORT.search(info.extra_info)
    if info.frames == 0 and size > 1024:
        fix = "save the file again in an audio editor, or sox --ignore-length FILE NEW"
        yield problem("no length", "a length in the header", f"0 samples there, in a file of {size} bytes", fix)
    elif info.frames == 0:
        yield problem("empty file", "audio", "0 samples")
    elif cut and int(cut[1]) < NO_LENGTH:
        yield problem("truncated", "as many samples as the header says", f"{info.frames}")


def format_problems(track: Track, file: str, sample_rate: int, channels: int) -> Iterator[Problem]:
    problem, rate = partial(Problem, track.name, file), f"{SAMPLE_RATE} Hz"
    if channels != 2:
        yield problem("channels", "2 channels", f"{channels}")
    if sample_rate != SAMPLE_RATE:
        yield problem("sample rate", rate, f"{sample_rate} Hz", f"resample all stems of the song to {rate}")
