"""A song: which files are summed to each of its sources.  `layouts` makes Tracks; all else knows only these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "valid", "test")
MUSDB = ("wav", "stem.mp4")  # the layouts of MUSDB18-HQ and MUSDB18; of these songs every difference is a fault
EXCLUDE = "repair it, or exclude the song (one name a line in exclude.txt under the root)"


def artist_of(song: str) -> str:
    """The name before " - "."""
    return song.split(" - ")[0]


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


class Part(NamedTuple):
    """One audio stream of a file; only .stem.mp4 files have several."""

    path: Path
    stream: int = 0


@dataclass(frozen=True)
class Track:
    """One song; `path` is its folder or its .stem.mp4 file.

    sources: vocals and accompaniment, or vocals, drums, bass and other: the parts that are summed to each, none for
    silence; mixture: None where it is the sum of the sources; problems: what the layout's reader could not understand.
    """

    name: str
    split: str
    path: Path
    layout: str
    sources: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    mixture: Part | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        return {"split": self.split, "artist": artist_of(self.name)}

    @property
    def labels(self) -> dict[Path, str]:
        """{file: which source it is, "" where its name says so}, the mixture's first."""
        parts = [("mixture", self.mixture)] if self.mixture else []
        parts += [(source, part) for source, of in self.sources.items() for part in of]
        found = dict[Path, str]()
        for source, part in parts:
            known = part.path == self.path or part.path.name == f"{source}.wav"
            found.setdefault(part.path, "" if known else f"{source}:")
        return found

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.labels)

    def shown(self, path: Path) -> str:
        """A file's place inside the song."""
        return path.name if path == self.path else path.relative_to(self.path).as_posix()

    def told(self, source: str) -> str:
        """The files of a source, or of the mixture."""
        parts = (self.mixture,) if source == "mixture" and self.mixture else self.sources.get(source, ())
        names = [f"{self.path.name}, {source}" if part.path == self.path else self.shown(part.path) for part in parts]
        return " + ".join(names) or ("the sum" if source == "mixture" else "silence" if source in self.sources else "")


@dataclass(frozen=True)
class SongFolder:
    """A folder of songs in one layout: those of exclude.txt are `excluded`."""

    path: Path
    layout: str
    tracks: tuple[Track, ...]
    excluded: tuple[Track, ...] = ()
    split_by: Mapping[str, str] = field(default_factory=dict)  # how test and valid songs were chosen
    unknown: tuple[tuple[str, str], ...] = ()  # (a list of names or stems.yaml, a line there that names nothing)
    origin: str = ""  # which folder it is and how it was read, for tables; "" for songs that sepkit made or fetched

    def split(self, name: str) -> list[Track]:
        return [track for track in self.tracks if track.split == name]

    @property
    def places(self) -> dict[str, str]:
        """{song: the name of the folder that holds it}, those of exclude.txt too."""
        return {track.name: track.path.parent.name for track in (*self.tracks, *self.excluded)}

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(self.split(name)) for name in SPLITS}
