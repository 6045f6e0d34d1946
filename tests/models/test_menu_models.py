"""The menu's networks: sizes, lengths, what learns, and openunmix and demucs themselves as references."""

import copy
import importlib
import inspect
from itertools import pairwise

import openunmix
import pytest
import torch
from openunmix import filtering
from openunmix.model import OpenUnmix, Separator
from openunmix.utils import bandwidth_to_max_bin

from sepkit import models
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.scoring import reference
from sepkit.models import band_split, trunk_and_heads, umxhq
from sepkit.models.weights import load_weights, renamed

NARROW = {
    "openunmix-small": {"hidden_size": 16},
    "openunmix-multitask": {"hidden_size": 16},
    "demucs-tiny": {"channels": 4},
    "demucs": {"klass": "Demucs", "sources": ("vocals",), "arguments": {"channels": 4, "depth": 3}},
    "umxhq": {"hidden_size": 16},
    "openunmix-complex": {"hidden_size": 16},
    "band-split": {"features": 8, "hidden_size": 8, "layers": 1, "mask_hidden_size": 8},
    "tfc-tdf": {"bins": 256, "features": 4, "growth": 4, "scales": 2},
}


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(model, trainable=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("openunmix-multitask", {}, 3_483_150),
        ("demucs-tiny", {}, 4_331_940),
        ("demucs-tiny", {"lstm_layers": 0}, 1_570_980),
        ("umxhq", {}, 8_893_348),
        ("openunmix-complex", {}, 4_271_118),
        ("band-split", {}, 3_597_896),
        ("tfc-tdf", {}, 605_504),
    ],
)
def test_parameters(name, settings, parameters):
    with torch.device("meta"):
        assert count(models.build(name, **settings)) == parameters


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("samples", [1, 2, 700, 4096, 22051])
def test_any_length_goes_through_and_keeps_its_length(name, samples):
    torch.manual_seed(0)
    model = models.build(name, **NARROW[name]).eval()
    with torch.inference_mode():
        output = model(noise(2, 2, samples))
    assert output.shape == (2, len(model.sources), 2, samples)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", models.names())
def test_a_clip_does_not_depend_on_the_others_of_its_batch(name):
    torch.manual_seed(0)
    model = models.build(name, **NARROW[name]).eval()
    mixture = noise(2, 2, 9000)
    with torch.inference_mode():
        torch.testing.assert_close(model(mixture)[1:], model(mixture[1:]), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", models.names())
def test_weights_go_into_a_network_built_from_the_same_settings(name):
    first, second = (models.build(name, **NARROW[name]).eval() for _ in range(2))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.inference_mode():
        torch.testing.assert_close(second(noise(1, 2, 9000)), first(noise(1, 2, 9000)), atol=0, rtol=0)


def test_the_heads_share_the_trunk_of_open_unmix_small():
    with torch.device("meta"):
        two, one = models.build("openunmix-multitask"), models.build("openunmix-small")
    second = {key for key in two.state_dict() if key.startswith("heads.1.")}
    assert second
    assert set(two.state_dict()) - second == set(one.state_dict())


def test_a_head_computes_what_open_unmix_small_does_with_the_same_weights():
    torch.manual_seed(0)
    two, one = (models.build("openunmix-multitask", hidden_size=16), models.build("openunmix-small", hidden_size=16))
    state = two.state_dict()
    one.load_state_dict({key: state[key.replace("heads.0.", "heads.1.")] for key in one.state_dict()})
    magnitude = noise(2, 2, 513, 20).abs()
    with torch.inference_mode():
        torch.testing.assert_close(two.eval().mask(magnitude)[:, 1:], one.eval().mask(magnitude))


@pytest.mark.parametrize("name", ["openunmix-complex", "band-split", "tfc-tdf"])
def test_a_complex_mask_turns_the_phase(name):
    torch.manual_seed(0)
    model = models.build(name, **NARROW[name]).eval()
    spectrum = model.stft(noise(1, 2, 20000))
    turned = model.spectra(spectrum)[:, 0] / spectrum
    assert turned.angle().abs().max() > 0.01
    assert model.spectra(spectrum).shape == (1, 1, *spectrum.shape[1:])
    # the network sees the phase: the same magnitudes with other phases give another mask
    other = torch.polar(spectrum.abs(), spectrum.angle() + 1)
    assert not torch.allclose(model.spectra(other)[:, 0] / other, turned, atol=1e-4)


def test_a_complex_mask_begins_near_the_half_of_the_mixture():
    torch.manual_seed(0)
    model = models.build("openunmix-complex", **NARROW["openunmix-complex"]).train()
    mixture = noise(2, 2, 20000)
    assert (model(mixture)[:, 0] - 0.5 * mixture).std() < 0.25 * mixture.std()


@pytest.mark.parametrize("rate", [44100, 32000, 22050, 8000])
@pytest.mark.parametrize("n_fft", [1024, 2048, 4096])
def test_bands_cover_every_bin_once(rate, n_fft):
    edges = band_split.band_edges(n_fft // 2 + 1, rate / n_fft)
    assert edges[0] == 0
    assert edges[-1] == n_fft // 2 + 1
    assert all(start < stop for start, stop in pairwise(edges))


def test_bands_lie_where_their_frequencies_are_and_hear_each_other():
    torch.manual_seed(0)
    model = models.build("band-split", **NARROW["band-split"]).eval()
    assert len(model.edges) == 30
    bin_hz = 44100 / 4096
    for frequency in (100, 1000, 4000, 8000, 16000):
        assert min(abs(edge * bin_hz - frequency) for edge in model.edges) < bin_hz
    spectrum = model.stft(noise(1, 2, 60000)).requires_grad_()
    gradient = torch.autograd.grad(model.spectra(spectrum)[0, 0, 0, 50, 20].abs(), spectrum)[0].abs()
    assert (gradient[0].amax(dim=(0, 2)) > 0).all()  # of every bin
    assert (gradient[0].amax(dim=(0, 1)) > 0).all()  # and every frame


def test_demucs_tiny_normalises_inside():
    torch.manual_seed(0)
    model = models.build("demucs-tiny", **NARROW["demucs-tiny"]).eval()
    mixture = noise(1, 2, 8000)
    with torch.inference_mode():
        torch.testing.assert_close(model(10 * mixture), 10 * model(mixture), rtol=1e-2, atol=1e-4)


def test_demucs_that_cannot_be_imported_is_one_sentence(monkeypatch):
    load = importlib.import_module

    def without_demucs(name, *rest):
        if name.startswith("demucs"):
            raise ImportError("libtorchaudio.so: undefined symbol")
        return load(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_demucs)
    with pytest.raises(SepkitError, match=r"undefined symbol.*pip install 'demucs"):
        models.build("demucs-tiny")


@pytest.mark.parametrize("settings", [{"channels": 6}, {"depth": 0}, {"lstm_layers": -1}])
def test_demucs_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        models.build("demucs-tiny", **settings)


@pytest.mark.parametrize(("rate", "n_fft"), [(44100, 4096), (22050, 4096), (32000, 4096), (44100, 2048)])
def test_the_bandwidth_is_counted_as_openunmix_counts_it(rate, n_fft):
    with torch.device("meta"):
        model = models.build("umxhq", sample_rate=rate, n_fft=n_fft, hidden_size=16)
    assert len(model.core.input_mean) == bandwidth_to_max_bin(rate, n_fft, 16000)


@pytest.fixture(scope="module")
def published():
    """(the network as openunmix builds it, with weights drawn; its state as it would be published)."""
    torch.manual_seed(3)
    core = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=512, max_bin=1487)
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for layer in (core.bn1, core.bn2, core.bn3):
        layer.running_mean.normal_(std=0.1)
        layer.running_var.uniform_(0.5, 2)
    return core.eval(), {**core.state_dict(), "sample_rate": torch.tensor(44100.0)}


@pytest.fixture
def weights_folder(published, tmp_path, monkeypatch):
    """A folder of torch's downloads that holds the weights, under their name."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "vocals-b62c91ce.pth"
    file.parent.mkdir()
    torch.save(published[1], file)
    return file


def test_umxhq_with_published_weights_computes_what_openunmix_computes(published, weights_folder):
    model = models.build("umxhq").eval()
    model.load_pretrained()
    core, _ = published
    mixture = noise(1, 2, 3 * 44100 + 17)
    with torch.inference_mode():
        magnitude = model.stft(mixture).abs()
        masked = model.mask(magnitude)[:, 0] * magnitude
        torch.testing.assert_close(masked, core(magnitude), rtol=1e-4, atol=1e-5)
        separated = Separator({"vocals": core}, niter=0, n_fft=4096, n_hop=1024).eval()(mixture)
        torch.testing.assert_close(model(mixture), separated, rtol=1e-3, atol=1e-5)
    assert separated.abs().max() > 1e-3


def test_only_the_last_recurrent_layer_learns_and_the_statistics_stay(published, weights_folder):
    torch.manual_seed(0)
    model = models.build("umxhq").train()
    model.load_pretrained()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    target = noise(1, 1, 2, 30000)
    model(target[:, 0]).sub(target).square().mean().backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert moved == {f"core.lstm.{kind}_l2{way}" for kind in kinds for way in ("", "_reverse")}
    assert count(model, trainable=True) == 1_576_960
    assert model.core.lstm.training  # its dropout works
    assert not model.core.bn2.training


def test_trained_from_the_start_everything_learns():
    torch.manual_seed(0)
    model = models.build("umxhq", hidden_size=16, trainable="all", frozen_statistics=False).train()
    before = model.core.bn1.running_mean.clone()
    model(noise(2, 2, 9000)).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["core.input_mean"]
    assert not torch.equal(model.core.bn1.running_mean, before)


def test_without_network_only_the_published_weights_are_missing_and_the_error_says_where_they_go(no_network):
    models.build("umxhq", **NARROW["umxhq"])
    with pytest.raises(SepkitError) as caught:
        models.build("umxhq").load_pretrained()
    message = str(caught.value)
    assert "https://zenodo.org/records/3370489/files/vocals-b62c91ce.pth" in message
    assert str(no_network / "checkpoints" / "vocals-b62c91ce.pth") in message
    assert "403" in message
    assert "by hand" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"<html>maintenance</html>", None], ids=["empty", "a page", "cut off"])
def test_a_file_that_is_not_the_weights_is_named(weights_folder, content):
    weights_folder.write_bytes(weights_folder.read_bytes()[:5000] if content is None else content)
    with pytest.raises(SepkitError, match=r"vocals-b62c91ce.pth can't be read.*by hand"):
        models.build("umxhq").load_pretrained()


def test_weights_of_a_gru_or_of_other_sizes_are_refused():
    model = models.build("umxhq", hidden_size=16)
    gru = models.build("openunmix-small", hidden_size=16, n_fft=4096, hop_length=1024).state_dict()
    with pytest.raises(SepkitError, match=r"in run\.ckpt do not fit"):
        load_weights(model, gru, "run.ckpt")
    wide = models.build("umxhq", hidden_size=32).state_dict()
    with pytest.raises(SepkitError, match=r"in run\.ckpt do not fit.*\(16,.*\(32,"):
        load_weights(model, wide, "run.ckpt")
    with pytest.raises(SepkitError, match=r"core\.fc1\.weight is not in the file"):
        load_weights(model, {k: v for k, v in model.state_dict().items() if "fc1" not in k}, "run.ckpt")


def test_starting_from_another_run_copies_its_weights_and_statistics():
    torch.manual_seed(0)
    first = models.build("umxhq", hidden_size=16, trainable="all", frozen_statistics=False).train()
    first(noise(2, 2, 9000))
    second = models.build("umxhq", hidden_size=16)
    load_weights(second, first.state_dict(), "UMX-s0/best.ckpt")
    for key, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value, atol=0, rtol=0)


def test_unknown_settings_of_umxhq_are_refused():
    with pytest.raises(UsageError, match="last_layer"):
        models.build("umxhq", trainable="first_layer")
    with pytest.raises(UsageError, match=r"accompaniment.*vocals"):
        umxhq.fetch("accompaniment")


def test_addresses_are_those_that_openunmix_itself_reads():
    source = inspect.getsource(openunmix.umxhq_spec)
    assert all(umxhq.URL.format(file) in source for file in umxhq.FILES.values())


def test_weights_are_found_where_openunmix_finds_them(published, tmp_path, monkeypatch):
    _, state = published
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "vocals-b62c91ce.pth")
    model = models.build("umxhq")
    model.load_pretrained()
    own = model.state_dict()
    theirs = openunmix.umxhq_spec(targets=["vocals"], device="cpu")["vocals"].state_dict()
    theirs = renamed({f"core.{key}": value for key, value in theirs.items()})
    assert own.pop("core.level") == 0  # heard as they are, as openunmix hears them
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.parametrize("name", models.CONTAMINATED)
def test_models_that_know_the_test_songs_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} was trained on MUSDB18's test songs"):
        models.build(name)
    with pytest.raises(UsageError, match=f"{name} was trained"):
        reference(name)


def two_tones(seconds=0.5):
    """(vocals, accompaniment), (1, 2, time): in the same bins, one in the middle, one on the left."""
    voice = noise(1, 1, round(seconds * 44100), seed=1).expand(1, 2, -1)
    other = torch.stack([noise(1, round(seconds * 44100), seed=2), torch.zeros(1, round(seconds * 44100))], dim=1)
    return voice, other


def test_the_wiener_filter_uses_where_the_sources_stand():
    """Both sources in every bin with the same power: masks alone can't tell them apart, their places can."""
    voice, other = two_tones()
    model = models.build("openunmix-multitask", hidden_size=16)
    sources = torch.stack([voice, other], dim=1)
    truth = model.stft(sources)
    mixture = truth.sum(dim=1)
    masked = truth.abs() / truth.abs().sum(dim=1, keepdim=True).clamp_min(1e-10) * mixture.unsqueeze(1)
    filtered = trunk_and_heads.wiener(masked, mixture)
    error = [float((estimate - truth).abs().square().sum()) for estimate in (masked, filtered)]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("sources", [1, 2, 4])
@pytest.mark.parametrize("level", [1e-3, 1, 50])
def test_the_wiener_filter_is_openunmixs(sources, level):
    """Two clips, one of them mono, whose matrices are nearly singular, with a silent band, against `openunmix.filtering`."""
    generator = torch.Generator().manual_seed(sources)
    mixture = level * torch.randn(2, 2, 9, 40, dtype=torch.complex128, generator=generator)
    mixture[1, 1] = mixture[1, 0]
    mixture[:, :, 3] = 0
    masked = torch.rand(2, sources, 2, 9, 40, dtype=torch.float64, generator=generator) * mixture.unsqueeze(1)
    masked[1, :, 1] = masked[1, :, 0]
    theirs = [
        filtering.wiener(
            magnitudes.abs().permute(3, 2, 1, 0),
            torch.view_as_real(clip.permute(2, 1, 0).contiguous()),
            iterations=1,
            residual=sources == 1,
        )
        for magnitudes, clip in zip(masked, mixture, strict=True)
    ]
    expected = torch.view_as_complex(torch.stack(theirs).permute(0, 5, 3, 2, 1, 4).contiguous())[:, :sources]
    ours = trunk_and_heads.wiener(masked, mixture)
    # theirs takes ε in float32; that is all the difference
    torch.testing.assert_close(ours, expected, atol=1e-7 * level, rtol=1e-6)


def test_the_wiener_filter_works_at_inference_alone_and_bears_silence():
    torch.manual_seed(0)
    model = models.build("openunmix-multitask", hidden_size=16, wiener=True)
    plain = models.build("openunmix-multitask", hidden_size=16)
    plain.load_state_dict(model.state_dict())
    mixture = noise(2, 2, 9000)
    with torch.inference_mode():
        torch.manual_seed(1)
        training = model.train()(mixture)
        torch.manual_seed(1)
        torch.testing.assert_close(training, plain.train()(mixture), atol=0, rtol=0)
        plain.load_state_dict(model.state_dict())
        filtered = model.eval()(mixture)
        assert not torch.allclose(filtered, plain.eval()(mixture), atol=1e-4)
        torch.testing.assert_close(filtered.sum(dim=1), mixture, atol=2e-3, rtol=0)  # it hands out the mixture
        assert model(0 * mixture).abs().max() == 0


@pytest.mark.parametrize("samples", [4410, 7 * 8000 + 300])
def test_windows_of_the_wiener_filter_join(samples):
    torch.manual_seed(0)
    model = models.build("openunmix-multitask", hidden_size=16, wiener=True, sample_rate=8000).eval()
    with torch.inference_mode():
        output = model(noise(1, 2, samples))
    assert output.shape == (1, 2, 2, samples)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("samples", [1, 100, 1023, 44100, 44101])
@pytest.mark.parametrize("settings", [{}, {"lstm_layers": 0}, {"sources": ("vocals", "drums", "bass", "other")}])
def test_demucs_tiny_is_as_long_as_its_input(settings, samples):
    model = models.build("demucs-tiny", channels=4, **settings).eval()
    with torch.inference_mode():
        assert model(noise(1, 2, samples)).shape == (1, len(model.sources), 2, samples)


def test_the_u_net_fills_its_bins_whatever_the_level_and_leaves_silence_silent():
    torch.manual_seed(0)
    model = models.build("tfc-tdf", **NARROW["tfc-tdf"]).eval()
    spectrum = model.stft(noise(1, 2, 30000))
    with torch.inference_mode():
        estimate = model.spectra(spectrum)
        assert (estimate[:, :, :, model.bins :] == 0).all()
        assert (estimate[:, :, :, : model.bins].abs().amax(dim=(0, 1, 2, 4)) > 0).all()
        torch.testing.assert_close(model.spectra(100 * spectrum), 100 * estimate, rtol=1e-3, atol=1e-2)
        assert (model.spectra(torch.zeros_like(spectrum)) == 0).all()


def test_the_u_net_joins_what_it_cut():
    model = models.build("tfc-tdf", **NARROW["tfc-tdf"])
    parts = noise(2, 4, 8, 256)
    assert torch.equal(model._join(model._cut(parts)), parts)
    # neighbouring bands lie in neighbouring channels
    assert torch.equal(model._cut(parts)[:, 1], parts[:, 0, :, 64:128])


def test_the_u_net_refuses_bins_that_its_scales_do_not_divide():
    with pytest.raises(UsageError, match=r"multiple of 256.*got 1000"):
        models.build("tfc-tdf", bins=1000)
    with pytest.raises(UsageError, match="at most 513"):
        models.build("tfc-tdf", n_fft=1024, hop_length=256)
