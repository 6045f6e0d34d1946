"""The cache of magnitudes: what it holds, its size, and that a network trains from it."""

from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch

from sepkit.data.batches import FixedClips, TrainingClips
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings, cache_gigabytes
from sepkit.data.songs import find_songs
from sepkit.dsp import STFT
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import MENU
from sepkit.profiles import PROFILES
from sepkit.storage import Root
from sepkit.training.train import train


@pytest.fixture(scope="module")
def folder(make_mini, tmp_path_factory):
    return find_songs(make_mini(tmp_path_factory.mktemp("mini") / "songs"))


@pytest.fixture(scope="module")
def caches(folder, tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("root"))
    kinds = (CacheSettings(), CacheSettings(kind="stft"), CacheSettings(kind="stft", bandwidth_hz=8000.0))
    return [build_cache(folder, root, settings, splits=("train",), n_jobs=1) for settings in kinds]


def test_magnitudes_are_those_of_the_waveform_in_half_precision(caches):
    wave, stft, narrow = caches
    name = wave.names("train")[0]
    sources = torch.from_numpy(wave.sources(name))
    stack = torch.cat([sources.sum(dim=0, keepdim=True), sources])
    expected = STFT(1024, 256)(stack).abs().numpy()
    found = stft.magnitudes(name)
    assert found.shape == expected.shape == (3, 2, 513, 1 + wave.n_samples(name) // 256)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    bins = int(8000 * 1024 / 44100) + 1
    np.testing.assert_array_equal(narrow.magnitudes(name), found[:, :, :bins])


def test_a_clip_is_the_same_slice_in_frames(caches):
    _, stft, _ = caches
    clips = TrainingClips(stft, seconds=1.0, seed=0)
    clip = clips[0, 0]
    assert clip["mixture"].shape == (2, 513, 1 + 44100 // 256)
    assert clip["sources"].shape == (2, *clip["mixture"].shape)
    fixed = FixedClips(stft, seconds=1.0, count=1, names=[stft.names("train")[0]])
    name, start = fixed.clips[0]
    first = start // 256
    np.testing.assert_array_equal(
        torch.cat([fixed[0]["mixture"][None], fixed[0]["sources"]]),
        stft.magnitudes(name, first, first + 1 + 44100 // 256),
    )


def test_size_is_said_before_it_is_built_and_is_right(caches):
    for cache in caches:
        seconds = sum(cache.n_samples(name) for name in cache.songs) / cache.sample_rate
        stored = sum(song["bytes"] for song in cache.songs.values()) / 1e9
        assert cache_gigabytes(seconds / 3600, cache.settings) == pytest.approx(stored, rel=0.35)
    assert cache_gigabytes(10, CacheSettings()) == pytest.approx(12.7, abs=0.05)
    assert cache_gigabytes(10, CacheSettings(sample_rate=32000)) == pytest.approx(9.2, abs=0.05)


def test_what_magnitudes_can_not_do_is_refused(caches, folder, tmp_path):
    _, stft, _ = caches
    with pytest.raises(UsageError, match="neither remixed nor augmented"):
        TrainingClips(stft, seconds=1.0, seed=0, remix=0.5)
    profile = replace(PROFILES["demo"], cache_kind="stft")
    with pytest.raises(UsageError, match="needs waveforms"):
        train("C", profile=profile, data=folder.path, root=tmp_path)
    with pytest.raises(UsageError, match="no cache of kind"):
        CacheSettings(kind="mel")


def test_training_from_either_cache_learns_the_same(folder, tmp_path):
    """The first losses agree to half precision: the same clips, the same weights."""
    small = replace(
        PROFILES["demo"], sample_rate=44100, segment_s=256 * 100 / 44100, steps_per_epoch=2, batch_size=2, epochs=1,
        models={"openunmix-small": {"hidden_size": 16}}, valid_segments=1,
    )  # fmt: skip
    base = replace(MENU["Base"], sampling="uniform")
    losses = []
    for kind in ("wave", "stft"):
        with joblib.parallel_config("threading"):
            run = train(base, profile=replace(small, cache_kind=kind), data=folder.path, root=tmp_path / kind)
        losses.append(run.history()["train_loss"].iloc[0])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_wrong_song_is_still_named(make_mini, tmp_path):
    songs = make_mini(tmp_path / "songs")
    next((songs / "train").iterdir()).joinpath("bass.wav").unlink()
    with pytest.raises(SepkitError, match=r"bass\.wav"):
        build_cache(find_songs(songs), Root.open(tmp_path / "root", "demo"), CacheSettings(kind="stft"), n_jobs=1)
