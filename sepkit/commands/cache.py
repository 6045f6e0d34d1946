"""`cache`: the training and validation songs, ready to be read in pieces."""

from pathlib import Path

from sepkit.commands import DATA
from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings
from sepkit.data.check import require_headers
from sepkit.data.locate import locate_songs
from sepkit.profiles import ProfileLike, get_profile
from sepkit.storage import Root, RootLike

ARGUMENTS = DATA


def cache(*, profile: ProfileLike = None, data: Path | str | None = None, root: RootLike = None) -> Cache:
    """Builds the training cache of `profile`, printing its size first; returns it opened."""
    profile, root = get_profile(profile), Root.open(root, profile)
    folder = locate_songs(profile, data, root)
    require_headers(folder, "The cache")
    return build_cache(folder, root, CacheSettings(sample_rate=profile.sample_rate), splits=("train", "valid"))


def show(built: Cache) -> None:
    hours = sum(built.n_samples(name) for name in built.songs) / built.sample_rate / 3600
    print(f"cache: {len(built.songs)} songs, {hours:.2f} hours in {built.path}")
