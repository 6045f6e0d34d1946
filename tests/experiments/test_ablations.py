"""Experiments that need more than settings: another's weights, another sample rate, four stems."""

from dataclasses import replace

import pytest
import torch

from sepkit.data.cache import cache_sources
from sepkit.errors import UsageError
from sepkit.experiments import MENU, resolve
from sepkit.profiles import PROFILES, STEMS
from sepkit.storage.checkpoints import load_model
from sepkit.training.train import train, training_cache


@pytest.fixture
def where(mini_songs, tiny, root):
    return {"profile": replace(tiny, epochs=1), "data": mini_songs, "device": "cpu", "root": root}


def test_b_wiener_takes_the_weights_of_b_and_trains_nothing(where, root):
    wiener, b = train("B-wiener", **where), train("B", **where)
    one, two = load_model(wiener), load_model(b)
    assert (one.wiener, two.wiener) == (True, False)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    assert wiener.finished
    assert wiener.status["minutes"] == 0
    assert "B-s0" in wiener.status["stopped"]
    assert "B-wiener-s0" not in set(root.budget()["run"])
    again = train("B-wiener", **where)
    assert again.status == wiener.status


def test_base_32k_trains_on_songs_at_32_khz(where, root, mini_songs):
    run = train("Base-32k", **where)
    assert load_model(run).sample_rate == 32000
    cache = training_cache(resolve(MENU["Base-32k"], where["profile"]), where["profile"], mini_songs, root)
    assert cache.sample_rate == 32000
    assert run.config["data"]["cache"] == cache.path.name


@pytest.mark.parametrize("name", ["A-4", "Base-4"])
def test_four_sources_come_from_the_cache_of_four_stems(name):
    assert cache_sources(resolve(MENU[name], PROFILES["full"])) == STEMS


def test_an_experiment_with_stems_learns_from_clips_of_four_and_is_scored_on_two(where, root, mini_songs):
    """The accompaniment of its clips comes from three songs; its estimates are those of any other experiment."""
    experiment = replace(MENU["Base"], name="stems", stems=True, remix=1.0)
    run = train(experiment, **where)
    cache = training_cache(resolve(experiment, where["profile"]), where["profile"], mini_songs, root)
    assert cache.settings.sources == STEMS
    assert run.config["data"]["cache"] == cache.path.name
    assert cache_sources(run.config) == ("vocals", "accompaniment")
    assert load_model(run).sources == ("vocals",)
    assert run.history()["valid_loss"].notna().all()


def test_clips_of_four_stems_are_refused_where_the_accompaniment_is_estimated(where):
    with pytest.raises(
        UsageError, match="B estimates accompaniment, but its clips are made of vocals, drums, bass, other"
    ):
        train(replace(MENU["B"], stems=True), **where)
