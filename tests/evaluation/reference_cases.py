"""Scores of museval and mir_eval on signals from a seed, stored beside this file, and museval's published ones.

    python tests/evaluation/reference_cases.py    # write reference_cases.json again

museval (0.4.1) scores in windows of a second. mir_eval's `bss_eval_images` scores a clip whole, and so
equals BSS Eval v4 where a clip is one window. Signals come from NumPy's RandomState, whose streams are
frozen. `published` are the scores in museval's own regression data, tests/data/Music Delta - 80s Rock.json
of sigsep/sigsep-mus-eval, five decimals: that song of MUSDB18's 7-second set against estimates that are
uniform noise from seed 0, vocals drawn before accompaniment, each (time, channel).
"""

import importlib.util
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STORED = Path(__file__).with_suffix(".json")
RATE = 4000
METRICS = ("sdr", "isr", "sir", "sar")
Signals = NDArray[np.float64]  # (source, channel, time)

# name: (seed, sources, channels, samples, what happens to the estimate)
MUSEVAL = {
    "three windows and a rest": (1, 2, 2, 3 * RATE + 777, "leaks"),
    "one window": (2, 2, 2, RATE, "leaks"),
    "shorter than a window": (3, 2, 1, RATE - 1234, "leaks"),
    "four sources": (4, 4, 1, 2 * RATE, "leaks"),
    "one source": (5, 1, 2, 2 * RATE, "leaks"),
    "filtered": (6, 2, 2, 2 * RATE, "filtered"),
    "a silent window": (7, 2, 1, 3 * RATE, "silent"),
    "the mixture": (8, 2, 2, 2 * RATE, "mixture"),
}
MIR_EVAL = {
    "stereo": (11, 2, 2, RATE, "leaks"),
    "three mono sources": (12, 3, 1, RATE, "leaks"),
    "filtered stereo": (13, 2, 2, RATE - 321, "filtered"),
    "mixture": (14, 2, 2, RATE, "mixture"),
}


def signals(seed: int, sources: int, channels: int, samples: int, kind: str) -> tuple[Signals, Signals]:
    """(target, estimate) of noise with a falling spectrum, channels and sources correlated."""
    rng = np.random.RandomState(seed)  # its stream is frozen
    target = 0.1 * rng.standard_normal((sources, channels, samples))
    target[..., 1:] += 0.7 * target[..., :-1]
    target[:, -1] += 0.4 * target[:, 0]
    noise = 0.01 * rng.standard_normal(target.shape)
    if kind == "silent":
        target[0, :, RATE : 2 * RATE] = 0
    if kind == "mixture":
        return target, target.sum(axis=0) + noise
    estimate = 0.9 * target + 0.2 * np.roll(target, 1, axis=0) + noise
    if kind == "filtered":
        estimate[..., 40:] += 0.3 * target[..., :-40]
        estimate[:, 0] += 0.2 * target[:, -1]
    return target, estimate


def museval_scores(target: Signals, estimate: Signals, rate: int = RATE) -> list[Signals]:
    """SDR, ISR, SIR, SAR, each `(source, window)`."""
    # By its file: the package itself refuses to import without ffmpeg.
    found = importlib.util.find_spec("museval")
    assert found and found.submodule_search_locations
    path = Path(next(iter(found.submodule_search_locations))) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec and spec.loader
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    return metrics.bss_eval(target.swapaxes(1, 2), estimate.swapaxes(1, 2), window=rate, hop=rate)[:4]


def mir_eval_scores(target: Signals, estimate: Signals) -> list[Signals]:
    """The same of the clip as one window."""
    import mir_eval

    axes = (signal.swapaxes(1, 2) for signal in (target, estimate))
    scores = mir_eval.separation.bss_eval_images(*axes, compute_permutation=False)[:4]
    return [score[:, None] for score in scores]


def as_lists(scores: list[Signals]) -> dict[str, list[list[float | None]]]:
    """By metric, with None for NaN, which JSON does not have."""
    return {
        metric: [[None if np.isnan(value) else float(value) for value in row] for row in score]
        for metric, score in zip(METRICS, scores, strict=True)
    }


def main() -> None:
    warnings.simplefilter("ignore")
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    scorers = {"museval": (MUSEVAL, museval_scores), "mir_eval": (MIR_EVAL, mir_eval_scores)}
    for tool, (cases, scorer) in scorers.items():
        scores = {name: as_lists(scorer(*signals(*case))) for name, case in cases.items()}
        stored[tool] = {"version": version(tool), "scores": scores}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
