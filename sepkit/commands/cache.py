"""`cache`: the training and validation songs, ready to be read in pieces."""

from argparse import Namespace
from pathlib import Path

from sepkit.commands import data_option
from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings
from sepkit.data.check import require_headers
from sepkit.data.locate import locate_songs
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root

arguments = data_option


def run(args: Namespace) -> None:
    built = cache(**vars(args))
    hours = sum(built.n_samples(name) for name in built.songs) / built.sample_rate / 3600
    print(f"cache: {len(built.songs)} songs, {hours:.2f} hours in {built.path}")


def cache(
    *, profile: str | Profile | None = None, data: Path | str | None = None, root: Path | str | Root | None = None
) -> Cache:
    """Builds the training cache of `profile`, printing its size first; returns it opened."""
    profile = get_profile(profile)
    root = Root.open(root, profile)
    folder = locate_songs(profile, data, root)
    require_headers(folder, "The cache")
    settings = CacheSettings(sample_rate=profile.sample_rate)
    return build_cache(folder, root, settings, splits=("train", "valid"))
