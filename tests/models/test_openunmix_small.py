"""Open-Unmix-small: its size, its bounded mask, and agreement with openunmix's own forward."""

import pickle

import pytest
import torch
from openunmix.model import OpenUnmix

from sepkit import models
from sepkit.dsp import STFT
from sepkit.errors import UsageError
from sepkit.models.mask import magnitude_statistics
from sepkit.models.openunmix_small import Model
from sepkit.models.trunk_and_heads import BOUNDS
from sepkit.models.weights import load_weights


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**settings):
    torch.manual_seed(0)
    return Model(**{"hidden_size": 16, **settings}).eval()


def test_the_plans_size():
    with torch.device("meta"):
        model = models.build("openunmix-small")
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_086_088
    gru = model.core.lstm
    assert isinstance(gru, torch.nn.GRU)
    assert (gru.num_layers, gru.bidirectional, 2 * gru.hidden_size) == (3, True, 384)


@pytest.mark.parametrize("training", [True, False])
def test_with_the_lstm_and_relu_put_back_it_is_openunmix(training):
    torch.manual_seed(1)
    theirs = OpenUnmix(nb_bins=513, nb_channels=2, hidden_size=16)
    ours = small(mask_bound="relu")
    ours.core.lstm = theirs.lstm
    mean, scale = torch.linspace(0.1, 1, 513), torch.linspace(1, 2, 513)
    theirs.input_mean.data, theirs.input_scale.data = -mean, 1 / scale
    load_weights(ours, {f"core.{key}": value for key, value in theirs.state_dict().items()}, "openunmix")
    magnitude = STFT()(noise(3, 2, 20000)).abs()
    with torch.no_grad():
        torch.manual_seed(2)  # the same dropout
        expected = theirs.train(training)(magnitude)
        torch.manual_seed(2)
        found = ours.train(training).mask(magnitude)[:, 0] * magnitude
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected)


def test_statistics_are_set_as_openunmix_sets_them():
    mean, scale = torch.rand(513) + 0.1, torch.rand(513) + 0.1
    theirs = OpenUnmix(nb_bins=513, nb_channels=2, hidden_size=16, input_mean=mean.numpy(), input_scale=scale.numpy())
    ours = small()
    ours.set_statistics(mean, scale, torch.tensor(1.0))
    torch.testing.assert_close(ours.core.input_mean, theirs.input_mean)
    torch.testing.assert_close(ours.core.input_scale, theirs.input_scale)


def test_statistics_of_a_known_signal():
    stft = STFT(64, 16)
    mixtures = [noise(2, 5000, seed=seed) for seed in range(3)]
    frames = torch.cat([stft(mixture).abs().mean(dim=0) for mixture in mixtures], dim=-1).double()
    mean, scale, level = magnitude_statistics(stft(mixture).abs() for mixture in mixtures)
    torch.testing.assert_close(mean, frames.mean(dim=-1).float())
    torch.testing.assert_close(scale, frames.std(dim=-1, correction=0).float())
    powers = [stft(mixture).abs().square().mean() for mixture in mixtures]
    torch.testing.assert_close(level, torch.stack(powers).sqrt().mean())


def test_statistics_of_silence_stay_finite():
    mean, scale, level = magnitude_statistics([STFT(64, 16)(torch.zeros(2, 5000)).abs()])
    assert not mean.any()
    assert level == 0
    assert not (1 / scale).any()


@pytest.mark.parametrize("name", ["openunmix-small", "openunmix-multitask", "openunmix-complex"])
def test_bins_that_training_songs_lack_are_not_heard(name):
    """Songs from AAC end at some 16 kHz; a song that goes on beyond, or is pitched up, keeps its masks below."""
    torch.manual_seed(0)
    songs = [STFT()(noise(2, 30000, seed=seed)) for seed in range(3)]
    empty = torch.arange(513)[:, None] > 380
    cut = [torch.where(empty, 1e-5, 1.0) * song for song in songs]
    model = models.build(name, hidden_size=16, levelled="never").eval()
    model.set_statistics(*magnitude_statistics(song.abs() for song in cut))
    beyond = torch.where(empty, songs[1], cut[0])[None]
    with torch.inference_mode():
        one, other = (model.spectra(spectrum)[..., :381, :] for spectrum in (cut[0][None], beyond))
    assert one.abs().max() > 1
    torch.testing.assert_close(other, one)


@pytest.mark.parametrize(("bound", "low", "high"), [("sigmoid", 0, 1), ("clamp", 0, 1), ("relu", 0, torch.inf)])
def test_masks_keep_their_bounds(bound, low, high):
    model = small(mask_bound=bound)
    with torch.no_grad():
        model.heads[0].output_scale.mul_(50)
        model.heads[0].bn3.weight.mul_(5)
        mask = model.train().mask(STFT()(noise(2, 2, 20000)).abs())
    assert mask.shape == (2, 1, 2, 513, 79)
    assert mask.min() >= low
    assert mask.max() <= high
    assert mask.max() > 0.99
    assert mask.min() < 0.01
    if bound == "relu":
        assert mask.max() > 2


@pytest.mark.parametrize("length", [1, 100, 1000, 22050, 22051])
def test_forward_keeps_the_length(length):
    estimate = small()(noise(2, 2, length))
    assert estimate.shape == (2, 1, 2, length)
    assert torch.isfinite(estimate).all()


def test_a_mask_of_one_gives_the_mixture_back():
    model = small(mask_bound="clamp")
    with torch.no_grad():
        model.heads[0].output_scale.zero_()
        model.heads[0].output_mean.fill_(3)
        mixture = noise(1, 2, 30001)
        torch.testing.assert_close(model(mixture)[:, 0], mixture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_fft", [1024, 1280, 4096])
@pytest.mark.parametrize("training", [True, False])
def test_it_runs_and_trains_under_autocast(n_fft, training):
    """S24."""
    model = small(n_fft=n_fft).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = model(noise(2, 2, 20000))
        loss = (estimate - noise(2, 1, 2, 20000, seed=1)).abs().mean()
    loss.backward()
    assert estimate.dtype == torch.float32
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


def test_silence_gives_silence_and_finite_gradients():
    model = small().train()
    estimate = model(torch.zeros(2, 2, 20000))
    assert not estimate.any()
    estimate.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_all_parameters_are_real():
    """S25: a gradient scaler knows no complex ones."""
    assert not any(parameter.is_complex() for parameter in small().parameters())


@pytest.mark.parametrize("bound", BOUNDS)
def test_models_can_be_pickled(bound):
    model = small(mask_bound=bound)
    mixture = noise(1, 2, 5000)
    assert torch.equal(pickle.loads(pickle.dumps(model))(mixture), model(mixture))


def test_wrong_names_are_wrong_calls():
    with pytest.raises(UsageError, match=r"no model 'umx'; expected one of band-split, .*openunmix-small"):
        models.build("umx")
    with pytest.raises(UsageError, match=r"openunmix-small has no setting hidden; it takes sources, .*hidden_size"):
        models.build("openunmix-small", hidden=64)
    with pytest.raises(UsageError, match="no mask bound 'softplus'; expected one of sigmoid, relu, clamp"):
        small(mask_bound="softplus")
    with pytest.raises(UsageError, match="estimates one source"):
        small(sources=("vocals", "drums"))


def test_a_new_network_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text(
        "from sepkit.models.mask import MaskModel\n\n\n"
        "class Model(MaskModel):\n"
        "    def __init__(self, sources=('vocals',), sample_rate=44100):\n"
        "        super().__init__(sources, sample_rate, 1024, 256)\n\n"
        "    def mask(self, magnitude):\n"
        "        return 0.5 * magnitude.new_ones(magnitude.shape).unsqueeze(1)\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert "half" in models.names()
    mixture = noise(1, 2, 5000)
    torch.testing.assert_close(models.build("half")(mixture)[:, 0], 0.5 * mixture, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="half has no published weights"):
        models.build("half").load_pretrained()
