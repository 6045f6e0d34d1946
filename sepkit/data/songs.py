"""Songs on disk: finding them, splitting them, reading them.

Two layouts are read.  `wav`: `{train,test}/<song>/{mixture,vocals,drums,bass,other}.wav`, as in
MUSDB18-HQ, through soundfile.  `stem.mp4`: `{train,test}/<song>.stem.mp4`, as in MUSDB18 and its
7-second preview, through musdb, which needs ffmpeg.  Audio is float32, (channel, time), at the
rate and with the channels that the file has: nothing is resampled or mixed down here.

The validation songs are those of train/ that a `validation.txt` beside it names (one a line), or
else musdb's own list of 14.
"""

import importlib.util
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import yaml

from sepkit.errors import SepkitError

STEMS = ("vocals", "drums", "bass", "other")
ACCOMPANIMENT = ("drums", "bass", "other")
MP4 = ".stem.mp4"
SPLITS = ("train", "valid", "test")
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
    def artist(self) -> str:
        """MUSDB names its songs "artist - title"; folds keep an artist together."""
        return artist_of(self.name)

    @property
    def files(self) -> tuple[Path, ...]:
        if self.layout == "stem.mp4":
            return (self.path,)
        return tuple(self.path / f"{source}.wav" for source in ("mixture", *STEMS))


@dataclass(frozen=True)
class SongFolder:
    """A folder of songs in one layout; `excluded` holds songs that the exclusion list leaves out.

    unknown: names on the exclusion list or in validation.txt that no song bears.
    """

    path: Path
    layout: str
    tracks: tuple[Track, ...]
    excluded: tuple[Track, ...] = ()
    own_validation: bool = False
    unknown: tuple[str, ...] = ()

    def split(self, name: str) -> list[Track]:
        return [track for track in self.tracks if track.split == name]

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(self.split(name)) for name in SPLITS}


@cache
def musdb_validation_names() -> frozenset[str]:
    """musdb's 14 validation songs, from its own configuration file.

    The file is read without importing musdb, which refuses to load where ffmpeg is absent.
    """
    spec = importlib.util.find_spec("musdb")
    if spec is None or not spec.submodule_search_locations:
        raise SepkitError("musdb is not installed: pip install 'musdb>=0.4.3'")
    config = Path(spec.submodule_search_locations[0]) / "configs" / "mus.yaml"
    return frozenset(yaml.safe_load(config.read_text(encoding="utf-8"))["validation_tracks"])


def find_songs(path: Path | str, exclude: Iterable[str] = ()) -> SongFolder:
    """The songs under `path`, sorted by split and name; nothing is decoded.

    Raises SepkitError where there is no folder, no song, or songs of both layouts.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise SepkitError(
            f"No folder of songs at {root}: it does not exist. Give the folder that holds train/ and test/."
        )
    if not root.is_dir():
        raise SepkitError(
            f"Expected a folder that holds train/ and test/, but {root} is a file; unpack it first."
        )
    wavs, mp4s = _list_songs(root, "wav"), _list_songs(root, "stem.mp4")
    if wavs and mp4s:
        raise SepkitError(
            f"{root} holds both {len(wavs)} WAV folders and {len(mp4s)} .stem.mp4 files; keep one layout in it."
        )
    if not wavs and not mp4s:
        raise SepkitError(_why_none(root))
    layout = "wav" if wavs else "stem.mp4"
    own = root / "validation.txt"
    listed = _lines(own) if own.exists() else frozenset()
    names, excluded = listed if own.exists() else musdb_validation_names(), frozenset(exclude)
    tracks: list[Track] = []
    left_out: list[Track] = []
    for subset, song, where in wavs or mp4s:
        split = "valid" if subset == "train" and song in names else subset
        (left_out if song in excluded else tracks).append(Track(song, split, where, layout))
    tracks.sort(key=lambda track: (SPLITS.index(track.split), track.name))
    if not tracks:
        raise SepkitError(
            f"All {len(left_out)} songs under {root} are on the exclusion list; take some off it."
        )
    trained = {song for subset, song, _ in wavs or mp4s if subset == "train"}
    unknown = (excluded - {song for _, song, _ in wavs or mp4s}) | (listed - trained)
    return SongFolder(root, layout, tuple(tracks), tuple(left_out), own.exists(), tuple(sorted(unknown)))


def _lines(file: Path) -> frozenset[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    return frozenset(line for line in lines if line)


def _list_songs(root: Path, layout: str) -> list[tuple[str, str, Path]]:
    """(subset, song name, path) of every song of `layout`; hidden and temporary names are skipped.

    Beside folders with WAV files, one without any is a song too: the check tells what it lacks.
    """
    songs, with_audio = [], False
    for subset in ("train", "test"):
        if not (root / subset).is_dir():
            continue
        for entry in sorted((root / subset).iterdir()):
            if entry.name.startswith("."):
                continue
            if layout == "stem.mp4" and entry.name.endswith(MP4):
                songs.append((subset, entry.name.removesuffix(MP4), entry))
            if layout == "wav" and entry.is_dir():
                songs.append((subset, entry.name, entry))
                with_audio |= any(entry.glob("*.[wW][aA][vV]"))
    return songs if layout == "stem.mp4" or with_audio else []


def _why_none(root: Path) -> str:
    """The sentence for a folder without songs: what was found, and the likely fix."""
    entries = sorted(entry.name for entry in root.iterdir())
    found = ", ".join(entries[:4]) + (" …" if len(entries) > 4 else "") if entries else "nothing"
    fix = "give the folder that holds train/ and test/"
    nested = [child for child in root.iterdir() if (child / "train").is_dir() or (child / "test").is_dir()]
    if "train" in entries or "test" in entries:
        fix = (
            "a song is a folder with mixture, vocals, drums, bass and other .wav, or one .stem.mp4: "
            "copy the songs into train/ and test/"
        )
    elif "mixture.wav" in entries:
        fix = f"this looks like one song: give the folder two levels up, {root.resolve().parent.parent}"
    elif nested:
        fix = f"the songs seem to lie one level deeper: give {nested[0]}"
    elif any(name.endswith(MP4) for name in entries) or any(
        (root / name / "mixture.wav").exists() for name in entries
    ):
        fix = f"this looks like a train or test folder itself: give its parent {root.resolve().parent}"
    elif any(name.endswith(".zip") for name in entries):
        fix = "unpack the archive first"
    return f"No songs under {root} (0 found): expected train/ and test/ with songs, found {found}; {fix}."


def read_song(track: Track, start: int = 0, stop: int | None = None) -> tuple[dict[str, np.ndarray], int]:
    """Mixture and the four stems of `track`, each float32 (channel, time), and the sample rate in Hz.

    `start` and `stop` count samples.  Raises SepkitError, by song and file, where a stem is missing
    or unreadable; it never leaves a stem out.
    """
    if track.layout == "stem.mp4":
        return _read_mp4(track, start, stop)
    audio, rates = {}, {}
    for file in track.files:
        if not file.exists():
            raise SepkitError(
                f"{track.name}: {file.name} is missing in {track.path}; restore the file or exclude the song."
            )
        try:
            samples, rates[file.stem] = sf.read(file, start=start, stop=stop, dtype="float32", always_2d=True)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise SepkitError(
                f"{track.name}: {file} is not a readable WAV file ({error}); copy it again."
            ) from error
        audio[file.stem] = np.ascontiguousarray(samples.T)
    if len(set(rates.values())) > 1:
        raise SepkitError(
            f"{track.name}: its stems have different sample rates {rates}; resample them to one rate."
        )
    return audio, rates["mixture"]


def missing_decoders() -> list[str]:
    """The programs that reading .stem.mp4 songs needs and that are not on the PATH."""
    return [tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None]


def import_musdb():
    """The musdb module; SepkitError where ffmpeg is absent, since musdb then refuses to import."""
    if missing := missing_decoders():
        raise SepkitError(
            f"Reading .stem.mp4 songs needs {' and '.join(missing)} on the PATH, found none; {GET_FFMPEG}."
        )
    import musdb

    return musdb


def _read_mp4(track: Track, start: int, stop: int | None) -> tuple[dict[str, np.ndarray], int]:
    musdb = import_musdb()
    try:
        song = musdb.MultiTrack(
            path=str(track.path), name=track.name, subset=track.split, stem_id=0, is_wav=False
        )
        stems, rate = song.stems, int(song.rate)  # (stem, time, channel)
    except Exception as error:  # stempeg and ffmpeg raise whatever they like
        raise SepkitError(
            f"{track.name}: {track.path} is not a readable .stem.mp4 file ({type(error).__name__}); copy it again."
        ) from error
    if stems.shape[0] != 5:
        raise SepkitError(f"{track.name}: expected 5 audio streams in {track.path}, found {stems.shape[0]}.")
    audio = np.ascontiguousarray(np.moveaxis(stems, 1, 2)[..., start:stop], dtype=np.float32)
    return dict(zip(("mixture", "drums", "bass", "other", "vocals"), audio, strict=True)), rate


def accompaniment(audio: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of drums, bass and other, (channel, time)."""
    return audio["drums"] + audio["bass"] + audio["other"]
