"""Which songs train, which stop the training, which are scored; also in cross-validation.

The usual split is the data set's own.  With a fold, the songs of train/ (training and validation together) are dealt
into three folds by artist: one fold is scored, and about a seventh of the other songs, again whole artists, stops the
training.  Songs of exclude.txt are dealt too and then dropped, so excluding one moves no other song.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sepkit.data.cache import Cache
from sepkit.errors import SepkitError, UsageError

FOLDS, VALID_SHARE = 3, 7


def deal(artists: dict[str, str], folds: int) -> dict[str, int]:
    """{song: fold}: artists in order of their number of songs, each to the smallest fold so far."""
    sizes, where = [0] * folds, {}
    for artist, count in sorted(Counter(artists.values()).items(), key=lambda item: (-item[1], item[0])):
        where[artist] = sizes.index(min(sizes))
        sizes[where[artist]] += count
    return {song: where[artist] for song, artist in artists.items()}


def split_songs(cache: Cache, fold: int | None) -> dict[str, list[str]]:
    """{"train": names, "valid": names, "test": names}; test is empty in the usual split (it is the data set's)."""
    if fold is None:
        return {"train": cache.names("train"), "valid": cache.names("valid"), "test": []}
    if fold not in range(FOLDS):
        raise UsageError(f"There is no fold {fold}; expected 0 to {FOLDS - 1}.")
    songs = {**cache.songs, **cache.excluded}
    artists = {name: song["artist"] for name, song in songs.items() if song["split"] != "test"}
    folds = deal(artists, FOLDS)
    artists = {name: artist for name, artist in artists.items() if name in cache.songs}
    rest = {name: artist for name, artist in artists.items() if folds[name] != fold}
    parts = deal(rest, VALID_SHARE)
    sizes = Counter(parts.values())  # with few artists some parts are empty, and some too large
    stops = min(sizes, key=lambda part: (abs(sizes[part] - len(rest) / VALID_SHARE), part), default=None)
    split = {
        "train": [name for name in rest if parts[name] != stops],
        "valid": [name for name in rest if parts[name] == stops],
        "test": [name for name in artists if folds[name] == fold],
    }
    if empty := [part for part, names in split.items() if not names]:
        few = f"at least {FOLDS} artists in train/, found {len(set(artists.values()))}; train without a fold"
        raise SepkitError(f"Fold {fold} has no {' and no '.join(empty)} songs: {FOLDS} folds by artist need {few}.")
    return split


def scored_songs(cache: Cache, config: Mapping[str, Any], split: str) -> list[str]:
    """The songs of `cache` that a run with this config.json is scored on: of its fold, or of `split`."""
    if config.get("fold") is None:
        return cache.names(split)
    return [name for name in config["data"][split] if name in cache.songs]
