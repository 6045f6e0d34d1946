"""Time BSS Eval v4: sepkit against museval on one synthetic track, one thread.

    python benchmarks/bench_bss_eval.py --duration 60            # a quick look
    python benchmarks/bench_bss_eval.py --duration 240           # a full song; museval takes minutes
    python benchmarks/bench_bss_eval.py --duration 240 --skip-museval

museval needs ffmpeg to be imported.  Prints seconds, the largest difference between the two in dB, what a second estimate of the same track
costs, and the process's peak memory before and after sepkit's part.
"""

import argparse
import resource
import time

import museval.metrics
import numpy as np
from threadpoolctl import threadpool_limits

from sepkit.evaluation.bss_eval import References

RATE = 44100


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


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=60, help="seconds of audio (default 60)")
    parser.add_argument("--sources", type=int, default=2)
    parser.add_argument("--skip-museval", action="store_true")
    options = parser.parse_args()

    target, estimate = song(options.sources, options.duration)
    before = peak_mib()
    start = time.perf_counter()
    references = References(target, RATE)
    scores = references.score(estimate)
    first = time.perf_counter() - start
    start = time.perf_counter()
    references.score(estimate)
    second = time.perf_counter() - start
    size = (target.nbytes + estimate.nbytes) / 2**20
    print(f"sepkit   {first:7.2f} s; a second estimate {second:.2f} s")
    print(
        f"memory   signals {size:.0f} MiB, peak {before:.0f} MiB making them, {peak_mib():.0f} MiB scoring them"
    )

    if not options.skip_museval:
        start = time.perf_counter()
        axes = (np.moveaxis(signal, 1, 2) for signal in (target, estimate))
        expected = museval.metrics.bss_eval(*axes, window=RATE, hop=RATE)[:4]
        slow = time.perf_counter() - start
        pairs = zip(scores.values(), expected, strict=True)
        worst = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
        print(f"museval  {slow:7.2f} s; {slow / first:.0f} times as long; largest difference {worst:.1e} dB")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
