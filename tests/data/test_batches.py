"""Clips are functions of (seed, epoch, index), whoever draws them and in whatever order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sepkit.data.batches import (
    SILENCE_DBFS,
    EpochBatches,
    FixedClips,
    Starts,
    TrainingClips,
    clip_length,
    read_clip,
    training_loader,
)
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import find_songs
from sepkit.errors import SepkitError
from sepkit.storage import Root

RATE = 22050


def make_clips(cache, **options):
    return TrainingClips(cache, **{"seconds": 0.5, "seed": 0, **options})


def log(clips, keys):
    """What S54 asks to be logged: the clip's song and its samples."""
    return [(clips[key]["track"], clips[key]["sources"].numpy().tobytes()) for key in keys]


def scale_and_flip(sources, rng, sample_rate):
    """An augmentation with draws of its own; named, so that a spawned worker can import it."""
    return sources * np.float32(rng.uniform(0.5, 2.0))


def sings(vocals):
    """Whether there is more than the ringing of the resampling filter where the singing begins."""
    return float(np.sqrt(np.mean(np.square(vocals)))) > 3 * 10 ** (SILENCE_DBFS / 20)


KEYS = [(epoch, index) for epoch in range(2) for index in range(8)]


def test_a_clip_is_a_piece_of_its_song(cache):
    clip = make_clips(cache)[0, 0]
    song = cache.sources(clip["track"])
    piece = clip["sources"].numpy()
    assert piece.dtype == np.float32
    assert piece.shape == (2, 2, RATE // 2)
    starts = [
        start
        for start in range(0, song.shape[-1] - piece.shape[-1] + 1, RATE // 10)
        if np.array_equal(song[..., start : start + piece.shape[-1]], piece)
    ]
    assert len(starts) == 1


def test_the_mixture_is_the_sum_of_the_sources_whatever_was_done_to_them(cache):
    clips = make_clips(cache, remix=1.0, augment=scale_and_flip)
    for clip in (clips[0, 0], FixedClips(cache, seconds=0.5, count=1, names=["V0 - Valid"])[0]):
        assert torch.equal(clip["mixture"], clip["sources"].sum(dim=0))


def test_draws_differ_between_epochs_indices_and_seeds_and_repeat_for_the_same(cache):
    """S54."""
    drawn = log(make_clips(cache, augment=scale_and_flip), KEYS)
    assert len(set(drawn)) == len(KEYS)
    assert log(make_clips(cache, augment=scale_and_flip), KEYS) == drawn
    assert log(make_clips(cache, augment=scale_and_flip), KEYS[::-1]) == drawn[::-1]  # order is nothing
    assert not set(log(make_clips(cache, augment=scale_and_flip, seed=1), KEYS)) & set(drawn)


def test_the_global_generators_neither_matter_nor_move(cache):
    clips = make_clips(cache, augment=scale_and_flip)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = log(clips, KEYS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(2)
    assert log(clips, KEYS) == first


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*suggested max number of worker")
@pytest.mark.parametrize(
    ("workers", "method"), [(2, "fork"), (4, "fork"), pytest.param(2, "spawn", marks=pytest.mark.long)]
)
def test_clips_do_not_depend_on_the_workers(cache, workers, method):
    """S36: a handle is open in this process before the workers start."""
    clips = make_clips(cache, remix=0.5)
    drawn = log(clips, KEYS)
    batches = EpochBatches(clips, batch_size=2, steps=4)
    loader = DataLoader(clips, batch_sampler=batches, num_workers=workers, multiprocessing_context=method)
    found = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        for batch in loader:
            found += [
                (track, sources.numpy().tobytes())
                for track, sources in zip(batch["track"], batch["sources"], strict=True)
            ]
        if method == "spawn":
            break  # an epoch's workers take seconds to start
    assert found == drawn[: len(found)]
    assert len(found) == (8 if method == "spawn" else 16)


def test_the_training_loader_gives_the_steps_asked_for(cache):
    loader = training_loader(make_clips(cache), batch_size=3, steps=2)
    batches = list(loader)
    assert [batch["sources"].shape for batch in batches] == [(3, 2, 2, RATE // 2)] * 2
    assert len(loader) == 2
    loader.batch_sampler.set_epoch(1)
    assert not torch.equal(next(iter(loader))["sources"], batches[0]["sources"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_curriculum_shows_equal_seconds_in_equal_steps_wherever_it_is_resumed(cache, workers):
    """Two epochs of 0.25 s, one of 0.3 s, then 0.5 s; persistent workers that live through all of them."""
    clips = make_clips(cache, curriculum=[[2, 0.25], [1, 0.3]])
    loader = training_loader(clips, batch_size=3, steps=2, workers=workers)
    shapes = {0: (6, 2, 2, 5512), 1: (6, 2, 2, 5512), 2: (5, 2, 2, 6615), 3: (3, 2, 2, 11025)}
    for epoch in (0, 1, 2, 3, 4, 1):
        loader.batch_sampler.set_epoch(epoch)
        batches = list(loader)
        assert [tuple(batch["sources"].shape) for batch in batches] == [shapes.get(epoch, shapes[3])] * 2
        size = len(batches[0]["track"])
        for step, batch in enumerate(batches):
            for number, sources in enumerate(batch["sources"]):
                assert torch.equal(sources, clips[epoch, step * size + number]["sources"])
    assert len(loader) == 2
    assert torch.equal(clips[3, 0]["sources"], make_clips(cache)[3, 0]["sources"])  # as without, from then on


def test_a_curriculum_of_too_short_clips_is_refused(cache):
    with pytest.raises(SepkitError, match=r"at least 0\.1 s"):
        make_clips(cache, curriculum=[[1, 0.05]])


def test_balanced_sampling_sings_at_even_indices_and_rests_at_odd_ones(cache):
    """The vocals of these songs rest in the first 1.2 s."""
    clips = make_clips(cache)
    for index in range(40):
        assert sings(clips[0, index]["sources"][0].numpy()) == (index % 2 == 0)


def test_uniform_sampling_does_both_at_even_and_odd_indices(cache):
    clips = make_clips(cache, sampling="uniform")
    found = [sings(clips[0, index]["sources"][0].numpy()) for index in range(60)]
    for parity in (0, 1):
        assert 0 < sum(found[parity::2]) < 30


def test_sampling_of_vocals_sings_at_every_index(cache):
    clips = make_clips(cache, sampling="vocals")
    assert all(sings(clips[0, index]["sources"][0].numpy()) for index in range(20))


def test_songs_that_never_rest_fill_the_odd_indices_too(make_mini, tmp_path):
    root = Root.open(tmp_path / "root", "demo")
    settings = CacheSettings(sample_rate=RATE)
    loud = build_cache(find_songs(make_mini(tmp_path / "loud", 1, 1, 0)), root, settings, n_jobs=1)
    clips = make_clips(loud)
    assert all(sings(clips[0, index]["sources"][0].numpy()) for index in range(6))


def test_without_any_vocals_all_clips_are_instrumental(make_mini, tmp_path):
    root = Root.open(tmp_path / "root", "demo")
    folder = find_songs(make_mini(tmp_path / "calm", 1, 1, 0, rest_s=3.0))
    clips = make_clips(build_cache(folder, root, CacheSettings(sample_rate=RATE), n_jobs=1))
    for index in range(4):
        sources = clips[0, index]["sources"]
        assert not sources[0].any()
        assert sources[1].any()


def test_starts_divide_into_singing_and_resting_by_the_samples(cache):
    length = RATE // 2
    starts = Starts(cache, ["A0 - Train"], length)
    vocals = cache.sources("A0 - Train")[0]
    assert all(sings(vocals[:, start : start + length]) for start in starts.tables[True]["A0 - Train"])
    assert not any(sings(vocals[:, start : start + length]) for start in starts.tables[False]["A0 - Train"])
    every = np.concatenate([starts.tables[True]["A0 - Train"], starts.tables[False]["A0 - Train"]])
    assert sorted(every) == list(range(0, 3 * RATE - length + 1, RATE // 10))


@pytest.mark.parametrize("seconds", [3.0, 4.0])
def test_a_song_no_longer_than_a_clip_is_padded_with_zeros_at_its_end(cache, seconds):
    clip = make_clips(cache, seconds=seconds, sampling="uniform")[0, 0]
    sources = clip["sources"].numpy()
    assert sources.shape[-1] == round(seconds * RATE)
    np.testing.assert_array_equal(sources[..., : 3 * RATE], cache.sources(clip["track"]))
    assert not sources[..., 3 * RATE :].any()


@pytest.mark.parametrize("seconds", [1.0, 1.4, 1.401])
def test_segments_of_seven_tenths_fit_songs_of_any_length(make_song, tmp_path, seconds):
    """S28."""
    make_song(tmp_path / "songs" / "train" / "A - B", seconds=seconds)
    root = Root.open(tmp_path / "root", "demo")
    short = build_cache(find_songs(tmp_path / "songs"), root, CacheSettings(), n_jobs=1)
    for index in range(4):
        sources = make_clips(short, seconds=0.7)[0, index]["sources"]
        assert sources.shape == (2, 2, 30870)
        assert sources[..., -1].any()
    assert all(clip["sources"].shape[-1] == 30870 for clip in FixedClips(short, seconds=0.7, count=3, names=["A - B"]))


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.09])
def test_segments_that_are_too_short_are_refused_by_name(cache, seconds):
    with pytest.raises(SepkitError, match=rf"at least 0\.1 s, but segment_s is {seconds}"):
        make_clips(cache, seconds=seconds)
    assert clip_length(0.1, 44100) == 4410


def test_remixing_takes_the_accompaniment_from_another_draw(cache):
    plain, mixed = make_clips(cache), make_clips(cache, remix=1.0)
    for index in range(6):
        before, after = plain[0, index], mixed[0, index]
        assert torch.equal(after["sources"][0], before["sources"][0])
        assert not torch.equal(after["sources"][1], before["sources"][1])
        first, second = after["track"].split(" + ")
        assert first == before["track"]
        assert second in cache.names("train")
    names = [make_clips(cache, remix=0.5)[0, index]["track"] for index in range(60)]
    assert 15 < sum(" + " in name for name in names) < 45


def test_four_stems_are_remixed_each_from_its_own_draw(mini_songs, tmp_path):
    settings = CacheSettings(sample_rate=RATE, sources=("vocals", "drums", "bass", "other"))
    four = build_cache(find_songs(mini_songs), Root.open(tmp_path, "demo"), settings, n_jobs=1)
    plain, mixed = make_clips(four), make_clips(four, remix=1.0)
    songs = {name: four.sources(name) for name in four.names("train")}
    drawn = []
    for index in range(12):
        clip = mixed[0, index]
        names = clip["track"].split(" + ")
        assert torch.equal(clip["sources"][0], plain[0, index]["sources"][0])
        for number, name in enumerate(names):
            piece = clip["sources"][number].numpy()
            starts = range(0, songs[name].shape[-1] - piece.shape[-1] + 1, RATE // 10)
            places = [s for s in starts if (songs[name][number, :, s : s + piece.shape[-1]] == piece).all()]
            assert places, (index, number)
        drawn.append(names)
    assert len({tuple(names) for names in drawn}) > 6
    assert any(len(set(names[1:])) == 2 for names in drawn)


def test_only_the_names_given_are_drawn_and_an_empty_set_is_refused(cache):
    clips = make_clips(cache, names=["A1 - Train"])
    assert {clips[0, index]["track"] for index in range(10)} == {"A1 - Train"}
    assert {make_clips(cache)[0, index]["track"] for index in range(20)} == {"A0 - Train", "A1 - Train"}
    with pytest.raises(SepkitError, match=r"No training songs in .*0 found"):
        make_clips(cache, names=[])
    with pytest.raises(SepkitError, match="0 found"):
        make_clips(replace(cache, songs={}))
    with pytest.raises(SepkitError, match="0 found"):
        FixedClips(cache, seconds=0.5, count=2, names=[])


def test_fixed_clips_are_the_same_every_time_and_evenly_spaced(cache):
    names = ["V0 - Valid", "T0 - Test"]
    fixed = FixedClips(cache, seconds=1.0, count=3, names=names)
    assert [clip["track"] for clip in fixed] == ["V0 - Valid"] * 3 + ["T0 - Test"] * 3
    room = 2 * RATE
    assert [start for _, start in fixed.clips] == [room // 4, room // 2, 3 * room // 4] * 2
    for clip, (name, start) in zip(fixed, fixed.clips, strict=True):
        np.testing.assert_array_equal(clip["sources"], cache.sources(name, start, start + RATE))
    padded = FixedClips(cache, seconds=5.0, count=3, names=names)
    assert padded.clips == [("V0 - Valid", 0), ("T0 - Test", 0)]
    assert padded[0]["sources"].shape[-1] == 5 * RATE


def test_a_clip_that_runs_over_the_end_is_padded(cache):
    clip = read_clip(cache, "A0 - Train", 3 * RATE - 10, 25)
    np.testing.assert_array_equal(clip[..., :10], cache.sources("A0 - Train")[..., -10:])
    assert not clip[..., 10:].any()
