"""A whole song through a model: length, rate, chunks, bytes, memory and refusals."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sepkit.errors import SepkitError
from sepkit.models import Network, build, names
from sepkit.models.mask import MaskModel, magnitude_statistics
from sepkit.models.openunmix_small import Model
from sepkit.models.separation import complete, separate, stream


class Identity(nn.Module, Network):
    """Hands the mixture back as each source: without context, chunks can't change anything."""

    def __init__(self, sources=("vocals",), sample_rate=44100, gain=1.0):
        super().__init__()
        self.sources, self.sample_rate, self.gain = sources, sample_rate, gain
        self.lengths = []

    def forward(self, mixture):
        self.lengths.append(mixture.shape[-1])
        assert mixture.shape[-1] > 0
        if self.gain == 1 and len(self.sources) == 1:
            return mixture[:, None]  # a view of what it was given
        return self.gain * mixture[:, None].expand(-1, len(self.sources), -1, -1)


def noise(length, channels=2, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (channels, length)).astype(np.float32)


def small():
    torch.manual_seed(0)
    return Model(hidden_size=16)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 44101])
@pytest.mark.parametrize("length", [1, 100, 1023, 44100, 44101, 132300 + 511])
def test_output_is_as_long_as_the_mixture(rate, length):
    """S85: whatever the length and the rate."""
    out = separate(Identity(), noise(length), sample_rate=rate)
    assert {source: audio.shape for source, audio in out.items()} == dict.fromkeys(
        ("vocals", "accompaniment"), (2, length)
    )
    assert all(audio.dtype == np.float32 for audio in out.values())


@pytest.mark.parametrize("model_rate", [44100, 22050])
def test_a_tone_at_48_khz_stays_where_it_is(model_rate):
    """S07: 3.000 s at 48 kHz, and 1 kHz stays 1 kHz."""
    time = np.arange(3 * 48000) / 48000
    tone = np.stack([0.5 * np.sin(2 * np.pi * 1000 * time)] * 2)
    out = separate(Identity(sample_rate=model_rate), tone, sample_rate=48000)
    assert out["vocals"].shape == (2, 144000)
    spectrum = np.abs(np.fft.rfft(out["vocals"][0]))
    assert np.argmax(spectrum) / 3 == 1000
    inner = slice(2000, -2000)
    np.testing.assert_allclose(out["vocals"][:, inner], tone[:, inner], atol=5e-3)
    np.testing.assert_allclose(out["vocals"] + out["accompaniment"], tone, atol=1e-6)


@pytest.mark.parametrize("length", [1, 999, 1000, 1900, 1901, 2799, 5000, 12345])
@pytest.mark.parametrize(
    ("chunk_s", "overlap_s"), [(0.1, 0.0), (0.1, 0.01), (0.1, None), (0.1, 0.049), (0.10001, None), (0.2371, 0.0333)]
)
def test_chunks_leave_no_trace_where_the_model_needs_no_context(length, chunk_s, overlap_s):
    """S83, S84: no clicks where chunks meet, nor shifts where their length is an odd decimal."""
    model, mixture = Identity(("vocals", "accompaniment"), 10000, 0.5), noise(length)
    out = separate(model, mixture, 10000, chunk_s=chunk_s, overlap_s=overlap_s)
    for audio in out.values():
        np.testing.assert_allclose(audio, 0.5 * mixture, atol=1e-7)
    assert max(model.lengths) <= round(10000 * chunk_s)


def test_the_callers_mixture_is_not_touched_even_by_a_model_that_hands_it_back():
    mixture = noise(5000)
    before = mixture.copy()
    out = separate(Identity(sample_rate=10000), mixture, 10000, chunk_s=0.1)
    np.testing.assert_array_equal(mixture, before)
    np.testing.assert_allclose(out["vocals"], before, atol=1e-7)
    np.testing.assert_allclose(out["accompaniment"], 0, atol=1e-7)


@pytest.mark.parametrize("length", [1001, 1751, 5000, 12345])
def test_no_chunk_is_shorter_than_the_others(length):
    model = Identity(sample_rate=10000)
    separate(model, noise(length), 10000, chunk_s=0.1)
    assert set(model.lengths) == {1000}
    assert len(model.lengths) == 1 + math.ceil((length - 1000) / 750)


def test_a_models_own_chunks_are_used_unless_others_are_asked_for():
    model, mixture = Identity(sample_rate=10000), noise(4000)
    model.chunk_s = 0.2
    separate(model, mixture, 10000)
    separate(model, mixture, 10000, chunk_s=0.4)
    assert set(model.lengths[:-1]) == {2000}
    assert model.lengths[-1] == 4000


@pytest.mark.parametrize("seconds", [1.0, 1.4, 1.401])
def test_chunks_of_seven_tenths_fit_songs_of_any_length(seconds):
    """S28."""
    mixture = noise(round(seconds * 44100))
    out = separate(small(), mixture, chunk_s=0.7)
    assert out["vocals"].shape == mixture.shape
    assert out["vocals"].any()


def test_the_same_input_gives_the_same_bytes_whatever_mode_the_model_is_in():
    model, mixture = small(), noise(60000)
    first = separate(model.train(), mixture, chunk_s=0.5)
    assert model.training  # it is put back, and dropout did not act
    second = separate(model.eval(), mixture, chunk_s=0.5)
    assert not model.training
    for source in first:
        assert first[source].tobytes() == second[source].tobytes()


def test_a_song_in_one_chunk_is_the_models_own_forward():
    model, mixture = small().eval(), noise(60000)
    with torch.no_grad():
        expected = model(torch.from_numpy(mixture)[None])[0, 0].numpy()
    np.testing.assert_array_equal(separate(model, mixture)["vocals"], expected)


def test_chunks_with_overlap_stay_close_to_the_whole():
    model, mixture = small(), noise(3 * 44100)
    whole, chunked = separate(model, mixture)["vocals"], separate(model, mixture, chunk_s=1.0)["vocals"]
    error_db = 10 * np.log10(np.mean((whole - chunked) ** 2) / np.mean(whole**2))
    assert error_db < -20


@pytest.mark.parametrize("rate", [44100, 32000])
@pytest.mark.parametrize("size", [700, 50000])
def test_a_song_in_blocks_gives_the_bytes_of_the_whole_song(rate, size):
    """S29: and it is read no further ahead than two chunks, a block and the filter's reach."""
    model, mixture = small(), noise(5 * rate + 17)
    whole, read, done = separate(model, mixture, rate, chunk_s=1.0), 0, 0

    def blocks():
        nonlocal read
        for start in range(0, mixture.shape[1], size):
            read = min(start + size, mixture.shape[1])
            yield mixture[:, start:read]

    for piece in stream(model, blocks(), rate, chunk_s=1.0):
        assert read - done <= 2 * rate + size + 2000
        stop = done + piece["vocals"].shape[1]
        for source, samples in piece.items():
            assert samples.tobytes() == whole[source][:, done:stop].tobytes()
        done = stop
    assert done == mixture.shape[1]


@pytest.mark.parametrize("length", [900, 44100, 44101, 5 * 44100 + 17])
@pytest.mark.parametrize("batch", [2, 3, 100])
def test_several_chunks_at_once_give_what_one_at_a_time_gives(length, batch):
    for model in (small(), build("openunmix-small", sample_rate=22050, hidden_size=8, levelled="always")):
        mixture = noise(length)
        one, several = (separate(model, mixture, chunk_s=1.0, batch=count) for count in (1, batch))
        for source in one:
            np.testing.assert_allclose(several[source], one[source], rtol=0, atol=1e-6)


class Short(Identity):
    """Has memory for two chunks."""

    def forward(self, mixture):
        if len(mixture) > 2:
            raise torch.OutOfMemoryError
        self.lengths.append(len(mixture))
        return mixture[:, None]


def test_chunks_that_memory_is_too_short_for_are_halved():
    model, mixture = Short(sample_rate=10000), noise(5500)
    model.train()
    np.testing.assert_allclose(separate(model, mixture, 10000, chunk_s=0.1, batch=5)["vocals"], mixture, atol=1e-7)
    assert model.lengths == [2, 1, 2, 2]  # 5, as 2 and 1 of 3, and 2
    assert model.training


class RandomMask(MaskModel):
    """Keeps a random half of the bins, the same ones each time."""

    def mask(self, magnitude):
        draw = torch.rand(magnitude.shape[-2:], generator=torch.Generator().manual_seed(0))
        return (draw < 0.5).float().expand(magnitude.unsqueeze(1).shape)


@pytest.mark.parametrize("hop", [256, 512])
@pytest.mark.parametrize("chunk_s", [None, 0.5])
def test_an_estimate_is_no_louder_than_its_mixture_could_make_it(hop, chunk_s):
    """Half a window's hop gave 728 times full scale in the last samples of songs of some lengths."""
    for rest in (0, hop // 2, hop - 9, hop - 2, hop - 1):
        mixture = noise(40 * hop + rest)
        for samples in separate(RandomMask(("vocals",), n_fft=1024, hop_length=hop), mixture, chunk_s=chunk_s).values():
            assert np.abs(samples).max() < 2 * np.abs(mixture).max()


def test_g_of_the_demo_ends_no_louder_than_it_plays():
    torch.manual_seed(0)
    model = build("band-split", sample_rate=22050, n_fft=2048, hop_length=1024, features=8, hidden_size=8, layers=1)
    for rest in (0, 512, 1015, 1022, 1023):
        mixture = noise(12 * 1024 + rest)
        assert np.abs(separate(model, mixture, 22050)["vocals"]).max() < 2 * np.abs(mixture).max()


def test_mono_is_taken_as_two_equal_channels():
    """S06."""
    model, mono = small(), noise(20000, channels=1)
    out = separate(model, mono)
    assert out["vocals"].shape == (2, 20000)
    stereo = separate(model, np.repeat(mono, 2, axis=0))
    for source in out:
        np.testing.assert_array_equal(out[source], stereo[source])


@pytest.mark.parametrize("rate", [44100, 48000, 11025])
def test_a_constant_stays_a_constant(rate):
    """S85: no step at the start or the end."""
    mixture = np.full((2, 3 * rate), 0.4, np.float32)
    for audio in separate(Identity(("vocals", "accompaniment"), gain=0.5), mixture, rate, chunk_s=1.0).values():
        inner = audio if rate == 44100 else audio[:, 100:-100]  # of a resampled step the filter rings
        np.testing.assert_allclose(inner, 0.2, atol=1e-3)


def test_silence_gives_silence():
    for audio in separate(small(), np.zeros((2, 30000), np.float32)).values():
        assert not audio.any()


def test_float64_lists_and_tensors_are_mixtures_too():
    mixture = noise(3000)
    expected = separate(Identity(), mixture)["vocals"]
    for other in (mixture.astype(np.float64), mixture.tolist(), torch.from_numpy(mixture)):
        np.testing.assert_array_equal(separate(Identity(), other)["vocals"], expected)


@pytest.mark.parametrize(
    "mixture", [np.zeros(1000), np.zeros((3, 1000)), np.zeros((1000, 2)), np.zeros((2, 0)), np.zeros((1, 2, 1000))]
)
def test_other_shapes_are_refused_with_the_shape(mixture):
    with pytest.raises(SepkitError) as caught:
        separate(Identity(), mixture)
    assert "(channel, time)" in str(caught.value)
    assert str(mixture.shape) in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value):
    mixture = noise(30 * 1000)
    mixture[1, 12345] = value
    with pytest.raises(SepkitError, match=r"1 samples that are not finite, the first at 12\.35 s"):
        separate(Identity(sample_rate=1000), mixture, 1000)


@pytest.mark.parametrize("gain", [np.nan, np.inf, 1e39])
def test_estimates_that_are_not_finite_are_refused(gain):
    """S15: they would have been written as -1.0."""
    with pytest.raises(
        SepkitError, match=r"estimates hold 2000 samples that are not finite, where the mixture reaches 0"
    ):
        separate(Identity(gain=gain), np.abs(noise(1000)) + 0.1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"chunk_s": 0.05}, r"at least 0\.1 s, got 0\.05"),
        ({"chunk_s": -1.0}, r"at least 0\.1 s"),
        ({"chunk_s": 1.0, "overlap_s": 0.5}, r"below half a chunk \(1\.0 s\), got 0\.5"),
        ({"overlap_s": -0.1}, "below half a chunk"),
        ({"sample_rate": 0}, "whole Hz, got 0"),
        ({"sample_rate": 44100.5}, r"whole Hz, got 44100\.5"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings, says):
    with pytest.raises(SepkitError, match=says):
        separate(Identity(), noise(1000), **settings)


@pytest.mark.parametrize("bits", [16, 24])
def test_steps_of_a_depth_add_up_to_the_mixture_exactly(bits):
    """Vocals that are rounded to the mixture's steps leave a residual of such steps, up to twice full scale."""
    rng, step = np.random.default_rng(bits), 2.0 ** (1 - bits)
    mixture = (rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (2, 200_000)) * step).astype(np.float32)
    mixture[:, ::3] *= np.float32(2**-9)
    mixture = np.rint(mixture / step) * np.float32(step)
    vocals = rng.uniform(-1, 1, mixture.shape).astype(np.float32) * rng.choice([1, 0.5, 1e-3, 1e-6], mixture.shape)

    class Vocals(Identity):
        def forward(self, mixture):
            return torch.from_numpy(vocals.astype(np.float32))[None, None]

    for given, exact in ((step, True), (2.0**-23, True), (None, False)):

        def finish(samples, given=given):
            return np.rint(samples / given) * given if given else samples

        (piece,) = stream(Vocals(), [mixture], finish=finish)
        assert piece["vocals"].dtype == piece["accompaniment"].dtype == np.float32
        assert np.array_equal(piece["vocals"] + piece["accompaniment"], mixture) == exact
        largest = np.maximum(np.abs(piece["vocals"]), np.abs(piece["accompaniment"]))
        missed = piece["vocals"].astype(np.float64) + piece["accompaniment"] - mixture
        assert (np.abs(missed) <= 2.0**-24 * largest).all()


def test_what_a_model_does_not_estimate_is_completed():
    mixture, stems = (
        noise(10),
        {source: noise(10, seed=i) for i, source in enumerate(("vocals", "drums", "bass", "other"))},
    )
    residual = complete({"vocals": stems["vocals"]}, mixture)
    np.testing.assert_array_equal(residual["accompaniment"], mixture - stems["vocals"])
    summed = complete(stems, mixture)
    np.testing.assert_allclose(summed["accompaniment"], stems["drums"] + stems["bass"] + stems["other"])
    modelled = complete({"vocals": stems["vocals"], "accompaniment": stems["bass"]}, mixture)
    np.testing.assert_array_equal(modelled["accompaniment"], stems["bass"])
    assert set(stems) == {"vocals", "drums", "bass", "other"}  # what was handed in is left alone


PEAK = """
from pathlib import Path
import numpy as np
import torch
from torch import nn
from sepkit.models import Network, separate

class Wasteful(nn.Module, Network):
    sources, sample_rate = ("vocals",), 44100

    def forward(self, mixture):
        return torch.stack([mixture] * 40)[:1].transpose(0, 1) * 0.5  # 40 times the chunk

for seconds in (30, 60, 120):
    mixture = np.random.default_rng(0).standard_normal((2, seconds * 44100), dtype=np.float32)
    separate(Wasteful(), mixture, chunk_s=6.0)
    # not getrusage's maximum: a child inherits that of its parent
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(lines["VmHWM"].split()[0]) / 1024)
"""


def test_memory_grows_by_the_output_and_not_by_what_the_model_needs():
    """S29: twice the length costs its own samples and those of its two sources."""
    settings = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
    _, once, twice = map(float, subprocess.check_output([sys.executable, "-c", PEAK], env=settings).split())
    audio_mib = 60 * 44100 * 2 * 4 / 2**20
    assert audio_mib < twice - once < 4 * audio_mib


def told(model):
    """A network that knows the statistics of some training songs, where it uses them."""
    if model.stft:
        model.set_statistics(*magnitude_statistics(model.stft(torch.from_numpy(0.1 * noise(9000))).abs() for _ in "ab"))
    return model


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("gain", [0.1, 10.0])
def test_an_estimate_follows_the_level_of_its_mixture(name, gain):
    torch.manual_seed(0)
    settings = {"klass": "Demucs", "sources": ["vocals"], "arguments": {"channels": 4}} if name == "demucs" else {}
    model, mixture = told(build(name, **settings)).eval(), noise(30000)
    plain, scaled = separate(model, mixture), separate(model, np.float32(gain) * mixture)
    for source, samples in plain.items():
        difference = np.square(scaled[source] / gain - samples).sum() / np.square(samples).sum()
        assert 10 * np.log10(difference + 1e-20) < -60


def test_levels_count_where_the_network_is_told_so():
    torch.manual_seed(0)
    mixture = torch.from_numpy(noise(9000))[None]
    for levelled, in_training, in_separation in (("never", 1, 1), ("separation", 1, 0), ("always", 0, 0)):
        model = told(build("openunmix-small", hidden_size=16, dropout=0.0, levelled=levelled))
        for mode, depends in ((True, in_training), (False, in_separation)):
            model.train(mode)
            with torch.no_grad():
                loud, soft = model(torch.cat([mixture, mixture / 8]))
            assert ((soft * 8 - loud).abs().max() > 1e-3) == depends


def test_a_network_without_a_level_hears_songs_as_they_are():
    model = build("openunmix-small", hidden_size=16).eval()
    mixture = noise(9000)
    assert np.abs(separate(model, mixture / 8)["vocals"] * 8 - separate(model, mixture)["vocals"]).max() > 1e-3
