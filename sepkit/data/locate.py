"""Where a profile's songs lie: made, downloaded by musdb, or given by the student."""

import os
import shutil
from pathlib import Path

from sepkit.data.songs import SongFolder, find_songs, import_musdb
from sepkit.errors import SepkitError
from sepkit.profiles import Profile
from sepkit.storage import Root

PREVIEW_URL = "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip"
FULL_URL = "https://zenodo.org/records/3338373"


def locate_songs(profile: Profile, data: Path | str | None, root: Root) -> SongFolder:
    """The songs of `profile`: in `data`, or SEPKIT_DATA, or made (demo) or downloaded (preview).

    Raises SepkitError where there are none, with the address and what to do by hand.
    """
    path = data or os.environ.get("SEPKIT_DATA") or None
    if path is None and profile.songs_from == "made":
        from sepkit.data.demo import make_demo_songs

        path = make_demo_songs(root.path / "songs")
    elif path is None and profile.songs_from == "downloaded":
        path = download_preview(root.path / "songs")
    elif path is None:
        raise SepkitError(
            f"The {profile.name} profile needs MUSDB18-HQ: download musdb18hq.zip from {FULL_URL}, unpack it on the local "
            "disk, and give its folder with --data or SEPKIT_DATA."
        )
    return find_songs(path, root.excluded())


def download_preview(folder: Path) -> Path:
    """The 7-second set under `folder`, downloaded by musdb where it is absent (about 160 MB)."""
    if not (folder / "test").is_dir():
        musdb = import_musdb()
        part = folder.with_name(f".{folder.name}.part")  # renamed when all songs are unpacked
        shutil.rmtree(part, ignore_errors=True)
        try:
            musdb.DB(root=str(part), download=True)
            part.replace(folder)
        except Exception as error:  # urllib, zipfile and musdb each raise their own
            shutil.rmtree(part, ignore_errors=True)
            raise SepkitError(
                f"The preview songs could not be downloaded from {PREVIEW_URL} ({type(error).__name__}: {error}); "
                f"download and unpack the file by hand into {folder}, or give a folder with --data or SEPKIT_DATA."
            ) from error
    return folder
