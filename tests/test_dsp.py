"""The round trip is exact for every length, precision and window; frames and bins are as documented."""

import numpy as np
import pytest
import scipy.signal
import torch

from sepkit.dsp import STFT, resample, resample_blocks


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "length", [1, 100, 255, 256, 512, 513, 1023, 1024, 1025, *(3 * 44100 + extra for extra in (0, 1, 511, 1023))]
)
@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (1280, 256), (4096, 1024)])
def test_round_trip(length, n_fft, hop):
    """S27: the length to the sample, the error below 1e-5."""
    stft, waveform = STFT(n_fft, hop), noise(2, 2, length)
    spectrum = stft(waveform)
    assert spectrum.shape == (2, 2, n_fft // 2 + 1, 1 + max(length, n_fft) // hop)
    back = stft.inverse(spectrum, length)
    assert back.shape == waveform.shape
    assert (back - waveform).abs().max() < 1e-5


def test_values_are_scipys():
    waveform = noise(8192)
    ours = STFT(1024, 256)(waveform).numpy()
    window = scipy.signal.get_window("hann", 1024)
    padded = np.pad(waveform.numpy().astype(np.float64), 512, mode="reflect")
    for frame in (0, 1, 17, 32):
        expected = np.fft.rfft(window * padded[frame * 256 : frame * 256 + 1024])
        np.testing.assert_allclose(ours[:, frame], expected, atol=1e-3)


def test_a_tone_peaks_at_its_bin():
    time = torch.arange(44100) / 44100
    magnitude = STFT(1024, 256)(torch.sin(2 * torch.pi * 100 * 44100 / 1024 * time)).abs()
    assert (magnitude[:, 5:-5].argmax(dim=0) == 100).all()
    assert magnitude[100, 20] == pytest.approx(256, rel=1e-3)  # half the sum of the window


@pytest.mark.parametrize("n_fft", [1024, 1280, 4096])
def test_half_precision_input_is_transformed_in_float32(n_fft):
    """S24: no FFT in half precision exists on a CPU, and only powers of two on a GPU."""
    stft, waveform = STFT(n_fft, 256), noise(2, 9000).half()
    spectrum = stft(waveform)
    assert spectrum.dtype == torch.complex64
    assert torch.equal(spectrum, stft(waveform.float()))
    assert stft.inverse(spectrum, 9000).dtype == torch.float32


def test_a_model_cast_to_half_still_transforms_in_float32():
    stft = STFT(1280, 256).half()
    waveform = noise(2, 9000)
    back = stft.inverse(stft(waveform), 9000)
    assert (back - waveform).abs().max() < 2e-2  # the window itself has been rounded
    assert back.dtype == torch.float32


@pytest.mark.parametrize("n_fft", [1280, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_transform(n_fft, dtype):
    stft, waveform = STFT(n_fft, 256), noise(2, 9000)
    plain = stft(waveform)
    with torch.autocast("cpu", dtype=dtype):
        spectrum = stft(waveform)
        back = stft.inverse(spectrum, 9000)
    assert torch.equal(spectrum, plain)
    assert (back - waveform).abs().max() < 1e-5


def test_gradients_flow_through_both_ways():
    stft = STFT(1024, 256)
    waveform = noise(1, 5000).requires_grad_()
    stft.inverse(stft(waveform), 5000).square().sum().backward()
    assert torch.allclose(waveform.grad, 2 * waveform.detach(), atol=1e-4)


def test_the_window_is_a_setting_and_no_weight():
    assert STFT().state_dict() == {}
    assert STFT(n_fft=1024).n_bins == 513


@pytest.mark.parametrize("hop", [256, 340, 512])
@pytest.mark.parametrize("rest", [0, 1, 200, 338, 511])
def test_a_mask_makes_the_end_no_louder_than_the_middle(hop, rest):
    """The end reached 4,650 times the signal with a hop of half a window; without a mask all is well."""
    stft, length = STFT(1024, hop), 20 * hop + rest
    waveform = noise(2, length)
    spectrum = stft(torch.nn.functional.pad(waveform, (0, stft.missing(length))))
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    changed = stft.inverse(mask * spectrum, length).abs()
    assert changed[:, -600:].max() < 1.3 * changed[:, 1024:-1024].max()


def test_nothing_is_appended_where_frames_overlap_by_three_quarters():
    """Weights and scores of the full profile stay bit for bit."""
    assert {STFT(n_fft, n_fft // 4).missing(length) for n_fft in (1024, 4096) for length in (1, 5000, 264600)} == {0}


@pytest.mark.parametrize(("rate", "new_rate"), [(44100, 22050), (44100, 32000), (8000, 44100), (44101, 44100)])
@pytest.mark.parametrize(("length", "size"), [(1, 5), (150001, 997), (150001, 44100)])
def test_blocks_are_resampled_to_the_bytes_of_the_whole(rate, new_rate, length, size):
    audio = noise(2, length).numpy()
    blocks = resample_blocks((audio[:, start : start + size] for start in range(0, length, size)), rate, new_rate)
    assert np.concatenate(list(blocks), axis=1).tobytes() == resample(audio, rate, new_rate).tobytes()
