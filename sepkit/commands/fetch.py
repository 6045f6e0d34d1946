"""`fetch`: the songs of a profile, into its cache and from there to Drive."""

import os
from pathlib import Path

from sepkit.commands import DATA, JOBS
from sepkit.data.archive import MUSDB18_HQ, Archive
from sepkit.data.cache import CacheSettings
from sepkit.data.fetch import SIDE_BY_SIDE, fetch_songs, save
from sepkit.data.locate import locate_songs
from sepkit.data.opening import open_cache
from sepkit.data.tracks import SPLITS
from sepkit.profiles import STEMS, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike

ARGUMENTS = {
    **DATA,
    "--archive": {"metavar": "FILE", "help": "musdb18hq.zip, put here by hand"},
    "--stems": {"action": "store_true", "help": "also cache the four stems, for experiments that need them (A-4, Base-4)"},
    "--jobs": {**JOBS["--jobs"], "default": SIDE_BY_SIDE, "help": f"songs at a time (default: {SIDE_BY_SIDE})"},
}  # fmt: skip


def fetch(
    *,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    archive: Path | str | None = None,
    stems: bool = False,
    n_jobs: int = SIDE_BY_SIDE,
    source: Archive = MUSDB18_HQ,
) -> None:
    """Fetches the songs of `profile` into its cache, and goes on where a call before was stopped.

    full, full-32k: MUSDB18-HQ, song by song, from `source` or its copy `archive`; preview: the 7-second set, by musdb;
    demo: makes its songs.  With a folder of songs (data, or SEPKIT_DATA) there is nothing to fetch.
    stems: caches the four stems too; n_jobs: songs at a time.  SepkitError says what to do by hand.
    """
    profile, root = get_profile(profile), Root.open(root, profile)
    settings = [CacheSettings(sample_rate=profile.scored_at)]
    if stems:
        settings.append(CacheSettings(sample_rate=profile.scored_at, sources=STEMS))
    if given := data or os.environ.get("SEPKIT_DATA"):
        print(f"songs: in {given}; nothing is fetched")
    elif profile.songs_from == "given":
        for writer in fetch_songs(root, settings, source, Path(archive).expanduser() if archive else None, n_jobs):
            print(f"songs: {len(writer.songs)} in the cache {writer.path}", flush=True)
        save(root)
    elif profile.songs_from == "downloaded":
        for each in settings:
            open_cache(profile, None, root, each, SPLITS, "fetch")
    else:
        songs = locate_songs(profile, None, root).tracks
        print(f"songs: {len(songs)} in {root.path / 'songs'}; they are made, not fetched")
