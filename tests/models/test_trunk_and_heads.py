"""Open-Unmix's trunk and heads: the weights that a seed draws, and those of openunmix itself."""

import pytest
import torch
from openunmix.model import OpenUnmix
from torch import nn

from sepkit import models
from sepkit.models.weights import load_weights

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
    """openunmix's own network, its LSTM replaced by a GRU."""
    torch.manual_seed(5)
    network = nn.Module()
    network.core = OpenUnmix(nb_bins=33, nb_channels=2, hidden_size=8, nb_layers=2)
    network.core.lstm = nn.GRU(8, 4, 2, bidirectional=True, dropout=0.4)
    return network


def test_weights_of_openunmix_s_own_layers_give_the_same_network(old):
    model = models.build("openunmix-small", **TINY).eval()
    load_weights(model, old.state_dict(), "a file")
    magnitude = torch.rand(1, 2, 33, 9)
    with torch.inference_mode():
        mask = torch.sigmoid(old.eval().core(magnitude) / magnitude)  # relu · magnitude is what it gives
        found = model.mask(magnitude)[:, 0]
    positive = found > 0.5  # where its ReLU lets through what the sigmoid bounds
    torch.testing.assert_close(found[positive], mask[positive])


@pytest.mark.parametrize("name", [*DRAWN, "umxhq"])
def test_the_input_mean_is_not_trained_since_batch_normalisation_takes_it_away(name):
    torch.manual_seed(7)
    more = {"trainable": "all", "frozen_statistics": False} if name == "umxhq" else {"dropout": 0.0}
    model = models.build(name, **TINY, **more).train()
    model.core.lstm.dropout = 0.0
    spectrum = torch.randn(2, 2, 33, 20, dtype=torch.complex64)
    before = model.spectra(spectrum)
    with torch.no_grad():
        model.core.input_mean += 3.0
    torch.testing.assert_close(model.spectra(spectrum), before, atol=2e-3, rtol=1e-3)

    rates = {"lr": 0.01, "weight_decay": 0.01}
    mean, scale = model.core.input_mean.clone(), model.core.input_scale.clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **rates)
    for _ in range(3):
        optimizer.zero_grad()
        model.spectra(spectrum).abs().mean().backward()
        optimizer.step()
    assert torch.equal(model.core.input_mean, mean) and not torch.equal(model.core.input_scale, scale)
