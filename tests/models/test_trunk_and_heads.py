"""Open-Unmix's trunk and heads: the weights that a seed draws, and checkpoints from before they were apart."""

import pytest
import torch
from openunmix.model import OpenUnmix
from torch import nn

from sepkit import models
from sepkit.storage import Root, write_json
from sepkit.storage.checkpoints import load_checkpoint, load_model
from sepkit.training.fit import AtomicCheckpointIO

TINY = {"n_fft": 64, "hop_length": 16, "hidden_size": 8, "layers": 2}

# sums of the weights that seed 3 drew before the networks were composed of trunk and heads, and what is drawn next
TRUNK = {"core.lstm.weight_hh_l1_reverse": -0.192802, "core.fc2.weight": 1.003275}
DRAWN = {
    "openunmix-small": ({**TRUNK, "core.fc1.weight": -2.392647, "heads.0.fc3.weight": 0.618014}, 0.9585315585136414),
    "openunmix-complex": ({**TRUNK, "core.fc1.weight": -3.767476, "heads.0.fc3.weight": -5.025845}, 0.7333701252937317),
    "openunmix-multitask": (
        {**TRUNK, "core.fc1.weight": -2.392647, "heads.0.fc3.weight": -7.553531, "heads.1.fc3.weight": -4.432157},
        0.8863145709037781,
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_draws_the_weights_that_it_always_drew(name):
    expected, following = DRAWN[name]
    torch.manual_seed(3)
    state = models.build(name, **TINY).state_dict()
    assert float(torch.rand(1)) == following
    for key, total in expected.items():
        assert float(state[key].double().sum()) == pytest.approx(total, abs=2e-6), key


@pytest.fixture
def old():
    """Base's network as it was composed before: openunmix's own, its LSTM replaced by a GRU."""
    torch.manual_seed(5)
    network = nn.Module()
    network.core = OpenUnmix(nb_bins=33, nb_channels=2, hidden_size=8, nb_layers=2)
    network.core.lstm = nn.GRU(8, 4, 2, bidirectional=True, dropout=0.4)
    return network


def test_a_checkpoint_from_before_gives_the_same_network_and_goes_on_with_the_same_optimiser(old, tmp_path):
    optimizer = torch.optim.AdamW(old.parameters(), lr=0.01)
    for parameter in old.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    run = Root.open(tmp_path, "demo").run("Base-s0")
    write_json(run.path / "config.json", {"model": {"name": "openunmix-small", **TINY}})
    checkpoint = {
        "epoch": 1,
        "state_dict": {f"model.{key}": value for key, value in old.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
    }
    AtomicCheckpointIO().save_checkpoint(checkpoint, run.best)

    model = load_model(run)
    magnitude = torch.rand(1, 2, 33, 9)
    with torch.inference_mode():
        mask = torch.sigmoid(old.eval().core(magnitude) / magnitude)  # relu · magnitude is what it gives
        found = model.mask(magnitude)[:, 0]
    positive = found > 0.5  # where its ReLU lets through what the sigmoid bounds
    torch.testing.assert_close(found[positive], mask[positive])

    resumed = torch.optim.AdamW(model.parameters(), lr=0.01)
    resumed.load_state_dict(load_checkpoint(run.best)["optimizer_states"][0])
    moments = {name: optimizer.state[parameter]["exp_avg"] for name, parameter in old.core.named_parameters()}
    for name, parameter in model.named_parameters():
        own = name.removeprefix("core.").removeprefix("heads.0.")
        assert torch.equal(resumed.state[parameter]["exp_avg"], moments[own]), name
