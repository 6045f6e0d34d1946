"""STFT, resampling and mel bands, the only ones of the package, and the loudest part of a clip.

The STFT: Hann window, centred frames with reflection at the ends, one-sided; always in float32, since half precision
has no FFT on a CPU and only powers of two on a GPU.  Resampling is offline: a whole song, or block by block to the
same samples.
"""

from collections.abc import Iterable, Iterator
from math import ceil, gcd
from typing import Any

import numpy as np
import scipy  # whose modules are imported where they are first used
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class STFT(nn.Module):
    """waveform (…, time) <-> complex spectrum (…, freq, frame).

    frames = 1 + time // hop_length.  `inverse(forward(x), length)` is x to 1e-6 for any length, also below one window.
    """

    window: Tensor

    def __init__(self, n_fft: int = 1024, hop_length: int = 256) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.n_bins = n_fft, hop_length, n_fft // 2 + 1
        # not persistent: a window is a setting, and settings live in the configuration
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            shape = waveform.shape
            flat = waveform.float().reshape(-1, shape[-1])
            if shape[-1] < self.n_fft:  # reflection needs more samples than half a window
                flat = torch.nn.functional.pad(flat, (0, self.n_fft - shape[-1]))
            spectrum = torch.stft(flat, self.n_fft, self.hop_length, window=self.window.float(), return_complex=True)
            return spectrum.reshape(*shape[:-1], *spectrum.shape[-2:])

    def missing(self, length: int) -> int:
        """Samples of silence to append to a signal before it is changed between `forward` and `inverse`.

        `inverse` divides by the sum of the windows' squares.  Where frames overlap by less than three quarters, that is
        nearly nothing at the end of the last frame, and a mask's trace there would become thousands of times as loud.
        With these samples a further frame begins before; with more overlap none are needed, and the bytes stay.
        """
        return -max(length, self.n_fft) % self.hop_length if 4 * self.hop_length > self.n_fft else 0

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """(…, freq, frame) complex -> (…, length) float32."""
        with torch.autocast(spectrum.device.type, enabled=False):
            flat = spectrum.to(torch.complex64).reshape(-1, *spectrum.shape[-2:])
            whole = max(length, self.n_fft)
            waveform = torch.istft(flat, self.n_fft, self.hop_length, window=self.window.float(), length=whole)
            return waveform[..., :length].reshape(*spectrum.shape[:-2], length)


def resample(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`audio` (…, time) at `new_rate` Hz: ⌈n · new_rate / rate⌉ samples by a zero-phase polyphase filter, float32.

    >>> resample(np.ones((2, 441), np.float32), 44100, 32000).shape
    (2, 320)
    """
    if rate == new_rate:
        return audio
    divisor = gcd(rate, new_rate)
    return scipy.signal.resample_poly(audio, new_rate // divisor, rate // divisor, axis=-1).astype(np.float32)


def resample_blocks(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """`resample` of blocks (…, time) that follow each other: blocks that hold the same samples, bit for bit.

    Each is resampled with the neighbouring samples that the filter reaches, from a place where both rates have a sample.
    """
    if rate == new_rate:
        yield from blocks
        return
    up, down = new_rate // gcd(rate, new_rate), rate // gcd(rate, new_rate)
    reach = ceil((10 * max(up, down) / up + 1) / down) * down  # of resample_poly's filter, in whole periods
    held, lead = None, 0  # samples that are not resampled yet, after `lead` that are
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=-1)
        stop = (held.shape[-1] - reach) // down * down
        if stop > lead:
            yield resample(held, rate, new_rate)[..., lead // down * up : stop // down * up]
            kept = max(0, stop - reach)
            held, lead = held[..., kept:], stop - kept
    if held is not None:
        yield resample(held, rate, new_rate)[..., lead // down * up :]


def loudest_s(clip: np.ndarray, sample_rate: int, seconds: float = 10.0) -> float:
    """Where the `seconds` with the most energy of a clip, (channel, time) or (time,), begin, in whole seconds.

    >>> late = np.concatenate([np.zeros(3000), np.ones(2000)])
    >>> loudest_s(late, 1000, 2.0)
    3.0
    """
    power = (np.atleast_2d(np.asarray(clip, np.float64)) ** 2).sum(axis=0)
    whole, span = len(power) // sample_rate, max(1, round(seconds))
    if whole <= span:
        return 0.0
    each = power[: whole * sample_rate].reshape(whole, sample_rate).sum(axis=1)
    return float(np.argmax(np.convolve(each, np.ones(span), mode="valid")))


def mel_of(hz: Any) -> NDArray[np.float64]:
    """Hz on Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, 15 mel there, then a logarithm."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000, hz * 0.015, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))


def hz_of(mel: Any) -> NDArray[np.float64]:
    """The inverse of `mel_of`."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, mel / 0.015, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


def mel_filters(sample_rate: int, n_fft: int, bands: int, top_hz: float) -> NDArray[np.float32]:
    """Triangles of area 1 from 0 to `top_hz`, (band, freq): power spectra -> power in mel bands, as librosa's defaults.

    Own code for what librosa has: its import compiles for 28 CPU seconds on a fresh machine, and takes 3 on any other.
    """
    edges = hz_of(np.linspace(0, mel_of(top_hz), bands + 2))
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    triangles = np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clip(min=0)
    return (2 * triangles / (high - low)).astype(np.float32)
