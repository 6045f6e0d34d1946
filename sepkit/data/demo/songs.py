"""Demo songs on disk: procedurally made music in MUSDB18-HQ's layout, for runs without a download.

`<folder>/{train,test}/<Artist - Title>/{mixture,vocals,drums,bass,other}.wav`, 44.1 kHz stereo
16-bit PCM, `<folder>/validation.txt` with the songs of train/ that serve for validation, one a
line, and `<folder>/demo.json` with the settings. A mixture is the sum of its stems to the last
bit. A song depends on the seed, its split, its place in the split and the range of durations, and
on nothing else: not on the number of songs, nor of processes.

Validation songs share their artists with training songs, as in MUSDB; test artists are new. An
artist keeps its singer from song to song.

Nothing half-made is ever visible: a song's folder is made in `<folder>/.partial` and moved into
place, and demo.json, written last, says that all are there. After a kill the same call goes on
with what is missing. One process at a time makes a folder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from math import isfinite
from numbers import Integral
from pathlib import Path

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.demo.song import make_stems
from sepkit.data.demo.synth import SAMPLE_RATE
from sepkit.errors import SepkitError, UsageError
from sepkit.parallel import spread

SOURCES = ("vocals", "drums", "bass", "other")
PEAK = 10 ** (-1 / 20)  # of full scale: -1 dBFS
SHORTEST_S = 3.0  # a shorter song may leave no beat to sing on
VERSION = 1  # of the sound; raise it when a change alters what a seed gives

ARTISTS = (
    "Amber Kiln", "The Paper Tides", "Juno Marsh", "Slow Cartography", "Ferrous Choir",
    "Nadia Oak", "Low Lantern", "Ninth Harbour", "The Quiet Ohms", "Vela & Roe",
)  # fmt: skip
TEST_ARTISTS = (
    "Copper Estuary", "Ilse Winter", "Night Bakery", "The Long Divisors",
    "Otto's Garden", "Saffron Engine", "Tin Meridian", "Wren Hollow",
)  # fmt: skip
# Lists of sizes 7 and 12, read in step: 84 different titles a split.
TITLES = {
    "train": ("Bright", "Broken", "Distant", "First", "Golden", "Hollow", "Last"),
    "valid": ("Little", "Lonely", "Open", "Patient", "Quiet", "Red", "Restless"),
    "test": ("Second", "Silver", "Sleeping", "Slow", "Turning", "Western", "Wild"),
}
NOUNS = (
    "Harbour", "Signal", "Winter", "Machine", "Letters", "River",
    "Window", "Parade", "Island", "Echo", "Season", "Avenue",
)  # fmt: skip


@dataclass(frozen=True)
class DemoSong:
    """Song `index` of a split: its name, its folder, and the seeds of its music and its artist."""

    split: str
    index: int

    @property
    def _artist(self) -> tuple[int, str]:
        if self.split == "test":
            number = self.index % len(TEST_ARTISTS)
            return len(ARTISTS) + number, TEST_ARTISTS[number]
        # Three steps an index, so that few validation songs do not all go to the first artists.
        number = (3 * self.index + 1 if self.split == "valid" else self.index) % len(ARTISTS)
        return number, ARTISTS[number]

    @property
    def name(self) -> str:
        adjectives, lap = TITLES[self.split], self.index // (7 * len(NOUNS))
        title = f"{adjectives[self.index % 7]} {NOUNS[self.index % len(NOUNS)]}"
        return f"{self._artist[1]} - {title}" + (f" {lap + 1}" if lap else "")

    @property
    def folder(self) -> Path:
        """Relative to the folder of all songs."""
        return Path("test" if self.split == "test" else "train") / self.name

    def generators(self, seed: int) -> tuple[np.random.Generator, np.random.Generator]:
        """Fresh generators for the song and for its artist."""
        code = ("train", "valid", "test", "artist").index
        return (
            np.random.default_rng([seed, code(self.split), self.index]),
            np.random.default_rng([seed, code("artist"), self._artist[0]]),
        )


def make_demo_songs(
    folder: Path | str,
    *,
    seed: int = 0,
    train: int = 18,
    valid: int = 4,
    test: int = 12,
    duration_s: tuple[float, float] = (20.0, 30.0),
    n_jobs: int = -1,
) -> Path:
    """Make the demo songs in `folder`, or find them there.

    Args:
        folder: a new or empty folder, or one that an earlier call with the same settings made.
        seed: decides all the music.
        train, valid, test: songs in each split; those of `valid` lie in train/ too.
        duration_s: the shortest and the longest song, in seconds.
        n_jobs: processes, as joblib counts them (-1: all cores).
    Returns:
        `folder` as a Path.
    Raises:
        UsageError: a setting out of range.
        SepkitError: the folder holds something else, or demo songs with other settings.
    """
    folder = Path(folder).expanduser()
    low, high = map(float, duration_s)
    if not (isfinite(high) and SHORTEST_S <= low <= high):
        raise UsageError(
            f"duration_s: expected (shortest, longest) in seconds with "
            f"{SHORTEST_S} <= shortest <= longest, got {duration_s}."
        )
    counts = {"train": train, "valid": valid, "test": test}
    for name, value in {"seed": seed, **counts}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise UsageError(f"{name}: expected a whole number of at least 0, got {value!r}.")
    settings = {"maker": "sepkit demo", "version": VERSION, "seed": int(seed)}
    settings |= {split: int(n) for split, n in counts.items()} | {"duration_s": [low, high]}
    songs = [DemoSong(split, index) for split, n in counts.items() for index in range(n)]

    partial = folder / ".partial"
    finished = _check_folder(folder, settings)
    missing = [song for song in songs if not _is_complete(folder / song.folder)]
    if missing or not finished:
        shutil.rmtree(partial / "songs", ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        _write_text(partial / "demo.json", json.dumps(settings, indent=2) + "\n")
        calls = (delayed(_make_song)(folder, song, int(seed), (low, high)) for song in missing)
        for _ in spread(calls, n_jobs=n_jobs):
            pass
        names = [song.name for song in songs if song.split == "valid"]
        _write_text(folder / "validation.txt", "".join(f"{name}\n" for name in names))
        # What claimed the folder for these settings becomes the mark of completeness.
        (partial / "demo.json").replace(folder / "demo.json")
    if partial.exists():
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_folder(folder: Path, settings: dict) -> bool:
    """Does the folder hold these settings' finished songs? False: none, or those of a killed call.

    Raises SepkitError where it holds anything but demo songs of these settings.
    """
    partial = folder / ".partial"
    if folder.exists() and not folder.is_dir():
        raise SepkitError(f"Expected a folder for the demo songs, but {folder} is a file.")
    marks = [mark for mark in (folder / "demo.json", partial / "demo.json") if mark.exists()]
    for mark in marks:
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != settings:
            what = found if isinstance(found, dict) else "something unreadable"
            raise SepkitError(
                f"Expected demo songs made with {settings}, but {mark} says {what}: "
                f"give another folder, or delete {folder}."
            )
    visible = folder.exists() and sorted(
        entry.name for entry in folder.iterdir() if not entry.name.startswith(".")
    )
    if visible and not marks:
        raise SepkitError(
            f"Expected a new or empty folder for the demo songs, but {folder} holds "
            f"{', '.join(visible[:4])}{' …' if len(visible) > 4 else ''} and no demo.json: "
            f"give another folder."
        )
    return (folder / "demo.json") in marks and (folder / "validation.txt").exists()


def _is_complete(song: Path) -> bool:
    return all((song / f"{source}.wav").is_file() for source in ("mixture", *SOURCES))


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8", newline="\n")
    aside.replace(path)


def _make_song(folder: Path, song: DemoSong, seed: int, duration_s: tuple[float, float]) -> None:
    """Write one song beside its place, then move it there."""
    song_rng, artist_rng = song.generators(seed)
    stems = make_stems(song_rng, artist_rng, song_rng.uniform(*duration_s))
    aside = folder / ".partial" / "songs" / song.folder
    aside.mkdir(parents=True)
    for source, samples in quantise(stems).items():
        sf.write(aside / f"{source}.wav", samples.T, SAMPLE_RATE, subtype="PCM_16")
    final = folder / song.folder
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(final, ignore_errors=True)  # a song from which somebody took a file
    aside.replace(final)


def quantise(stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stems (channel, time) as int16, and "mixture", exactly their sum, peaking at -1 dBFS.

    The stems are scaled alike, so their balance stays; a stem that peaks above the mixture sets
    the scale instead.
    """
    mixture = np.sum(list(stems.values()), axis=0)
    peak = max(np.abs(samples).max() for samples in (mixture, *stems.values()))
    scale = PEAK * 32767 / peak if peak > 0 else 0.0
    whole = {name: np.rint(scale * samples).astype(np.int16) for name, samples in stems.items()}
    total = np.stack(list(whole.values())).sum(axis=0, dtype=np.int16)
    return {"mixture": total, **whole}
