"""Songs on disk: found, split into train, valid and test, read.

Two layouts.  `wav`: `{train,test}/<song>/{mixture,vocals,drums,bass,other}.wav`, as in MUSDB18-HQ, read by soundfile.
`stem.mp4`: `{train,test}/<song>.stem.mp4`, as in MUSDB18 and its 7-second preview, read by musdb, which needs ffmpeg.
Validation songs are those of train/ that `validation.txt` beside it names, one a line; without it, musdb's 14.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import yaml

from sepkit.errors import SepkitError
from sepkit.profiles import STEMS
from sepkit.storage.files import named, read_names, text_of

MP4 = ".stem.mp4"
SPLITS = ("train", "valid", "test")
# folders and files that macOS, Windows and network disks leave among the songs
LEFTOVERS = {"__macosx", "icon\r", "@eadir", "#recycle", "@recycle", "$recycle.bin", "thumbs.db", "desktop.ini"}
GET_FFMPEG = "install ffmpeg (apt-get install ffmpeg) or use songs in the WAV layout, which does not need it"


def artist_of(song: str) -> str:
    """The name before " - ".

    >>> artist_of("PR - Happy Daze")
    'PR'
    """
    return song.split(" - ")[0]


@dataclass(frozen=True)
class Track:
    """One song: its `name`, its `split` (train, valid, test), its folder or .stem.mp4 file."""

    name: str
    split: str
    path: Path
    layout: str

    @property
    def files(self) -> tuple[Path, ...]:
        if self.layout == "stem.mp4":
            return (self.path,)
        return tuple(self.path / f"{source}.wav" for source in ("mixture", *STEMS))


@dataclass(frozen=True)
class SongFolder:
    """A folder of songs in one layout: those of exclude.txt are `excluded`.

    unknown: (exclude.txt or validation.txt, a line there that names no song).
    """

    path: Path
    layout: str
    tracks: tuple[Track, ...]
    excluded: tuple[Track, ...] = ()
    own_validation: bool = False
    unknown: tuple[tuple[str, str], ...] = ()

    def split(self, name: str) -> list[Track]:
        return [track for track in self.tracks if track.split == name]

    @property
    def subsets(self) -> dict[str, str]:
        """{song: train or test}, those of exclude.txt too."""
        return {track.name: track.path.parent.name for track in (*self.tracks, *self.excluded)}

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(self.split(name)) for name in SPLITS}


@cache
def musdb_validation_names() -> frozenset[str]:
    """musdb's 14 validation songs, from its configuration file: importing musdb needs ffmpeg."""
    spec = importlib.util.find_spec("musdb")
    if spec is None or not spec.submodule_search_locations:
        raise SepkitError("musdb is not installed: pip install 'musdb>=0.4.3'")
    config = Path(spec.submodule_search_locations[0]) / "configs" / "mus.yaml"
    return frozenset(yaml.safe_load(config.read_text(encoding="utf-8"))["validation_tracks"])


def find_songs(path: Path | str, exclude: Iterable[str] = ()) -> SongFolder:
    """The songs under `path`, by split and name, not decoded; SepkitError for no folder, no song, or both layouts.

    exclude: lines of exclude.txt.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        what = "is a file; unpack it first" if root.exists() else "does not exist; check the path"
        raise SepkitError(f"No folder of songs at {root}: it {what}, and give the folder that holds train/ and test/.")
    entries = [entry for subset in ("train", "test") for entry in entries_of(root / subset)]
    mp4s = [entry for entry in entries if entry.name.endswith(MP4)]
    wavs = [entry for entry in entries if entry.is_dir() and not entry.name.endswith(MP4)]
    if not any(any(song.glob("[!.]*.[wW][aA][vV]")) for song in wavs):
        wavs = []  # where one folder holds a WAV file, all are songs, and the check says what the others lack
    if wavs and mp4s:
        raise SepkitError(f"{root} has both {len(wavs)} WAV folders and {len(mp4s)} .stem.mp4 files; keep one layout.")
    if not (wavs or mp4s):
        raise SepkitError(_why_none(root))
    layout, listed, songs = "wav" if wavs else "stem.mp4", root / "validation.txt", []
    for entry in wavs or mp4s:
        songs.append(Track(text_of(os.fsencode(entry.name)).removesuffix(MP4), entry.parent.name, entry, layout))
    in_train = {track.name for track in songs if track.split == "train"}
    valid, misnamed = named(read_names(listed), in_train) if listed.exists() else (musdb_validation_names(), [])
    misnamed = misnamed if in_train else []  # that there is no train/ is said
    songs = [replace(song, split="valid") if song.split == "train" and song.name in valid else song for song in songs]
    songs.sort(key=lambda track: (SPLITS.index(track.split), track.name))
    names = {track.name for track in songs}
    excluded, strange = named(exclude, names)
    if names <= excluded:
        raise SepkitError(f"All {len(names)} songs under {root} are on the exclusion list; take some off exclude.txt.")
    unknown = [*(("exclude.txt", line) for line in strange), *((listed.name, line) for line in misnamed)]
    used, left_out = ([track for track in songs if (track.name in excluded) == out] for out in (False, True))
    return SongFolder(root, layout, tuple(used), tuple(left_out), listed.exists(), tuple(unknown))


def entries_of(folder: Path) -> list[Path]:
    """What people put into `folder`, by name, without what systems leave there: ._bass.wav, .DS_Store, __MACOSX …"""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.casefold() not in LEFTOVERS]


def holds_songs(folder: Path, depth: int = 2) -> bool:
    """Whether `folder` is a song (a .stem.mp4, or a folder with mixture or vocals) or holds some, so many levels down."""
    if folder.name.endswith(MP4):
        return True
    entries = []
    with suppress(OSError):  # a folder of somebody else
        entries = entries_of(folder)
    song = any(Path(entry.name).stem.casefold() in ("mixture", "vocals") and entry.is_file() for entry in entries)
    return song or (depth > 0 and any(holds_songs(entry, depth - 1) for entry in entries))


def place_of(folder: Path) -> str | None:
    """What to do with songs in `folder`, whose name is nearly train or test, or a validation split's; else None."""
    name = folder.name.casefold()
    if name in ("train", "training", "test", "testing"):
        wanted = name.removesuffix("ing")
        taken = (folder.parent / wanted).exists()
        return f"move its songs into {wanted}/" if taken else f"rename {folder.name} to {wanted}"
    if name in ("valid", "validation", "val", "dev"):
        return (
            f"move the songs of {folder.name}/ into train/, and name them, one a line, in validation.txt beside train/"
        )
    return None


def _why_none(root: Path) -> str:
    """The sentence for a folder without songs: what was found, and the likely fix."""
    children, parent, splits = entries_of(root), root.parent, ("train", "test")
    names = [child.name for child in children]
    songs = [child for child in children if child.name not in splits and holds_songs(child)]
    nested = [child for child in songs if any(holds_songs(child / split) for split in splits)]
    encoded = [song for split in splits for song in entries_of(root / split) if holds_songs(song)]
    one = "mixture" in {Path(name).stem.casefold() for name in names}
    fixes = {
        "give the folder that holds train/ and test/": True,
        "unpack the archive first": any(name.casefold().endswith((".zip", ".tar", ".gz", ".7z")) for name in names),
        "a song is a folder with mixture, vocals, drums, bass and other .wav, or one .stem.mp4: copy the "
        "songs into train/ and test/": set(splits) & set(names),
        f"move these songs into {root / 'train'} and {root / 'test'}": songs,
        f"this looks like a train or test folder itself: give its parent {parent}": songs and root.name in splits,
        f"the songs seem to lie one level deeper: give {[*nested, root][0]}": nested,
        " and ".join(filter(None, map(place_of, songs))): any(map(place_of, songs)),
        f"this looks like one song: move {root.name} into a train/ or test/ folder and give the folder above that": one,
        f"this looks like one song: give the folder two levels up, {parent.parent}": one and parent.name in splits,
        f"convert the files of {[*encoded, root][0].name} and of the other songs to WAV": encoded,
    }
    fix = [fix for fix, fits in fixes.items() if fits][-1]  # the last one that fits is the surest
    found = ", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "nothing"
    return f"No songs under {root} (0 found): expected train/ and test/ with songs, found {found}; {fix}."


def on_disk(file: Path) -> str | bytes:
    """`file` as soundfile opens it: its text has to be UTF-8, but on Unix it may have any bytes."""
    return str(file) if os.name == "nt" else os.fsencode(file)


def read_song(track: Track, start: int = 0, stop: int | None = None) -> tuple[dict[str, np.ndarray], int]:
    """Mixture and the four stems of `track`, each float32 (channel, time), and the sample rate in Hz.

    start, stop: in samples.  Raises SepkitError, by song and file, where a stem is missing or unreadable.
    """
    if track.layout == "stem.mp4":
        return _read_mp4(track, start, stop)
    audio, rates = {}, {}
    for file in track.files:
        if not file.exists():
            raise SepkitError(f"{track.name}: {file.name} is missing in {track.path}; restore it or exclude the song.")
        try:
            samples, rates[file.stem] = sf.read(on_disk(file), start=start, stop=stop, dtype="float32", always_2d=True)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise SepkitError(f"{track.name}: {file} is not a readable WAV file ({error}); copy it again.") from error
        audio[file.stem] = np.ascontiguousarray(samples.T)
    if len(set(rates.values())) > 1:
        raise SepkitError(f"{track.name}: its stems have different sample rates {rates}; resample them to one rate.")
    return audio, rates["mixture"]


def missing_decoders() -> list[str]:
    """The programs that reading .stem.mp4 songs needs and that are not on the PATH."""
    return [tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None]


def import_musdb():
    """The musdb module; SepkitError where ffmpeg is absent, since musdb then refuses to import."""
    if missing := " and ".join(missing_decoders()):
        raise SepkitError(f"Reading .stem.mp4 songs needs {missing} on the PATH, found none; {GET_FFMPEG}.")
    import musdb

    return musdb


def _open_mp4(track: Track):
    """musdb's view of the file, of which only the header is read yet."""
    return import_musdb().MultiTrack(path=str(track.path), name=track.name, subset=track.split, stem_id=0, is_wav=False)


def _read_mp4(track: Track, start: int, stop: int | None) -> tuple[dict[str, np.ndarray], int]:
    import_musdb()  # where ffmpeg is absent, its sentence is the error
    try:
        song = _open_mp4(track)
        stems, rate = song.stems, int(song.rate)  # (stem, time, channel)
    except Exception as error:  # stempeg and ffmpeg raise whatever they like
        what = f"{track.path} is not a readable .stem.mp4 file ({type(error).__name__})"
        raise SepkitError(f"{track.name}: {what}; copy it again.") from error
    if stems.shape[0] != 5:
        raise SepkitError(f"{track.name}: expected 5 audio streams in {track.path}, found {stems.shape[0]}.")
    audio = np.ascontiguousarray(np.moveaxis(stems, 1, 2)[..., start:stop], dtype=np.float32)
    return dict(zip(("mixture", "drums", "bass", "other", "vocals"), audio, strict=True)), rate


def duration_s(track: Track) -> float:
    """Length of a song by its header, seconds; 0 where a .stem.mp4 file has none."""
    if track.layout == "wav":
        return sf.info(on_disk(track.files[0])).duration
    try:
        return float(_open_mp4(track).duration)
    except Exception:  # as above; reading the song names the fault
        return 0.0


def accompaniment(audio: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of drums, bass and other, (channel, time)."""
    return audio["drums"] + audio["bass"] + audio["other"]
