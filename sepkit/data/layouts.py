"""How songs lie in a folder: one small reader a layout makes Tracks.  docs/own_songs.md says what each layout is."""

import fnmatch
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import yaml

from sepkit.data.sound import AUDIO
from sepkit.data.tracks import Part, Problem, Track
from sepkit.errors import SepkitError
from sepkit.profiles import PROTOCOLS, STEMS
from sepkit.storage.files import text_of

MP4 = ".stem.mp4"
STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # of such a file
SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_FOLDERS |= dict.fromkeys(("valid", "validation", "val", "dev"), "valid")
# folders and files that macOS, Windows and network disks leave among the songs
LEFTOVERS = {"__macosx", "icon\r", "@eadir", "#recycle", "@recycle", "$recycle.bin", "thumbs.db", "desktop.ini"}
MIXTURES = ("mixture", "mix")
REST = ("accompaniment", "instrumental", "no_vocals", "karaoke")  # names of what drums, bass and other add up to
LISTS = (*STEMS, "accompaniment", "mixture", "ignore")  # what stems.yaml may hold
EXAMPLE = "vocals: [lead vocal, backing]"
STEMS_YAML = f"a file stems.yaml at the root of all songs ({EXAMPLE}: the rest is accompaniment)"
Roles = Mapping[str, list[str]]


def entries_of(folder: Path) -> list[Path]:
    """What people put into `folder`, by name, without what systems leave there: ._bass.wav, .DS_Store, __MACOSX …"""
    with suppress(OSError):  # a file, or a folder of somebody else
        names = sorted(folder.iterdir())
        return [entry for entry in names if not entry.name.startswith(".") and entry.name.casefold() not in LEFTOVERS]
    return []


def split_of(folder: Path) -> str:
    return SPLIT_FOLDERS.get(folder.name.casefold(), "")


def is_song(entry: Path, depth: int = 0) -> bool:
    """Whether it is a .stem.mp4 file, or a folder with audio or a data.json, or holds a song, so many levels down."""
    inside = entries_of(entry)
    song = any(file.suffix.casefold() in AUDIO or file.name == "data.json" for file in inside)
    return song or entry.name.endswith(MP4) or (depth > 0 and any(is_song(folder, depth - 1) for folder in inside))


def song_places(root: Path) -> list[tuple[str, Path]]:
    """(split, folder or file) of each song: of split folders, else of `root` itself, whose songs have no split yet."""
    top = [entry for entry in entries_of(root) if entry.is_dir() or is_song(entry)]
    inside = [(split_of(entry), song) for entry in top if split_of(entry) for song in entries_of(entry)]
    if any(is_song(song) for _, song in inside):  # all folders are songs then, and the check says what they lack
        return [(split, song) for split, song in inside if song.is_dir() or is_song(song)]
    if split_of(root) and len({*map(split_of, entries_of(root.parent))} - {""}) > 1:
        return []  # its parent is the folder of songs
    top = [entry for entry in top if not split_of(entry)]
    recordings = [song for entry in top for song in entries_of(entry) if song / "data.json" in entries_of(song)]
    return [("", song) for song in recordings or top if is_song(song)]


def read_songs(root: Path) -> tuple[str, list[Track], list[tuple[str, str]]]:
    """(layout, songs under `root`, stems of stems.yaml that no song has); SepkitError for two layouts, or a bad stems.yaml."""
    file, places = root / "stems.yaml", song_places(root)
    roles = read_roles(file) if file.exists() else {}
    songs = [_song(*place, roles) for place in places]
    layouts = Counter(song.layout for song in songs if not song.problems)
    if 0 < (mp4s := layouts["stem.mp4"]) < (every := layouts.total()):
        raise SepkitError(f"{root} has both {every - mp4s} folders and {mp4s} .stem.mp4 files; keep one kind.")
    layout = next(iter(layouts or Counter(song.layout for song in songs)), "wav")
    if layout == "four stems":
        plain = all(file.suffix.casefold() == ".wav" for song in songs for file in song.files)
        layout = "two stems" if any("accompaniment" in song.sources for song in songs) else "wav" if plain else layout
    if layout == "wav" and any(song.mixture for song in songs):  # then a song without a mixture is at fault
        songs = [replace(song, mixture=Part(song.path / "mixture.wav")) if song.sources else song for song in songs]
    stems = {*MIXTURES, *(stem for _, folder in places for stem in _stems(folder))}
    listed = [(file.name, name) for names in roles.values() for name in names if not fnmatch.filter(stems, name)]
    return layout, [replace(song, layout=layout) for song in songs], listed


def musdb_song(name: str, split: str, folder: Path) -> Track:
    """A song of MUSDB18-HQ, whose files need not be there yet."""
    files = {stem: (Part(folder / f"{stem}.wav"),) for stem in STEMS}
    return Track(name, split, folder, "wav", files, Part(folder / "mixture.wav"))


def _stems(folder: Path) -> dict[str, Path]:
    """{stem in lower case: its file}; of a stem that is there twice the best kind of audio, and lower case."""
    files = [file for file in entries_of(folder) if file.suffix.casefold() in AUDIO and file.is_file()]
    files.sort(key=lambda file: (AUDIO.index(file.suffix.casefold()), file.name.swapcase()), reverse=True)
    return {text_of(os.fsencode(file.stem)).casefold(): file for file in files}


def _song(split: str, folder: Path, given: Roles) -> Track:
    """A .stem.mp4 file, MoisesDB's folder, or a folder of stems, understood by stems.yaml, if `given`, or by their names."""
    name = text_of(os.fsencode(folder.name))
    if folder.name.endswith(MP4):
        streams = {stem: (Part(folder, STREAMS.index(stem)),) for stem in STEMS}
        return Track(name.removesuffix(MP4), split, folder, "stem.mp4", streams, Part(folder))
    if folder / "data.json" in entries_of(folder):
        return _moisesdb(split, folder)
    stems = _stems(folder)
    rest = [stem for stem in REST if stem in stems and not {"drums", "bass", "other"} & stems.keys()][:1]
    plain = {"vocals": ["vocals"], "accompaniment": rest} if rest else {stem: [stem] for stem in STEMS}
    roles = given or {**plain, "mixture": [*MIXTURES], "ignore": ["*"]}
    sources = PROTOCOLS["4stem" if any(roles.get(stem) for stem in STEMS[1:]) else "2stem"]
    parts: dict[str, tuple[Part, ...]] = dict.fromkeys((*sources, "mixture", "ignore"), ())
    for stem, file in sorted(stems.items()):
        role = next((role for role, of in roles.items() if any(fnmatch.fnmatchcase(stem, each) for each in of)), "")
        parts[role if role in parts else sources[-1]] += (Part(file),)
    there = [source for source in sources if parts[source]]
    held = ", ".join(file.name for file in sorted(stems.values())[:4]) + " …" * (len(stems) > 4)
    fault: tuple[str, str, str, str] | None = None
    if not stems:
        held = ", ".join(entry.name for entry in entries_of(folder)[:3]) or "nothing"
        fault = ("no audio", "a mixture and its stems", held, "copy its files there, or delete the folder")
    elif not given and len(there) + len(rest) < 2:
        fault = ("unknown stems", "vocals and accompaniment", held, f"name the vocals in {STEMS_YAML}")
    elif given and (lacking := {"vocals", sources[-1]} - {*there, "other"}):
        fix = f"correct stems.yaml ({EXAMPLE}), or exclude the song"
        fault = (f"no {min(lacking)}", f"{min(lacking)}", held, fix)
    if not given:
        parts |= {source: (Part(folder / f"{source}.wav"),) for source in sources if source not in there}
    track = Track(name, split, folder, "stems.yaml" if given else "four stems")
    if fault:
        return replace(track, problems=(Problem(name, "its files", *fault),))
    mixture = next(iter(parts["mixture"]), None)
    return replace(track, sources={source: parts[source] for source in sources}, mixture=mixture)


def read_roles(file: Path) -> Roles:
    """{list of stems.yaml: names in lower case, without their ending}; SepkitError where it is something else."""
    try:
        found = yaml.safe_load(text_of(file.read_bytes()))
    except (OSError, yaml.YAMLError) as error:
        raise SepkitError(f"{file} can't be read ({' '.join(str(error).split())}); give lines as {EXAMPLE}.") from error
    wrong = [str(name) for name in found if name not in LISTS] if isinstance(found, dict) else ["no lists"]
    if wrong or not found.get("vocals"):
        wanted, wrong = f"lists of stems under {', '.join(LISTS)}, such as {EXAMPLE}", [*wrong, "no vocals"]
        raise SepkitError(f"{file}: expected {wanted}, found {wrong[0]}; correct it.")
    lists = {role: names if isinstance(names, list) else str(names or "").split(",") for role, names in found.items()}
    roles = {role: [text_of(str(name).strip().encode()).casefold() for name in names] for role, names in lists.items()}
    count = Counter(chain.from_iterable(roles.values()))
    if count and count.most_common(1)[0][1] > 1:
        raise SepkitError(f"{file} names {count.most_common(1)[0][0]!r} twice; leave it in one list.")
    return {**roles, "mixture": [*roles.get("mixture", ()), *MIXTURES]}


def _moisesdb(split: str, folder: Path) -> Track:
    """All that is neither vocals, drums nor bass is other; what a song has no recording of is silence."""
    try:
        facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        name = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", f"{facts['artist']} - {facts['song']}")
        parts: dict[str, tuple[Part, ...]] = dict.fromkeys(STEMS, ())
        for stem in facts["stems"]:
            source = stem["stemName"] if stem["stemName"] in STEMS else "other"
            files = [f"{track['id']}.{track.get('extension', 'wav')}" for track in stem["tracks"]]
            parts[source] += tuple(Part(folder / stem["stemName"] / file) for file in files)
        return Track(name, split, folder, "moisesdb", parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = ("unreadable", "song, artist and stems, as MoisesDB has them", f"{type(error).__name__}: {error}")
        return Track(folder.name, split, folder, "moisesdb", problems=(Problem(folder.name, "data.json", *what),))
