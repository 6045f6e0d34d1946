"""Folds keep artists together, use every song once, and leave no part empty."""

from collections import Counter
from pathlib import Path

import pytest

import sepkit
from sepkit.data.cache import Cache, CacheSettings
from sepkit.data.demo.songs import DemoSong
from sepkit.data.folds import FOLDS, deal, split_songs
from sepkit.data.tracks import artist_of
from sepkit.errors import SepkitError, UsageError
from sepkit.storage import write_json


def make_cache(train, valid=(), test=()):
    """A cache that knows its songs' names alone."""
    songs = {
        name: {"split": split, "artist": artist_of(name), "frames": 1}
        for split, names in (("train", train), ("valid", valid), ("test", test))
        for name in names
    }
    return Cache(Path("nowhere"), CacheSettings(), songs)


def numbered(artists, songs_each=1):
    return [f"Artist {artist} - {song}" for artist in range(artists) for song in range(songs_each)]


def demo():
    return make_cache(
        [DemoSong("train", index).name for index in range(18)],
        [DemoSong("valid", index).name for index in range(4)],
        [DemoSong("test", index).name for index in range(12)],
    )


CASES = {
    "demo": demo(),
    "one song an artist": make_cache(numbered(86), [f"Other {i} - x" for i in range(14)], ["T - 1"]),
    "twelve songs an artist": make_cache(numbered(6, 12), ["Artist 0 - v"], ["T - 1"]),
    "one artist has nearly all": make_cache([*numbered(1, 20), *numbered(4)[1:]]),
    "three songs": make_cache(numbered(3)),
}


def artists(names):
    return set(map(artist_of, names))


@pytest.mark.parametrize("cache", CASES.values(), ids=CASES)
def test_every_song_is_scored_in_one_fold_and_artists_never_straddle(cache):
    everything = cache.names("train") + cache.names("valid")
    scored = Counter()
    for fold in range(FOLDS):
        split = split_songs(cache, fold)
        assert all(split.values()), "no part may be empty"
        assert Counter(split["train"] + split["valid"] + split["test"]) == Counter(everything)
        assert not artists(split["test"]) & artists(split["train"] + split["valid"])
        assert not artists(split["valid"]) & artists(split["train"])
        scored.update(split["test"])
    assert scored == Counter(everything)


def test_folds_of_musdbs_size_are_even_and_a_seventh_stops_the_training():
    for fold in range(FOLDS):
        split = split_songs(CASES["one song an artist"], fold)
        assert {name: len(songs) for name, songs in split.items()} in (
            {"train": 57, "valid": 9, "test": 34},
            {"train": 57, "valid": 10, "test": 33},
        )


def test_without_a_fold_the_split_is_the_data_sets_own():
    split = split_songs(CASES["demo"], None)
    assert (len(split["train"]), len(split["valid"]), split["test"]) == (18, 4, [])


def test_folds_do_not_depend_on_the_order_of_the_songs():
    names = numbered(10, 2)
    forward, backward = make_cache(names), make_cache(names[::-1])
    for fold in range(FOLDS):
        sets = [{part: set(songs) for part, songs in split_songs(c, fold).items()} for c in (forward, backward)]
        assert sets[0] == sets[1]


@pytest.mark.parametrize("fold", [-1, 3, "0"])
def test_an_unknown_fold_is_a_wrong_call(fold):
    with pytest.raises(UsageError, match=f"no fold {fold}; expected 0 to 2"):
        split_songs(CASES["demo"], fold)


def test_too_few_artists_for_folds_is_one_sentence():
    with pytest.raises(SepkitError, match="need at least 3 artists in train/, found 2; train without a fold"):
        split_songs(make_cache(numbered(2, 5)), 1)


def test_dealing_puts_the_largest_first():
    dealt = deal({"x1": "x", "x2": "x", "x3": "x", "y1": "y", "y2": "y", "z1": "z"}, 2)
    assert dealt == {"x1": 0, "x2": 0, "x3": 0, "y1": 1, "y2": 1, "z1": 1}


@pytest.mark.parametrize("excluded", [["Artist 3 - 0"], numbered(2, 2)])
@pytest.mark.parametrize("fold", range(FOLDS))
def test_excluding_songs_drops_them_from_their_folds_and_moves_no_other(fold, excluded):
    names = numbered(10, 2)
    whole, fewer = make_cache(names), make_cache([name for name in names if name not in excluded])
    fewer.excluded = {name: whole.songs[name] for name in excluded}
    before, after = split_songs(whole, fold), split_songs(fewer, fold)
    assert after["test"] == [name for name in before["test"] if name not in excluded]
    rest = [name for name in before["train"] + before["valid"] if name not in excluded]
    assert sorted(after["train"] + after["valid"]) == sorted(rest)
    assert all(after.values())


def test_a_fold_run_is_not_scored_on_a_song_that_was_excluded_since(mini_songs, root):
    """Also where the song's scores, and its file in the cache, are there already."""
    run = root.run("mixture-f0")
    data = {"test": ["A0 - Train", "A1 - Train"], "valid": ["V0 - Valid"]}
    facts = {"run": run.name, "experiment": "mixture", "profile": "demo", "seed": 0, "fold": 0, "data": data}
    write_json(run.path / "config.json", facts)
    run.write_status(state="finished")

    def scored(split="test"):
        return list(sepkit.evaluate(run, data=mini_songs, split=split, n_jobs=1)["track"].unique())

    assert scored() == data["test"]
    (root.path / "exclude.txt").write_text("A1 - Train\n")
    assert scored() == ["A0 - Train"]
    assert list(run.scores()["track"].unique()) == ["A0 - Train"]
    assert scored("valid") == ["V0 - Valid"]
