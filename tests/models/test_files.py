"""Checkpoints in openunmix's and demucs's own formats: the network that they hold computes what theirs computes."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from openunmix.model import OpenUnmix, Separator
from openunmix.utils import load_separator

import sepkit
from sepkit import models
from sepkit.errors import SepkitError, UsageError
from sepkit.models.files import network_of, read_weights
from sepkit.models.separation import separate
from tests.models.published import draw, write_demucs, write_openunmix

SMALL = {
    Demucs: {"channels": 4, "depth": 2, "lstm_layers": 1},
    HDemucs: {"channels": 16, "depth": 4, "nfft": 256},
    HTDemucs: {
        "channels": 8,
        "depth": 2,
        "nfft": 512,
        "bottom_channels": 16,
        "t_layers": 1,
        "t_heads": 2,
        "segment": Fraction(6, 5),
    },
}
NOISE = np.random.default_rng(0).normal(0, 0.1, (2, 2 * 44100 + 17)).astype(np.float32)


def apart_db(ours, theirs):
    return 10 * np.log10(np.square(ours - theirs).sum() / np.square(theirs).sum() + 1e-20)


@pytest.mark.parametrize("beside", [True, False], ids=["with vocals.json", "weights alone"])
@pytest.mark.parametrize("max_bin", [372, None], ids=["16 kHz", "all bins"])
def test_openunmix_separates_the_same(beside, max_bin, tmp_path):
    file = write_openunmix(tmp_path / "vocals.pth", hidden_size=16, n_fft=1024, max_bin=max_bin, beside=beside)
    model, settings = network_of(file)
    assert (settings["hidden_size"], settings["n_fft"], settings["hop_length"]) == (16, 1024, 256)
    if beside:
        theirs = load_separator(str(tmp_path), targets=["vocals"], niter=0).eval()
    else:
        network = OpenUnmix(513, 2, 16, max_bin=max_bin)
        network.load_state_dict(torch.load(file, weights_only=True), strict=False)
        theirs = Separator({"vocals": network}, niter=0, n_fft=1024, n_hop=256).eval()
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(NOISE)[None])[0, 0].numpy()
    assert np.abs(expected).max() > 1e-3
    assert apart_db(separate(model, NOISE)["vocals"], expected) < -80


def test_openunmix_filters_the_same(tmp_path):
    """One step of the Wiener filter, the residual beside the vocals; over more than one of its windows."""
    file = write_openunmix(tmp_path / "vocals.pth", hidden_size=16, n_fft=512)
    model, settings = network_of(file, wiener=True)
    assert settings["wiener"]
    # ours are windows of the same seconds at any hop, theirs 300 frames: 1200 at a quarter of the hop
    theirs = load_separator(str(tmp_path), targets=["vocals"], niter=1, residual=True, wiener_win_len=2400).eval()
    mixture = np.tile(NOISE, 4)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(mixture)[None])[0, 0].numpy()
    assert apart_db(separate(model, mixture)["vocals"], expected) < -80
    assert apart_db(separate(network_of(file)[0], mixture)["vocals"], expected) > -60


@pytest.mark.parametrize("klass", SMALL, ids=lambda klass: klass.__name__)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_demucs_separates_the_same(klass, half, tmp_path):
    theirs = write_demucs(tmp_path / "net.th", klass, half=half, **SMALL[klass])
    model, settings = network_of(tmp_path / "net.th")
    assert model.sources == ("drums", "bass", "other", "vocals")
    assert json.loads(json.dumps(settings))["klass"] == klass.__name__
    mixture = torch.from_numpy(NOISE[None, :, : 44100 if klass is HTDemucs else None])
    mono = mixture.mean(dim=1)
    with torch.inference_mode():
        expected = (theirs((mixture - mono.mean()) / mono.std()) * mono.std() + mono.mean())[0].numpy()
    ours = separate(model, mixture[0].numpy())
    for source, wanted in zip(model.sources, expected, strict=True):
        assert apart_db(ours[source], wanted) < -80
    assert set(ours) == {*model.sources, "accompaniment"}


def test_htdemucs_hears_chunks_as_long_as_its_segment(tmp_path):
    write_demucs(tmp_path / "net.th", HTDemucs, **SMALL[HTDemucs])
    assert network_of(tmp_path / "net.th")[0].chunk_s == pytest.approx(1.2)


def test_what_is_no_such_checkpoint_is_told_in_a_sentence(tmp_path):
    file = tmp_path / "vocals.pth"
    with pytest.raises(UsageError, match=r"There is no file .*vocals\.pth"):
        read_weights(file)
    for content in (b"", b"<html>"):
        file.write_bytes(content)
        with pytest.raises(SepkitError, match=r"vocals\.pth can't be read as weights"):
            read_weights(file)
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(SepkitError, match="found neither's weights"):
        read_weights(file)
    torch.save({"klass": np.random.RandomState, "state": {}}, file)
    with pytest.raises(SepkitError, match=r"it names .*RandomState.*run code"):
        read_weights(file)
    write_demucs(file, Demucs, **SMALL[Demucs])
    package = {**torch.load(file, weights_only=False), "state": {"__quantized": True}}
    torch.save(package, file)
    with pytest.raises(SepkitError, match="quantised, which needs diffq"):
        read_weights(file)


@pytest.mark.parametrize("settings", [{"nb_channels": 1}, {"unidirectional": True}])
def test_openunmix_of_another_shape_is_refused(settings, tmp_path):
    network = draw(OpenUnmix, **{"nb_bins": 257, "nb_channels": 2, "hidden_size": 16, **settings})
    torch.save(network.state_dict(), tmp_path / "vocals.pth")
    with pytest.raises(SepkitError, match="mono or unidirectional"):
        read_weights(tmp_path / "vocals.pth")


@pytest.mark.parametrize("name", ["mdx_extra.th", "e51eebcc-c1b80bdd.th", "83fc094f-4a16d450.th"])
def test_networks_that_know_the_test_songs_are_refused(name, tmp_path):
    write_demucs(tmp_path / name, Demucs, **SMALL[Demucs])
    with pytest.raises(UsageError, match="was trained on MUSDB18's test songs"):
        read_weights(tmp_path / name)


def test_separate_takes_a_file_and_its_filter(tmp_path, mini_songs):
    file = write_openunmix(tmp_path / "vocals.pth", hidden_size=16)
    song = next((mini_songs / "test").iterdir()) / "mixture.wav"
    plain = sepkit.separate(song, weights=file, out=tmp_path / "plain", root=tmp_path / "root")
    filtered = sepkit.separate(song, weights=file, wiener=True, out=tmp_path / "filtered", root=tmp_path / "root")
    assert [file.name for file in plain] == ["mixture.vocals.wav", "mixture.accompaniment.wav"]
    assert plain[0].read_bytes() != filtered[0].read_bytes()
    write_demucs(tmp_path / "net.th", Demucs, **SMALL[Demucs])
    with pytest.raises(UsageError, match="net is no network of openunmix"):
        sepkit.separate(song, weights=tmp_path / "net.th", wiener=True, root=tmp_path / "root")
    assert models.names().count("demucs") == 1
