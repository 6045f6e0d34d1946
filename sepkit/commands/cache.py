"""`cache`: the songs, ready to be read in pieces, by training and by scoring."""

from collections.abc import Iterable

from sepkit.commands import DATA, names
from sepkit.data.cache import Cache, CacheSettings, scoring_cache_settings, training_cache_settings
from sepkit.data.opening import open_cache
from sepkit.data.packs import store
from sepkit.data.tracks import SPLITS
from sepkit.experiments import BASE, get_experiment, resolve
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike

ARGUMENTS = {**DATA, "--pick": {"type": names, "help": "experiments that the songs are cached for (default: Base)"}}


def cache(
    *, profile: ProfileLike = None, data: DataLike = None, root: RootLike = None, pick: Iterable[str] | None = None
) -> Cache:
    """Builds all caches that `pick` needs, printing their sizes first; returns that of the first one's training, opened.

    With them training, folds and scoring need no songs any more, here or where the caches are copied to.  Large ones are
    copied to Drive here, the others by the next sync.
    """
    profile, root = get_profile(profile), Root.open(root, profile)
    needed = caches_for(pick or (BASE,), profile)
    opened = [open_cache(profile, data, root, settings, splits, "The cache") for settings, splits in needed.items()]
    if stored := store(root):
        print(f"Drive: {stored}")
    return opened[0]


def caches_for(pick: Iterable[str], profile: Profile) -> dict[CacheSettings, tuple[str, ...]]:
    """The settings of the caches that training and scoring of these experiments need, and the splits of each."""
    needed: dict[CacheSettings, tuple[str, ...]] = {}
    for config in (resolve(get_experiment(name), profile) for name in pick):
        needed.setdefault(training_cache_settings(config), ("train", "valid"))
        needed[scoring_cache_settings(config)] = SPLITS
    return needed


def show(built: Cache) -> None:
    hours = sum(built.n_samples(name) for name in built.songs) / built.sample_rate / 3600
    print(f"cache: {len(built.songs)} songs, {hours:.2f} hours in {built.path}")
