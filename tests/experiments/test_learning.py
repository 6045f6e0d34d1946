"""Every network and loss of the menu, each pair once: it builds, learns, and stays finite."""

import json

import pytest
import torch

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.experiments import MENU, resolve
from sepkit.profiles import PROFILES
from sepkit.storage import Root, write_json
from sepkit.storage.checkpoints import load_checkpoint, load_model
from sepkit.training.epochs import AtomicCheckpointIO
from sepkit.training.losses import make_loss
from sepkit.training.step import Estimate

NARROW = {
    "demucs-tiny": {"channels": 4},
    "band-split": {"features": 8, "hidden_size": 8, "layers": 1, "mask_hidden_size": 8},
    "tfc-tdf": {"bins": 256, "features": 4, "growth": 4, "scales": 2},
}


def distinct(*parts, profiles=("demo",)):
    """The menu's settings under `profiles`, one of each that differ in `parts`, by the first experiment's name."""
    found = {}
    for profile in profiles:
        for name, experiment in MENU.items():
            settings = resolve(experiment, PROFILES[profile])
            found.setdefault(json.dumps([settings[part] for part in parts]), (f"{profile}-{name}", settings))
    return pytest.mark.parametrize(
        "settings", [of for _, of in found.values()], ids=[name for name, _ in found.values()]
    )


@distinct("model", profiles=PROFILES)
def test_every_network_builds(settings):
    with torch.device("meta"):
        model = models.build(**settings["model"])
    assert model.sample_rate == settings["model"]["sample_rate"]
    assert model.sources[0] == "vocals"


def test_every_augmentation_is_made():
    for experiment in MENU.values():
        make_augment(experiment.augment)


def narrow(settings):
    return {**settings["model"], **NARROW.get(settings["model"]["name"], {"hidden_size": 8})}


def pair(settings):
    return models.build(**narrow(settings)).train(), make_loss(**settings["loss"])


@distinct("model")
def test_its_checkpoint_loads_with_weights_only(settings, tmp_path):
    run = Root.open(tmp_path).run_of(settings["experiment"])
    write_json(run.path / "config.json", {**settings, "model": narrow(settings)})
    model = models.build(**narrow(settings))
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "epoch": 1}, run.best)
    assert load_checkpoint(run.best)["state_dict"].keys() == state.keys()
    loaded = load_model(run).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())


@distinct("model", "loss")
def test_a_few_steps_lower_the_loss(settings):
    torch.manual_seed(0)
    model, loss = pair(settings)
    target = 0.1 * torch.randn(2, len(model.sources), 2, 8192)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3)
    values = []
    for _ in range(6):
        torch.manual_seed(1)  # the same dropout and the same bins
        optimizer.zero_grad()
        value = loss(Estimate(model, target.sum(dim=1)), target)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@distinct("model", "loss")
def test_it_is_finite_on_silence_and_at_full_scale(settings, autocast):
    model, loss = pair(settings)
    shape = (2, len(model.sources), 2, 8192)
    for level in (0.0, 1.0):
        target = level * torch.randn(shape, generator=torch.Generator().manual_seed(0)).sign()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(Estimate(model, target.sum(dim=1)), target)
        value.backward()
        assert torch.isfinite(value)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        if level:
            assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
            with torch.inference_mode():
                assert torch.isfinite(model.eval()(target.sum(dim=1))).all()
