"""Pictures over frequency: spectrograms of clips, and the gradient of a loss at each frequency.

Clips are `(channel, time)` or `(time,)`; time in s, frequency in Hz, levels in dB.
"""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np

from sepkit.errors import SepkitError
from sepkit.parallel import import_librosa
from sepkit.reporting.canvas import COLOURS, Picture, plain
from sepkit.reporting.player import as_clip

FLOOR_DB = -80.0


def spectrograms(
    clips: Mapping[str, Any], sample_rate: int = 44100, *, hop_length: int = 512, start_s: float = 0.0, title: str = ""
) -> Picture:
    """Mel spectrograms, one under another, on one colour scale and one time axis.

    Colours are dB under the loudest point of all clips, cut at −80, so that levels compare across panels.
    start_s: position of the clips in their song, where the time axis starts.
    """
    if not clips:
        raise SepkitError("expected at least one clip to draw, got none.")
    librosa = import_librosa()
    n_fft = 2 ** round(np.log2(0.0464 * sample_rate))  # about 46 ms of window, whatever the rate
    top = min(16000.0, sample_rate / 2)
    arrays = {name: as_clip(clip, name) for name, clip in clips.items()}
    mel = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=128, fmax=top)
    spectra = {name: librosa.stft(clip, n_fft=n_fft, hop_length=hop_length) for name, clip in arrays.items()}
    powers = {name: mel @ (np.abs(spectrum) ** 2).mean(axis=0) for name, spectrum in spectra.items()}
    loudest = max(float(power.max()) for power in powers.values()) or 1.0
    duration = max(clip.shape[1] for clip in arrays.values()) / sample_rate
    figure = Picture(9, 0.7 + 1.6 * len(clips))
    panels = figure.subplots(len(clips), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    edges = librosa.hz_to_mel(np.array([0.0, top]))
    ticks = [hz for hz in (125, 500, 1000, 2000, 4000, 8000, 16000) if hz <= top]
    labels = [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks]
    for axes, (name, power) in zip(panels, powers.items(), strict=True):
        level = np.maximum(10 * np.log10(np.maximum(power / loudest, 1e-30)), FLOOR_DB)
        left = start_s - hop_length / 2 / sample_rate  # frames are centred: a frame's middle is its time
        right = left + power.shape[1] * hop_length / sample_rate
        image = axes.imshow(
            level, origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0,
            extent=(left, right, *edges),
        )  # fmt: skip
        axes.set_yticks(librosa.hz_to_mel(np.array(ticks, float)), labels)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlim(start_s, start_s + duration)
    figure.supylabel("frequency in Hz (mel scale)", fontsize=10)
    panels[-1].set_xlabel("time in s")
    figure.colorbar(image, ax=list(panels), label="dB under the loudest point of all", aspect=30)
    if title:
        figure.suptitle(title)
    return figure


def gradients(curves: Mapping[str, Any], sample_rate: int = 44100) -> Picture:
    """Mean size of a loss's gradient at each frequency, 0 to half the sample rate, one line a loss.

    curves: `(freq,)` by name. The axis is logarithmic down to the smallest size of 1e-12 or more, linear from there to 0.
    """
    figure = Picture(8, 3.6)
    axes = figure.subplots()
    sizes = {name: np.abs(np.asarray(curve, float)) for name, curve in curves.items()}
    seen = np.concatenate([size[size >= 1e-12] for size in sizes.values()])
    axes.set_yscale("symlog", linthresh=seen.min() if seen.size else 1.0)
    for (name, size), colour in zip(sizes.items(), cycle(COLOURS), strict=False):
        zero = bool((size < 1e-12).all())
        label = f"{name}: zero at every frequency" if zero else name
        over_the_axis: dict[str, Any] = {"lw": 3, "zorder": 3, "clip_on": False} if zero else {}
        frequencies = np.linspace(0, sample_rate / 2, len(size))
        axes.plot(frequencies, 0 * size if zero else size, color=colour, label=label, **over_the_axis)
    axes.set(ylim=(0, None), xlim=(0, sample_rate / 2), xlabel="frequency in Hz", ylabel="mean |gradient| (no unit)")
    axes.legend(fontsize=9, frameon=False)
    plain(axes)
    return figure
