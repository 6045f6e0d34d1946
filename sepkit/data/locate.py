"""Where a profile's songs lie: made here, downloaded by musdb, or given by the student."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from sepkit.data.check import tell_unknown
from sepkit.data.demo.songs import make_demo_songs
from sepkit.data.songs import find_songs
from sepkit.data.sound import require_ffmpeg
from sepkit.data.tracks import SongFolder
from sepkit.errors import SepkitError
from sepkit.profiles import PROFILES, Profile
from sepkit.storage import DataLike, Root

PREVIEW_URL = "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip"


def given_songs(data: DataLike) -> Path | None:
    """The folder that `data` or SEPKIT_DATA names, which need not exist; None where neither does."""
    path = data or os.environ.get("SEPKIT_DATA")
    return Path(path).expanduser().absolute() if path else None


def songs_elsewhere(data: DataLike, root: Root) -> Path | None:
    """Real songs that the demo would not use as they are: a given folder, or another profile's root with a cache."""
    if (path := given_songs(data)) and path.exists():
        return path
    others = (root.path.parent / name for name, profile in PROFILES.items() if profile.songs_from != "made")
    return next((other for other in others if any(other.glob("cache/*/manifest.json"))), None)


def songs_at_hand(profile: Profile, data: DataLike, root: Root) -> bool:
    """Whether songs lie where `locate_songs` would look for them, so that none are made or downloaded."""
    if path := given_songs(data):
        return path.exists()
    return profile.songs_from != "given" and (root.path / "songs" / "test").is_dir()


def locate_songs(profile: Profile, data: DataLike, root: Root) -> SongFolder:
    """The songs of `profile`: in `data` or SEPKIT_DATA, else under the root, made or downloaded; SepkitError for none."""
    path = given_songs(data)
    if not path and profile.songs_from == "given":
        fix = f"python -m sepkit fetch --profile {profile.name} makes it; or give the songs, unpacked from https://"
        fix += "zenodo.org/records/3338373, with --data or SEPKIT_DATA"
        raise SepkitError(f"The {profile.name} profile needs MUSDB18-HQ, and its cache is not here: {fix}.")
    make = make_demo_songs if profile.songs_from == "made" else download_preview
    folder = find_songs(path or make(root.path / "songs"), root.excluded())
    tell_unknown(folder.unknown, folder.places)
    return folder if path else replace(folder, origin="")


def download_preview(folder: Path) -> Path:
    """The 7-second set under `folder`, downloaded by musdb where it is absent (about 160 MB)."""
    if (folder / "test").is_dir():
        return folder
    require_ffmpeg()  # without it musdb refuses to be imported
    import musdb

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        musdb.DB(root=str(part), download=True)
        part.replace(folder)  # all songs are unpacked
    except Exception as error:  # urllib, zipfile and musdb each raise their own
        shutil.rmtree(part, ignore_errors=True)
        why = f"could not be downloaded from {PREVIEW_URL} ({type(error).__name__}: {error})"
        fix = f"download and unpack the file by hand into {folder}, or give a folder with --data or SEPKIT_DATA"
        raise SepkitError(f"The preview songs {why}; {fix}.") from error
    return folder
