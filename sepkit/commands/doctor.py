"""`doctor`: are this machine and these songs fit for work?"""

import os
import shutil
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

from tabulate import tabulate

from sepkit.commands import DATA
from sepkit.data.cache import track_file
from sepkit.data.check import SHORT_S, check_folder, unknown_names
from sepkit.data.locate import songs_at_hand
from sepkit.data.manifest import GONE, Checks, read_manifests
from sepkit.data.packs import stored_manifests
from sepkit.data.songs import find_songs
from sepkit.data.tracks import MUSDB, SPLITS, Problem, SongFolder
from sepkit.devices import device_name, pick_device, precision
from sepkit.errors import SepkitError
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike, drive, named, spending, versions
from sepkit.storage.root import VERSIONED

NEEDED = ("torch", "lightning", "openunmix", "h5py", "soundfile")
PRECISIONS = {"16-mixed": "float16 mixed, STFT in float32", "bf16-mixed": "bfloat16 mixed, STFT in float32"}
NOT_CHECKED = "not checked (give --data, or use the demo profile, which makes its own)"
ARGUMENTS = {**DATA, "--json": {"action": "store_true", "help": "print the report as JSON"}}


def run(*, json: bool, **where: Any) -> int:
    report = doctor(**where)
    print(dumps(report.to_dict(), indent=1, allow_nan=False) if json else report)
    return 0 if report.ok else 1


@dataclass(frozen=True)
class Report:
    """What was found; `layout` is one of `sepkit.data.layouts`, or preview; `reading` says how songs were understood."""

    ok: bool  # no problem blocks
    layout: str | None
    splits: dict[str, int]
    hours: float
    problems: list[Problem]
    environment: dict[str, Any]
    reading: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fixed form that `doctor --json` prints; strict JSON."""
        facts = {**asdict(self), "hours": round(self.hours, 4)}
        return {name: facts[name] for name in facts if name != "reading"}

    def __str__(self) -> str:
        facts = dict(self.environment)
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        lines = [f"{name}: {value}" for name, value in facts.items()]
        counts = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        checked = f"layout {self.layout}, {counts}, {self.hours:.2f} hours"
        lines.append(f"songs: {checked if self.layout else NOT_CHECKED}")
        lines += self.reading.splitlines()
        lines += [f"{'BLOCKS' if problem.blocking else 'note'}: {problem}" for problem in self.problems]
        lines.append("ok" if self.ok else "not ok: see the lines that begin with BLOCKS")
        return "\n".join(lines)


def reading_of(folder: SongFolder) -> str:
    """How a folder of songs was understood: where it is not MUSDB's layout, song by song."""
    if folder.layout in MUSDB:
        return f"read as: {folder.origin}"
    names = {name: name for track in folder.tracks for name in ("mixture", *track.sources)}
    table = [[track.name, track.split, *map(track.told, names)] for track in folder.tracks]
    return f"read as: {folder.origin}\n" + tabulate(table, headers=["song", "split", *names], maxcolwidths=40)


def doctor(data: DataLike = None, *, root: RootLike = None, profile: ProfileLike = None, n_jobs: int = -1) -> Report:
    """Checks the environment and the songs in `data` (or SEPKIT_DATA); without such a folder, those of the root's caches.

    A folder without songs is a problem.
    """
    data = data or os.environ.get("SEPKIT_DATA") or None
    profile, place, device = get_profile(profile), Root.at(root, profile), device_name(pick_device(None))
    with spending(place, stage="doctor", device=device) if place.path.is_dir() else nullcontext():
        facts = environment(place.path, profile)
        about, fix = ("", "requirements.txt", "missing package"), "pip install -r requirements.txt"
        missing = [name for name in NEEDED if facts["versions"][name] == "absent"]
        problems = [Problem(*about, name, "not installed", fix, True) for name in missing]
        splits, layout, hours = {"train": 0, "valid": 0, "test": 0}, None, 0.0
        folder, reading = None, ""
        try:
            if not songs_at_hand(profile, data, place) and (cached := songs_of_caches(place)):
                layout, splits, hours, found = cached
                problems += found
                data = None
            folder = find_songs(data, place.excluded()) if data is not None else None
        except SepkitError as error:
            said, _, fix = str(error).rstrip(".").rpartition("; ")
            problems.append(Problem("", str(data), "no songs", "songs in train/ and test/", said or "none", fix))
        if folder is not None:
            hours, median_s, found = check_folder(folder, n_jobs)
            reading = reading_of(folder)
            problems, splits = problems + found, folder.counts
            layout = "preview" if folder.layout == "stem.mp4" and median_s < SHORT_S else folder.layout
    ok = not any(problem.blocking for problem in problems)
    return Report(ok, layout, splits, hours, problems, facts, reading)


def songs_of_caches(root: Root) -> tuple[str, dict[str, int], float, list[Problem]] | None:
    """(layout, songs by split, hours, findings) of the root's caches, which are enough for all work; None for none."""
    splits, seconds, problems, layout = dict[str, str](), dict[str, float](), list[Problem](), ""
    for name, manifest in read_manifests(root.path).items():
        path, songs, layout = root.path / "cache" / name, manifest["songs"], manifest.get("layout", layout)
        splits |= {song: facts["split"] for song, facts in songs.items()}
        seconds |= {song: facts["frames"] / manifest["settings"]["sample_rate"] for song, facts in songs.items()}
        faults = Checks(path, songs).damaged(songs)
        gone = [song for song in faults if faults[song] == GONE]
        if gone and name in stored_manifests(root):  # they are fetched when they are needed
            faults = {song: fault for song, fault in faults.items() if fault != GONE}
        here = f", {len(songs) - len(gone)} of them here" if gone else ""
        found = f"{len(songs)} songs{here}; {', '.join(manifest['whole']) or 'no split'} whole"
        fix = "nothing to do: whole splits are used without the songs"
        problems.append(Problem("", name, "songs from the cache", "a folder of songs", found, fix, False))
        for song, fault in faults.items():
            file, found = track_file(path, song).name, f"a file that {fault}"
            fix = "mount Drive if its copy has the cache, or give the folder of songs with --data"
            problems.append(Problem(song, file, "damaged", "what was written", found, fix))
    excluded, unknown = named(root.excluded(), splits)
    problems += unknown_names([("exclude.txt", line) for line in unknown], splits)
    used = {song: split for song, split in splits.items() if song not in excluded}
    hours, counts = sum(seconds[song] for song in used) / 3600, Counter(used.values())
    return (layout, {split: counts[split] for split in SPLITS}, hours, problems) if splits else None


def environment(root: Path, profile: Profile) -> dict[str, Any]:
    """Versions, device and precision of training, cores, free disk, Drive, ffmpeg."""
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    (copy, fault), device, installed = drive.standing(Root(root)), pick_device(None), versions()
    return {
        "python": installed["python"],
        "device": device_name(device),
        "precision": PRECISIONS.get(precision(device, bfloat16=profile.bfloat16), "float32"),
        "cores": os.cpu_count(),
        "root": str(root),
        "free_disk_gb": round(shutil.disk_usage(existing).free / 1e9, 1),
        "drive": f"{copy}: {fault}" if fault else str(copy) if copy else None,
        "ffmpeg": shutil.which("ffmpeg"),
        "versions": {name: installed.get(name, "absent") for name in VERSIONED},
    }
