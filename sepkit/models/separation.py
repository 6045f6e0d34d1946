"""A network and a whole song -> the sources of the song.

The song is cut into chunks that overlap and are crossfaded.  `stream` takes and gives it piece by piece, so its memory
depends on the chunk; `separate` adds the whole song and its sources.  Chunks start at fixed places, one at a time on a
CPU, so the same input gives the same bytes; all are equally long, the last one overlaps more.  Where the network estimates
the vocals alone, the accompaniment is the `residual`: mixture minus vocals.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sepkit.dsp import resample_blocks
from sepkit.errors import SepkitError
from sepkit.profiles import SAMPLE_RATE, STEMS

if TYPE_CHECKING:
    from sepkit.models import Network

CHUNK_S = 24.0
OVERLAP_S = 2.0  # a quarter of a chunk, where that is shorter
SHORTEST_CHUNK_S = 0.1
BATCH_S = 96.0  # of chunks that a GPU separates at once; a CPU is no faster with several
BLOCK_S = 10.0  # of a song that is read or handed on at once
Chunk = tuple[np.ndarray, int]  # (channel, time), and samples from its start to that of the next one, or to its end


def separate(model: "Network", mixture, sample_rate: int = SAMPLE_RATE, **settings: Any) -> dict[str, np.ndarray]:
    """{source: float32 (channel, time)} of a mixture (channel, time), of exactly its length.

    settings: those of `stream`.  A mono mixture counts as two equal channels.  A mixture at another rate than the
    network's is resampled there and back.  Raises SepkitError for other shapes and for mixtures or estimates that are
    not finite.
    """
    mixture = np.asarray(mixture, dtype=np.float32)
    if mixture.ndim != 2 or mixture.shape[0] not in (1, model.channels) or mixture.shape[1] == 0:
        expected = f"(channel, time) with 1 or {model.channels} channels"
        raise SepkitError(f"Expected a mixture of shape {expected}, got {mixture.shape}.")
    length, step, done = mixture.shape[1], max(1, round(BLOCK_S * sample_rate)), 0
    blocks = (mixture[:, start : start + step] for start in range(0, length, step))
    estimates: dict[str, np.ndarray] = {}
    for piece in stream(model, blocks, sample_rate, **settings):
        for source, samples in piece.items():
            whole = estimates.setdefault(source, np.empty((model.channels, length), np.float32))
            whole[:, done : done + samples.shape[1]] = samples
        done += samples.shape[1]
    return estimates


def stream(
    model: "Network",
    blocks: Iterable[np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    *,
    chunk_s: float | None = None,
    overlap_s: float | None = None,
    device=None,
    batch: int | None = None,
    finish: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Iterator[dict[str, np.ndarray]]:
    """`separate` of a mixture in blocks (channel, time) that follow each other; yields the sources' next samples.

    chunk_s: None is the network's own, or 24 s; overlap_s: None is 2 s, or a quarter of a shorter chunk.
    batch: chunks at once, None is one on a CPU and 96 s of them on a GPU; results differ by float rounding.
    finish: applied to estimates (source, channel, time), at the mixture's rate, before a residual is taken.
    """
    chunk_s = (model.chunk_s or CHUNK_S) if chunk_s is None else chunk_s
    if chunk_s < SHORTEST_CHUNK_S:
        raise SepkitError(f"Expected chunks of at least {SHORTEST_CHUNK_S} s, got {chunk_s} s.")
    overlap_s = min(OVERLAP_S, chunk_s / 4) if overlap_s is None else overlap_s
    if not 0 <= overlap_s < chunk_s / 2:
        raise SepkitError(f"Expected an overlap below half a chunk ({chunk_s} s), got {overlap_s} s.")
    if sample_rate < 1 or sample_rate != int(sample_rate):
        raise SepkitError(f"Expected a sample rate in whole Hz, got {sample_rate}.")
    model = model if device is None else model.to(device)
    rate, read, waiting = int(sample_rate), 0, np.zeros((model.channels, 0), np.float32)  # for their estimates

    def mixtures() -> Iterator[np.ndarray]:
        nonlocal read, waiting
        for block in blocks:
            bad = np.flatnonzero(~np.isfinite(block).all(axis=0))
            if bad.size:
                when = f"the first at {(read + bad[0]) / rate:.2f} s"
                raise SepkitError(f"The mixture holds {bad.size} samples that are not finite, {when}; repair it.")
            read += block.shape[1]
            block = np.array(np.broadcast_to(block, (model.channels, block.shape[1])), dtype=np.float32)  # own memory
            waiting = np.concatenate([waiting, block], axis=1)
            yield block

    chunk, overlap = round(chunk_s * model.sample_rate), round(overlap_s * model.sample_rate)
    batch = batch or (1 if _device(model).type == "cpu" else max(1, int(BATCH_S / chunk_s)))
    chunks = _chunks(resample_blocks(mixtures(), rate, model.sample_rate), chunk, chunk - overlap)
    pieces = _overlap_add(model, iter(lambda: list(islice(chunks, batch)), []), overlap)
    for piece in resample_blocks(pieces, model.sample_rate, rate):
        # resampled there and back, a song may have become a little longer
        mixture, piece = waiting[:, : piece.shape[-1]], piece[..., : waiting.shape[1]]
        waiting = waiting[:, mixture.shape[1] :]
        if bad := int(np.count_nonzero(~np.isfinite(piece))):
            loudest = float(np.abs(mixture).max(initial=0.0))
            raise SepkitError(
                f"The estimates hold {bad} samples that are not finite, where the mixture reaches {loudest:.3g} times full scale; bring it to full scale, or take another run."
            )
        yield complete(dict(zip(model.sources, finish(piece), strict=True)), mixture)


def complete(estimates: Mapping[str, np.ndarray], mixture: np.ndarray) -> dict[str, np.ndarray]:
    """Adds vocals and accompaniment where they are missing: the residual, or the sum of the stems."""
    estimates = dict(estimates)
    if "vocals" in estimates and "accompaniment" not in estimates:
        stems = [estimates[source] for source in STEMS[1:] if source in estimates]
        estimates["accompaniment"] = sum(stems[1:], stems[0]) if len(stems) == 3 else mixture - estimates["vocals"]
    return estimates


def _overlap_add(model: "Network", batches: Iterable[list[Chunk]], overlap: int) -> Iterator[np.ndarray]:
    """Estimates (source, channel, time) of the song, block by block; chunks are averaged, each less towards its ends."""
    output = np.zeros((len(model.sources), model.channels, 0), np.float32)  # what chunks have added up to
    weights, first = np.zeros(0, np.float32), True
    fade = np.linspace(0, 1, overlap + 2, dtype=np.float32)[1:-1]
    for chunks in batches:
        for estimate, (_, later) in zip(_estimate(model, [samples for samples, _ in chunks]), chunks, strict=True):
            length = estimate.shape[-1]
            weight = np.ones(length, dtype=np.float32)
            if not first:
                weight[:overlap] = fade
            if later < length:
                weight[length - overlap :] = fade[::-1]
            more = length - len(weights)
            output, weights = np.pad(output, ((0, 0), (0, 0), (0, more))), np.pad(weights, (0, more))
            output += estimate * weight
            weights += weight
            yield output[..., :later] / weights[:later]
            output, weights, first = output[..., later:], weights[later:], False


def _chunks(blocks: Iterator[np.ndarray], chunk: int, step: int) -> Iterator[Chunk]:
    """Of blocks (channel, time); all are equally long, the last one ends with the song."""
    held = _at_least(chunk + 1, [], blocks)
    while held.shape[1] > chunk:
        held = _at_least(step + chunk + 1, [held], blocks)
        later = min(step, held.shape[1] - chunk)
        yield held[:, :chunk], later
        held = held[:, later:]
    yield held, held.shape[1]


def _at_least(length: int, held: list[np.ndarray], blocks: Iterator[np.ndarray]) -> np.ndarray:
    """`held` and as many of the `blocks` as make `length` samples, or all of them."""
    while sum(block.shape[1] for block in held) < length and (block := next(blocks, None)) is not None:
        held.append(block)
    return held[0] if len(held) == 1 else np.concatenate(held, axis=1)


def _device(model: "Network") -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _estimate(model: "Network", mixtures: Sequence[np.ndarray]) -> np.ndarray:
    """(channel, time) each -> (chunk, source, channel, time), in halves where memory is short; puts the mode back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(torch.from_numpy(np.stack(mixtures)).to(_device(model))).float().cpu().numpy()
    except torch.OutOfMemoryError:
        if len(mixtures) == 1:
            raise
    finally:
        model.train(was_training)
    halves = mixtures[: len(mixtures) // 2], mixtures[len(mixtures) // 2 :]
    return np.concatenate([_estimate(model, half) for half in halves])
