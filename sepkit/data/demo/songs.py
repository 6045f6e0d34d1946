"""Demo songs on disk: procedurally made music in MUSDB18-HQ's layout, for runs without a download.

44.1 kHz stereo 16-bit WAV, each mixture exactly the sum of its stems; `validation.txt`; `demo.json` with the settings.
A song depends on the seed, its split, its index and the range of durations alone.  Validation songs share their artists
with training songs, as in MUSDB; test artists are new.
A song is made in `.partial` and moved into place; `demo.json` comes last.  After a kill the same call makes what is
missing.  One process at a time makes a folder.
"""

import json
import shutil
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import soundfile as sf
from joblib import delayed

from sepkit.data.demo.song import make_stems
from sepkit.errors import SepkitError, UsageError
from sepkit.parallel import spread
from sepkit.profiles import SAMPLE_RATE, STEMS
from sepkit.storage import write_json, write_text

PEAK = 10 ** (-1 / 20)  # of full scale: -1 dBFS
SHORTEST_S = 3.0  # a shorter song may leave no beat to sing on
VERSION = 2  # of the sound; raise it when a change alters what a seed gives

# The first 24 artists train, the others are tested: a network hears many voices, and is tested on others.
ARTISTS = (
    "Amber Kiln", "The Paper Tides", "Juno Marsh", "Slow Cartography", "Ferrous Choir", "Nadia Oak", "Low Lantern",
    "Ninth Harbour", "The Quiet Ohms", "Vela & Roe", "Birch Parallel", "Cassia Flint", "The Understudies", "Mono Orchard",
    "Elder Static", "Pilar Snow", "Glass Ferry", "The Late Ledgers", "Tobias Reed", "Salt Meridian", "Ivy Transit",
    "Plain Comet", "The Soft Engines", "Odd Almanac",
    "Copper Estuary", "Ilse Winter", "Night Bakery", "The Long Divisors", "Otto's Garden", "Saffron Engine",
    "Tin Meridian", "Wren Hollow", "Fallow Street", "Greta Vale", "The Ninth Floor", "Umber Radio",
)  # fmt: skip
TRAINING_ARTISTS = 24
# Lists of 7 and 12, read in step: 84 different titles a split.
ADJECTIVES = {
    "train": ("Bright", "Broken", "Distant", "First", "Golden", "Hollow", "Last"),
    "valid": ("Little", "Lonely", "Open", "Patient", "Quiet", "Red", "Restless"),
    "test": ("Second", "Silver", "Sleeping", "Slow", "Turning", "Western", "Wild"),
}
NOUNS = (
    "Harbour", "Signal", "Winter", "Machine", "Letters", "River", "Window", "Parade", "Island", "Echo", "Season", "Avenue",
)  # fmt: skip


@dataclass(frozen=True)
class DemoSong:
    """Song `index` of a split; `artist` is a number in ARTISTS."""

    split: str
    index: int

    @property
    def artist(self) -> int:
        if self.split == "test":
            return TRAINING_ARTISTS + self.index % (len(ARTISTS) - TRAINING_ARTISTS)
        # five steps an index: few validation songs do not all go to the first artists
        return (5 * self.index + 1 if self.split == "valid" else self.index) % TRAINING_ARTISTS

    @property
    def name(self) -> str:
        adjective, noun, lap = ADJECTIVES[self.split][self.index % 7], NOUNS[self.index % 12], self.index // 84
        return f"{ARTISTS[self.artist]} - {adjective} {noun}" + (f" {lap + 1}" if lap else "")

    @property
    def folder(self) -> Path:
        return Path("test" if self.split == "test" else "train") / self.name

    def generators(self, seed: int) -> tuple[np.random.Generator, np.random.Generator]:  # of the song, of its artist
        split = list(ADJECTIVES).index(self.split)
        return np.random.default_rng([seed, split, self.index]), np.random.default_rng([seed, 3, self.artist])


def make_demo_songs(
    folder: Path | str,
    *,
    seed: int = 0,
    train: int = 24,
    valid: int = 6,
    test: int = 20,
    duration_s: tuple[float, float] = (8.0, 10.0),
    n_jobs: int = -1,
) -> Path:
    """Makes the songs in `folder`; UsageError for a setting out of range, SepkitError where it holds something else."""
    folder, (low, high) = Path(folder).expanduser(), map(float, duration_s)
    if not SHORTEST_S <= low <= high < inf:
        expected = f"(shortest, longest) in seconds with {SHORTEST_S} <= shortest <= longest"
        raise UsageError(f"duration_s: expected {expected}, got {duration_s}.")
    counts = {"train": train, "valid": valid, "test": test}
    for name, value in {"seed": seed, **counts}.items():
        if type(value) is not int or value < 0:
            raise UsageError(f"{name}: expected a whole number of at least 0, got {value!r}.")
    settings = {"maker": "sepkit demo", "version": VERSION, "seed": seed, **counts, "duration_s": [low, high]}
    songs = [DemoSong(split, index) for split, n in counts.items() for index in range(n)]
    partial, complete, files = folder / ".partial", _is_complete(folder, settings), ("mixture", *STEMS)
    missing = [song for song in songs if not all((folder / song.folder / f"{file}.wav").is_file() for file in files)]
    if missing or not complete:
        shutil.rmtree(partial / "songs", ignore_errors=True)
        write_json(partial / "demo.json", settings)
        list(spread((delayed(_make_song)(folder, song, seed, low, high) for song in missing), n_jobs=n_jobs))
        write_text(folder / "validation.txt", "".join(f"{song.name}\n" for song in songs if song.split == "valid"))
        (partial / "demo.json").replace(folder / "demo.json")  # what claimed the folder marks it complete
    shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_complete(folder: Path, settings: dict) -> bool:
    """Whether the songs of these settings were finished here; SepkitError where the folder holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise SepkitError(f"Expected a folder for the demo songs, but {folder} is a file.")
    marks = [mark for mark in (folder / "demo.json", folder / ".partial" / "demo.json") if mark.exists()]
    for mark in marks:
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:
            found = "something unreadable"
        if found != settings:
            other = f"{mark} says {found}: give another folder, or delete {folder}"
            raise SepkitError(f"Expected demo songs made with {settings}, but {other}.")
    names = sorted(entry.name for entry in folder.glob("[!.]*"))
    if names and not marks:
        held = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
        other = f"{folder} holds {held} and no demo.json: give another folder"
        raise SepkitError(f"Expected a new or empty folder for the demo songs, but {other}.")
    return folder / "demo.json" in marks and (folder / "validation.txt").exists()


def _make_song(folder: Path, song: DemoSong, seed: int, low: float, high: float) -> None:
    song_rng, artist_rng = song.generators(seed)
    stems = make_stems(song_rng, artist_rng, song_rng.uniform(low, high))
    aside, final = folder / ".partial" / "songs" / song.folder, folder / song.folder
    aside.mkdir(parents=True)
    for source, samples in quantise(stems).items():
        sf.write(aside / f"{source}.wav", samples.T, SAMPLE_RATE, subtype="PCM_16")
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(final, ignore_errors=True)  # a song from which somebody took a file
    aside.replace(final)


def quantise(stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stems (channel, time) as int16, and "mixture", exactly their sum: the loudest of them peaks at -1 dBFS."""
    mixture = np.sum(list(stems.values()), axis=0)
    peak = max(np.abs(samples).max() for samples in (mixture, *stems.values()))
    scale = PEAK * 32767 / peak if peak > 0 else 0.0
    whole = {name: np.rint(scale * samples).astype(np.int16) for name, samples in stems.items()}
    return {"mixture": np.stack(list(whole.values())).sum(axis=0, dtype=np.int16), **whole}
