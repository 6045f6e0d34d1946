"""Rows that need more than other settings: another row's weights, another sample rate, four sources."""

from dataclasses import replace

import pytest
import torch

from sepkit import models
from sepkit.data.cache import cache_sources
from sepkit.errors import UsageError
from sepkit.experiments import MENU
from sepkit.experiments.settings import resolve
from sepkit.profiles import PROFILES
from sepkit.storage import Root, write_json
from sepkit.storage.checkpoints import load_checkpoint, load_model
from sepkit.training.saving import AtomicCheckpointIO
from sepkit.training.train import train, training_cache

NARROW = {
    "demucs-tiny": {"channels": 4},
    "band-split": {"features": 8, "hidden_size": 8, "layers": 1, "mask_hidden_size": 8},
    "tfc-tdf": {"bins": 256, "features": 4, "growth": 4, "scales": 2},
}


def test_b_wiener_takes_the_weights_of_b_and_trains_nothing(mini_songs, tiny, make_root):
    root = make_root()
    where = {"profile": tiny, "data": mini_songs, "device": "cpu", "root": root}
    wiener, b = train("B-wiener", **where), train("B", **where)
    one, two = load_model(wiener), load_model(b)
    assert (one.wiener, two.wiener) == (True, False)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    assert wiener.finished
    assert wiener.status["minutes"] == 0
    assert "B-s0" in wiener.status["stopped"]
    spent = Root.open(root, tiny).budget()
    assert "B-wiener-s0" not in set(spent["run"])
    again = train("B-wiener", **where)
    assert again.status == wiener.status


def test_base_32k_trains_on_songs_at_32_khz(mini_songs, tiny, make_root):
    root = Root.open(make_root(), tiny)
    run = train("Base-32k", profile=tiny, data=mini_songs, device="cpu", root=root)
    assert load_model(run).sample_rate == 32000
    cache, _ = training_cache(resolve(MENU["Base-32k"], tiny), tiny, mini_songs, root)
    assert cache.sample_rate == 32000
    assert run.config["data"]["cache"] == cache.fingerprint


@pytest.mark.parametrize("name", ["A-4", "Base-4"])
def test_four_sources_come_from_the_cache_of_four_stems(name):
    assert cache_sources(resolve(MENU[name], PROFILES["full"])) == ("vocals", "drums", "bass", "other")


def test_a_row_with_stems_learns_from_clips_of_four_and_is_scored_on_two(mini_songs, tiny, root):
    """Its clips' accompaniment then comes from three songs, and its estimates are those of any other row."""
    row = replace(MENU["Base"], name="stems", stems=True, remix=1.0)
    run = train(row, profile=tiny, data=mini_songs, device="cpu", root=root)
    cache, _ = training_cache(resolve(row, tiny), tiny, mini_songs, root)
    assert cache.settings.sources == ("vocals", "drums", "bass", "other")
    assert run.config["data"]["cache"] == cache.fingerprint
    assert cache_sources(run.config) == ("vocals", "accompaniment")
    assert load_model(run).sources == ("vocals",)
    assert run.history()["valid_loss"].notna().all()


def test_clips_of_four_stems_are_refused_where_the_accompaniment_is_estimated(mini_songs, tiny, root):
    with pytest.raises(
        UsageError, match="B estimates accompaniment, but its clips are made of vocals, drums, bass, other"
    ):
        train(replace(MENU["B"], stems=True), profile=tiny, data=mini_songs, device="cpu", root=root)


@pytest.mark.parametrize("name", MENU)
def test_checkpoints_of_every_row_load_with_weights_only(name, tmp_path):
    settings = resolve(MENU[name], PROFILES["demo"])
    narrow = NARROW.get(settings["model"]["name"], {"hidden_size": 8})
    settings["model"] = {**settings["model"], **narrow}
    run = Root.open(tmp_path, "demo").run(f"{name}-s0")
    write_json(run.path / "config.json", settings)
    model = models.build(**settings["model"])
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "epoch": 1}, run.best)
    assert load_checkpoint(run.best)["state_dict"].keys() == state.keys()
    loaded = load_model(run).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
