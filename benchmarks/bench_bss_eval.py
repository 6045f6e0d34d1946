"""Time BSS Eval v4: sepkit beside museval and fast_bss_eval on the same signals, one thread, one run.

    python benchmarks/bench_bss_eval.py                          # the table; museval takes minutes for a full song
    python benchmarks/bench_bss_eval.py --duration 60            # a shorter song
    python benchmarks/bench_bss_eval.py --data FOLDER --songs 20 # real songs, mixture and oracle as estimates

CPU seconds of the one thread: median, and least and most in brackets. `rows` gives the table. Beside it: the largest
difference from museval in dB over all windows and metrics, whether NaN stands in the same places, the peak memory of a
fresh process that holds the signals and scores them, and the floor: what the transforms alone take. museval's module is
loaded by its file, since the package wants ffmpeg. fast_bss_eval computes BSS Eval v3: one score a track, no windows, no
ISR, each channel a source of its own.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from sepkit.data.songs import accompaniment, find_songs, read_song
from sepkit.evaluation.bsseval import References
from sepkit.evaluation.estimators import oracle_estimate
from sepkit.evaluation.filters import Windows
from sepkit.evaluation.track import Targets
from sepkit.profiles import PROTOCOLS

RATE = 44100
METRICS = ("sdr", "isr", "sir", "sar")
FULL_S, CLIP_S = 240.0, 6.8  # a song, and an excerpt of MUSDB18's 7-second set
EXPERIMENTS, SONGS = 14, 50


def song(sources: int, duration_s: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets with a falling spectrum, and estimates with leakage, a filter's colour and noise."""
    rng = np.random.default_rng(seed)
    shape = (sources, 2, int(duration_s * RATE))
    target = 0.1 * rng.standard_normal(shape)
    target[..., 1:] += 0.9 * target[..., :-1]
    target[:, 1] += 0.5 * target[:, 0]
    estimate = 0.02 * rng.standard_normal(shape)
    for part in (0.8 * target, 0.1 * np.roll(target, 1, axis=0), 0.1 * np.roll(target, 9, axis=2)):
        estimate += part
    return target, estimate


def museval_metrics() -> Any:
    spec = importlib.util.find_spec("museval")
    assert spec and spec.submodule_search_locations
    place = Path(spec.submodule_search_locations[0]) / "metrics.py"
    module_spec = importlib.util.spec_from_file_location("museval_metrics", place)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def timed(call: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def with_museval(metrics: Any, target: np.ndarray, estimate: np.ndarray) -> tuple[float, list[np.ndarray]]:
    axes = [np.moveaxis(signal, 1, 2) for signal in (target, estimate)]
    return timed(lambda: metrics.bss_eval(*axes, window=RATE, hop=RATE)[:4])


def difference(scores: dict[str, np.ndarray], expected: list[np.ndarray]) -> tuple[np.ndarray, bool]:
    """(largest difference of each metric in dB, whether shape and NaN are the same)."""
    pairs = list(zip(scores.values(), expected, strict=True))
    same = all(a.shape == b.shape and np.array_equal(np.isnan(a), np.isnan(b)) for a, b in pairs)
    with np.errstate(invalid="ignore"):
        return np.array([np.nanmax(np.where(a == b, 0, np.abs(a - b))) for a, b in pairs]), same


MEMORY = """
import resource
import numpy as np, torch
from sepkit.evaluation.bsseval import References
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(1)
rng = np.random.default_rng(0)
target, estimate = (rng.standard_normal(({sources}, 2, {length})) for _ in range(2))
before = peak()
References(target).score(estimate)
print(before, peak())
"""


def memory(sources: int, duration_s: float) -> tuple[float, float]:
    """Peak MiB of a process that holds the signals, before and after it scores them."""
    code = MEMORY.format(sources=sources, length=int(duration_s * RATE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, peak = map(float, done.stdout.split())
    return before, peak


def floor(target: np.ndarray, firsts: int) -> float:
    """CPU seconds of the transforms alone of an estimate; `firsts` = 1: the first, which transforms the targets too.

    Forward once for each block of an estimate, and twice for one of the targets (alone, and with 511 samples more);
    back once a window for each pair of rows.
    """
    rows = Windows(torch.from_numpy(target.reshape(-1, target.shape[2])), RATE)
    blocks = torch.randn(-(-RATE // rows.step), len(rows.rows), rows.n_fft, dtype=torch.float64)
    sums = torch.randn(len(rows.rows), len(rows.rows), rows.n_fft // 2 + 1, dtype=torch.complex128)

    def transforms() -> None:
        for _ in range(len(rows.parts)):
            for _ in range(1 + 2 * firsts):
                torch.fft.rfft(blocks)
            for _ in range(1 + firsts):
                torch.fft.irfft(sums, n=rows.n_fft)

    return timed(transforms)[0]


Row = dict[str, Any]


def row(line: str, ours: Sequence[float], peer: Sequence[float], note: str) -> Row:
    """A line of the table: median CPU seconds of both; spread: least and most of ours."""
    spread = f"{min(ours):.3g} to {max(ours):.3g}"
    medians = {"ours": float(np.median(ours)), "peer": float(np.median(peer))}
    return {"line": line, **medians, "unit": "CPU s", "spread": spread, "note": note}


def rows(full_s: float = FULL_S, repeats: int = 5, songs: int = SONGS) -> list[Row]:
    """The table: a clip, a whole evaluation of clips, a song; a second estimate of each of them."""
    return [*each_row(full_s, repeats, songs)]


def each_row(full_s: float, repeats: int, songs: int) -> Iterator[Row]:
    clip_rows, museval_s = track_rows(f"{CLIP_S:g} s", CLIP_S, repeats, repeats)
    yield from clip_rows
    yield evaluation_row(songs, museval_s)
    yield from track_rows(f"{full_s:g} s", full_s, repeats, 1)[0]


def track_rows(name: str, duration_s: float, repeats: int, of_museval: int) -> tuple[list[Row], float]:
    """(the lines of one track of two stereo sources, museval's CPU seconds)."""
    target, estimate = song(2, duration_s)
    other = 0.5 * estimate + 0.1 * target
    References(target[..., :RATE], RATE).score(estimate[..., :RATE])  # what a first call alone pays
    first, second = [], []
    for _ in range(repeats):
        references = References(target, RATE)
        seconds, scores = timed(partial(references.score, estimate))
        first.append(seconds)
        second.append(timed(partial(references.score, other))[0])
    metrics, museval = museval_metrics(), []
    for _ in range(of_museval):
        seconds, expected = with_museval(metrics, target, estimate)
        museval.append(seconds)
    worst, same = difference(scores, expected)
    floors = [floor(target, firsts) for firsts in (1, 0)]
    note = f"museval {len(museval)} times; largest difference {worst.max():.1e} dB, same NaN: {same}; transforms {{:.3g}} s"
    found = [
        row(f"BSS Eval, {name}", first, museval, note.format(floors[0])),
        row(f"BSS Eval, {name}, second estimate", second, museval, f"{np.median(second) / np.median(first):.0%} of the first; transforms {floors[1]:.3g} s"),
    ]  # fmt: skip
    if theirs := fast_bss_eval(target, estimate):
        found.append(row(f"BSS Eval, {name}, fast_bss_eval", first, theirs, "theirs is v3: no windows, no ISR, mono"))
    return found, float(np.median(museval))


def fast_bss_eval(target: np.ndarray, estimate: np.ndarray) -> list[float]:
    """CPU seconds of three calls; none where it is not installed."""
    if not importlib.util.find_spec("fast_bss_eval"):
        print("fast_bss_eval is not installed (requirements-dev.txt): its lines are left out")
        return []
    from fast_bss_eval import bss_eval_sources

    signals = [torch.from_numpy(signal.reshape(-1, signal.shape[-1])) for signal in (target, estimate)]
    call = partial(bss_eval_sources, *signals, compute_permutation=False)
    return [timed(call)[0] for _ in range(3)]


def evaluation_row(songs: int, museval_s: float) -> Row:
    """All metrics of 14 experiments on `songs` clips; museval's BSS Eval alone, extrapolated from one clip."""
    names, seconds = PROTOCOLS["2stem"], []
    for seed in range(songs):
        target, estimate = song(2, CLIP_S, seed)
        truth = dict(zip(names, target, strict=True))
        estimates = [dict(zip(names, estimate + 0.01 * k * target, strict=True)) for k in range(EXPERIMENTS)]
        seconds.append(timed(partial(evaluate, truth, estimates))[0])
    note = f"ours with all metrics, {songs} songs measured; museval's alone, one clip × {songs * EXPERIMENTS}"
    found = row(f"evaluation of {EXPERIMENTS} experiments on {songs} clips of {CLIP_S:g} s", seconds, [museval_s], note)
    total = {"ours": sum(seconds), "peer": museval_s * songs * EXPERIMENTS}
    return {**found, **total, "spread": f"{found['spread']} a song"}


def evaluate(target: dict[str, np.ndarray], estimates: list[dict[str, np.ndarray]]) -> None:
    targets = Targets(target, RATE)
    for estimate in estimates:
        targets.score(estimate)


def synthetic(options: argparse.Namespace) -> None:
    for found in each_row(options.duration, options.repeats, options.songs):
        print("{line}: {ours:.3g} {unit} [{spread}], {peer:.3g} of the peer, ".format(**found), end="")
        print(f"{found['peer'] / found['ours']:.3g} times; {found['note']}", flush=True)
    before, peak = memory(2, options.duration)
    print(
        f"memory: process {before:.0f} MiB holding the signals of {options.duration:g} s, {peak:.0f} MiB scoring them"
    )


def real(options: argparse.Namespace) -> None:
    metrics, ours, theirs, worst, same = museval_metrics(), 0.0, 0.0, np.zeros(4), True
    tracks = find_songs(options.data).split("test")[: options.songs]
    for track in tracks:
        audio, _ = read_song(track)
        stems = {"vocals": audio["vocals"], "accompaniment": accompaniment(audio)}
        target = np.stack([*stems.values()]).astype(np.float64)
        mixture = audio["mixture"].astype(np.float64)
        oracle = oracle_estimate(mixture.astype(np.float32), {k: v.astype(np.float32) for k, v in stems.items()})
        references = References(target, RATE)
        for estimate in (np.stack([mixture, mixture]), np.stack([oracle[name] for name in stems])):
            fast, scores = timed(partial(references.score, estimate))
            slow, expected = with_museval(metrics, target, estimate.astype(np.float64))
            found, equal = difference(scores, expected)
            ours, theirs, worst, same = ours + fast, theirs + slow, np.maximum(worst, found), same and equal
    shown = ", ".join(f"{name} {value:.1e}" for name, value in zip(METRICS, worst, strict=True))
    print(f"{len(tracks)} real songs, mixture and oracle: {ours:.1f} s against museval's {theirs:.1f} s, "
          f"{theirs / ours:.0f} times; largest differences in dB: {shown}; same shape and NaN: {same}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=FULL_S, help="seconds of the song (default 240)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", help="folder of real songs instead of made signals")
    parser.add_argument("--songs", type=int, default=SONGS)
    options = parser.parse_args()
    real(options) if options.data else synthetic(options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
