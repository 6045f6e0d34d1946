"""Pictures of sound: waveforms beside mel spectrograms, and the gradient of a loss at each frequency.

Clips are `(channel, time)` or `(time,)`; time in s, frequency in Hz, levels in dB.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from sepkit.dsp import STFT, mel_filters, mel_of
from sepkit.errors import SepkitError
from sepkit.reporting.canvas import COLOURS, DOUBLE, SMALL, TEXT, Picture
from sepkit.reporting.player import as_clip

FLOOR_DB = -80.0
BANDS, POINTS = 128, 500  # mel bands; steps in which a waveform is drawn
TICKS = (125, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
DIFFERENCE = "estimate − target"


def song_view(clips: Mapping[str, Any], sample_rate: int = 44100, *, start_s: float = 0.0, title: str = "") -> Picture:
    """Clips side by side, waveform over mel spectrogram, on one scale of amplitude, one of level and one time axis.

    Where there are clips named "target" and "estimate", their difference is added, over the time that they share.
    A waveform shows the louder channel, a spectrogram the channels' mean power in dB under the loudest point of all
    clips, cut at −80, so that levels compare across columns.

    Args:
        clips: `(channel, time)` or `(time,)` by name, NumPy or torch; one or two channels; lengths may differ.
        start_s: position of the clips in their song, where the time axis starts.

    Raises:
        SepkitError: no clip, a wrong shape, samples that are not finite.
    """
    if not clips:
        raise SepkitError("expected at least one clip to draw, got none.")
    arrays = {name: as_clip(clip, name) for name, clip in clips.items()}
    if {"target", "estimate"} <= arrays.keys():
        shared = min(arrays[name].shape[1] for name in ("target", "estimate"))
        arrays[DIFFERENCE] = arrays["estimate"][:, :shared] - arrays["target"][:, :shared]
    powers = {name: _mel_power(clip, sample_rate) for name, clip in arrays.items()}
    loudest = max(float(power.max()) for power in powers.values()) or 1.0
    peak = max(float(np.abs(clip).max()) for clip in arrays.values()) or 1.0
    duration = max(clip.shape[1] for clip in arrays.values()) / sample_rate
    figure = Picture(DOUBLE, 3.1)
    figure.set_layout_engine("none")  # sizes are known here, and a layout takes half of the time
    edges = {"left": 0.085, "right": 0.89, "bottom": 0.13, "top": 0.85 if title else 0.92}
    grid = {**edges, "wspace": 0.13, "hspace": 0.1, "height_ratios": (2, 3)}
    waves, spectra = figure.subplots(2, len(arrays), sharex=True, sharey="row", squeeze=False, gridspec_kw=grid)
    for wave, axes, name in zip(waves, spectra, arrays, strict=True):
        wave.plot(*_outline(arrays[name], sample_rate, start_s), color="black", lw=0.5)
        wave.set_title(name, fontsize=TEXT)
        image = _draw_levels(axes, 10 * np.log10(np.maximum(powers[name] / loudest, 1e-30)), sample_rate, start_s)
    spectra[0].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    waves[0].set(xlim=(start_s, start_s + duration), ylim=(-1.05 * peak, 1.05 * peak), ylabel="amplitude")
    spectra[0].set_ylabel("frequency in Hz (mel)")
    figure.supxlabel("time in s", fontsize=TEXT, x=0.49)
    box = spectra[-1].get_position()
    bar = figure.colorbar(image, figure.add_axes((0.915, box.y0, 0.012, box.height)))
    bar.set_label("dB under the loudest point", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    figure.suptitle(title, fontsize=TEXT + 1, x=0.49)
    return figure


def _outline(clip: np.ndarray, sample_rate: int, start_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and values to draw: the least and the greatest sample of each step, so that every peak is there."""
    wave = np.take_along_axis(clip, np.abs(clip).argmax(axis=0)[None], axis=0)[0]
    places = np.arange(len(wave))
    if len(wave) > 2 * POINTS:
        steps = np.array_split(places, POINTS)
        places = np.unique([part[pick(wave[part])] for part in steps for pick in (np.argmin, np.argmax)])
    return start_s + places / sample_rate, wave[places]


def _mel_power(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean power over channels, (band, frame); a frame is 20 ms, its middle is its time."""
    n_fft = 2 ** round(np.log2(0.0464 * sample_rate))  # about 46 ms of window, whatever the rate
    spectrum = STFT(n_fft, sample_rate // 50)(torch.from_numpy(clip)).numpy()
    return mel_filters(sample_rate, n_fft, BANDS, _top(sample_rate)) @ (np.abs(spectrum) ** 2).mean(axis=0)


def _top(sample_rate: int) -> float:
    return min(16000.0, sample_rate / 2)


def _draw_levels(axes: Any, level: np.ndarray, sample_rate: int, start_s: float) -> Any:
    """A mel spectrogram over seconds and mel, its ticks in Hz: every band and frame lies around its middle."""
    top, hop_s = _top(sample_rate), sample_rate // 50 / sample_rate
    bands, frames = level.shape
    low, high = mel_of(top) * np.array([0.5, bands + 0.5]) / (bands + 1)
    extent = (start_s - 0.5 * hop_s, start_s + (frames - 0.5) * hop_s, low, high)
    # the axis is in mel, where bands are equally high: an image, which is drawn faster than a mesh
    scale: Any = {"cmap": "magma", "vmin": FLOOR_DB, "vmax": 0, "interpolation": "nearest"}
    image = axes.imshow(np.maximum(level, FLOOR_DB), aspect="auto", origin="lower", extent=extent, **scale)
    ticks = [hz for hz in TICKS if hz <= top]
    axes.set_yticks(mel_of(ticks), [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks])
    axes.set(ylim=(0, mel_of(top)), facecolor="black")
    axes.grid(visible=False)
    return image


def gradients(curves: Mapping[str, Any], sample_rate: int = 44100) -> Picture:
    """Mean size of a loss's gradient at each frequency, 0 to half the sample rate, one line a loss.

    curves: `(freq,)` by name, at most 7. The axis is logarithmic down to the smallest size of 1e-12 or more, linear
    from there to 0.
    """
    figure = Picture(DOUBLE, 2.8)
    axes = figure.subplots()
    sizes = {name: np.abs(np.asarray(curve, float)) for name, curve in curves.items()}
    seen = np.concatenate([size[size >= 1e-12] for size in sizes.values()])
    axes.set_yscale("symlog", linthresh=seen.min() if seen.size else 1.0)
    for (name, size), colour in zip(sizes.items(), COLOURS, strict=False):
        zero = bool((size < 1e-12).all())
        label = f"{name}: zero at every frequency" if zero else name
        over_the_axis: dict[str, Any] = {"lw": 3, "zorder": 3, "clip_on": False} if zero else {}
        frequencies = np.linspace(0, sample_rate / 2, len(size))
        axes.plot(frequencies, 0 * size if zero else size, color=colour, label=label, **over_the_axis)
    axes.set(ylim=(0, None), xlim=(0, sample_rate / 2), xlabel="frequency in Hz", ylabel="mean |gradient| (no unit)")
    axes.legend(fontsize=SMALL, frameon=False)
    return figure
