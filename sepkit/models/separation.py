"""A network and a whole song -> the sources of the song.

The song is cut into chunks that overlap and are crossfaded, so memory depends on the chunk, not on the song.  Chunks
start at fixed places, one at a time, so the same input gives the same bytes; all are equally long, the last one
overlaps more.  Where the network estimates the vocals alone, the accompaniment is the `residual`: mixture minus vocals.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sepkit.dsp import resample
from sepkit.errors import SepkitError
from sepkit.profiles import SAMPLE_RATE, STEMS

if TYPE_CHECKING:
    from sepkit.models import Network

CHUNK_S = 24.0
OVERLAP_S = 2.0  # a quarter of a chunk, where that is shorter
SHORTEST_CHUNK_S = 0.1


def separate(
    model: "Network",
    mixture,
    sample_rate: int = SAMPLE_RATE,
    *,
    chunk_s: float | None = None,
    overlap_s: float | None = None,
    device=None,
) -> dict[str, np.ndarray]:
    """{source: float32 (channel, time)} of a mixture (channel, time), of exactly its length.

    chunk_s: None is the network's own, or 24 s; overlap_s: None is 2 s, or a quarter of a shorter chunk.

    A mono mixture counts as two equal channels.  A mixture at another rate than the network's is resampled there and
    back.  Raises SepkitError for other shapes and for samples that are not finite.
    """
    mixture = np.asarray(mixture, dtype=np.float32)
    if mixture.ndim != 2 or mixture.shape[0] not in (1, model.channels) or mixture.shape[1] == 0:
        raise SepkitError(
            f"Expected a mixture of shape (channel, time) with 1 or {model.channels} channels, got {mixture.shape}."
        )
    if not np.isfinite(mixture).all():
        raise SepkitError(f"The mixture holds {np.count_nonzero(~np.isfinite(mixture))} samples that are not finite.")
    chunk_s = (model.chunk_s or CHUNK_S) if chunk_s is None else chunk_s
    if chunk_s < SHORTEST_CHUNK_S:
        raise SepkitError(f"Expected chunks of at least {SHORTEST_CHUNK_S} s, got {chunk_s} s.")
    overlap_s = min(OVERLAP_S, chunk_s / 4) if overlap_s is None else overlap_s
    if not 0 <= overlap_s < chunk_s / 2:
        raise SepkitError(f"Expected an overlap below half a chunk ({chunk_s} s), got {overlap_s} s.")
    if sample_rate < 1 or sample_rate != int(sample_rate):
        raise SepkitError(f"Expected a sample rate in whole Hz, got {sample_rate}.")
    length = mixture.shape[1]
    mixture = np.array(np.broadcast_to(mixture, (model.channels, length)))  # own memory, writable
    at_model_rate = torch.from_numpy(np.ascontiguousarray(resample(mixture, int(sample_rate), model.sample_rate)))
    if device is not None:
        model = model.to(device)
    chunk, overlap = round(chunk_s * model.sample_rate), round(overlap_s * model.sample_rate)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            output = _overlap_add(model, at_model_rate, chunk, overlap)
    finally:
        model.train(was_training)
    output = resample(output, model.sample_rate, int(sample_rate))[..., :length]
    return complete(dict(zip(model.sources, map(np.ascontiguousarray, output), strict=True)), mixture)


def complete(estimates: Mapping[str, np.ndarray], mixture: np.ndarray) -> dict[str, np.ndarray]:
    """Adds vocals and accompaniment where they are missing: the residual, or the sum of the stems."""
    estimates = dict(estimates)
    if "vocals" in estimates and "accompaniment" not in estimates:
        stems = [estimates[source] for source in STEMS[1:] if source in estimates]
        estimates["accompaniment"] = sum(stems[1:], stems[0]) if len(stems) == 3 else mixture - estimates["vocals"]
    return estimates


def _overlap_add(model: "Network", mixture: Tensor, chunk: int, overlap: int) -> np.ndarray:
    """(channel, time) -> (source, channel, time); chunks are averaged, each less towards its ends."""
    parameter = next(model.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    length = mixture.shape[1]
    last = max(0, length - chunk)
    output = np.zeros((len(model.sources), *mixture.shape), dtype=np.float32)
    weights = np.zeros(length, dtype=np.float32)
    fade = np.linspace(0, 1, overlap + 2, dtype=np.float32)[1:-1]
    for start in (*range(0, last, chunk - overlap), last):
        stop = min(start + chunk, length)
        weight = np.ones(stop - start, dtype=np.float32)
        if start > 0:
            weight[:overlap] = fade
        if start < last:
            weight[len(weight) - overlap :] = fade[::-1]
        part = model(mixture[None, :, start:stop].to(device))[0].float().cpu().numpy()
        output[..., start:stop] += part * weight
        weights[start:stop] += weight
    output /= weights
    return output
