"""Time BSS Eval v4: sepkit against museval on the same signals, one thread, one run.

    python benchmarks/bench_bss_eval.py --duration 60            # a quick look
    python benchmarks/bench_bss_eval.py --duration 240           # a full song; museval takes minutes
    python benchmarks/bench_bss_eval.py --duration 240 --skip-museval
    python benchmarks/bench_bss_eval.py --data FOLDER --songs 20 # real songs, mixture and oracle as estimates

Prints CPU seconds of the one thread, the largest difference in dB over all windows and all four metrics, whether NaN stands in the
same places, what a second estimate of the same track costs, the peak memory of a fresh process that holds
the signals and scores them, and the floor: what the transforms alone take. museval's module is loaded by its
file, since the package wants ffmpeg.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
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

RATE = 44100
METRICS = ("sdr", "isr", "sir", "sar")


def song(sources: int, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Targets with a falling spectrum, and estimates with leakage, a filter's colour and noise."""
    rng = np.random.default_rng(0)
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


def floor(target: np.ndarray, estimates: int = 1) -> float:
    """Seconds of the transforms alone: each block of targets and estimates once, sums back once a window."""
    rows = Windows(torch.from_numpy(target.reshape(-1, target.shape[2])), RATE)
    blocks = torch.randn(-(-RATE // rows.step), len(rows.rows), rows.n_fft, dtype=torch.float64)
    sums = torch.randn(len(rows.rows), len(rows.rows), rows.n_fft // 2 + 1, dtype=torch.complex128)

    def transforms() -> None:
        for _ in range(len(rows.parts)):
            for _ in range(2 + estimates):  # the targets' blocks, the same and 511 samples more, the estimates'
                torch.fft.rfft(blocks)
            for _ in range(1 + estimates):
                torch.fft.irfft(sums, n=rows.n_fft)

    return timed(transforms)[0]


def synthetic(options: argparse.Namespace) -> None:
    before, peak = memory(options.sources, options.duration)
    target, estimate = song(options.sources, options.duration)
    other = 0.5 * estimate + 0.1 * target
    References(target[..., :RATE], RATE).score(estimate[..., :RATE])  # what a first call alone pays

    def both() -> tuple[float, float]:
        references = References(target, RATE)
        return timed(lambda: references.score(estimate))[0], timed(lambda: references.score(other))[0]

    runs = [both() for _ in range(3)]
    first, second = np.median(runs, axis=0)
    least = floor(target)
    size = (target.nbytes + estimate.nbytes) / 2**20
    print(f"{options.duration:g} s, {options.sources} stereo sources, one thread, median of 3")
    print(f"sepkit   {first:7.2f} s; a second estimate {second:.2f} s, {100 * second / first:.0f} %")
    print(f"floor    {least:7.2f} s, the transforms alone; sepkit takes {first / least:.1f} times as long")
    print(f"memory   signals {size:.0f} MiB; process {before:.0f} MiB holding them, {peak:.0f} MiB scoring them")
    if not options.skip_museval:
        slow, expected = with_museval(museval_metrics(), target, estimate)
        worst, same = difference(References(target, RATE).score(estimate), expected)
        print(f"museval  {slow:7.2f} s; {slow / first:.0f} times as long; largest difference {worst.max():.1e} dB, "
              f"same shape and NaN: {same}")  # fmt: skip


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
    parser.add_argument("--duration", type=float, default=60, help="seconds of audio (default 60)")
    parser.add_argument("--sources", type=int, default=2)
    parser.add_argument("--skip-museval", action="store_true")
    parser.add_argument("--data", help="folder of real songs instead of made signals")
    parser.add_argument("--songs", type=int, default=20)
    options = parser.parse_args()
    real(options) if options.data else synthetic(options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
