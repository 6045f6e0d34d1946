"""Silence, perfection and broken input: what museval, torchmetrics and sepkit make of each.

    python benchmarks/degenerate_cases.py            # print the table
    python benchmarks/degenerate_cases.py --write    # and write docs/degenerate.md

museval needs ffmpeg to be imported. Every case starts from the same targets, unit pulses more than 512
samples apart in two stereo sources, and from the estimate 1.125 times the target: its error is an eighth
of the target, so SDR is 20·log10(8) = 18.06 dB in every window, in float16 too. The tests hold sepkit to
the last column but one. Deterministic.
"""

import argparse
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from sepkit.errors import SepkitError
from sepkit.evaluation.track import score_track

RATE = 4000  # Hz
GAIN = 1.125
USUAL = 20 * math.log10(8)
NAMES = ("vocals", "accompaniment")
DOCUMENT = Path(__file__).parents[1] / "docs" / "degenerate.md"
Signals = NDArray[np.generic]  # (source, channel, time)
HEAD = """# What has no score

One source's estimate can be silent, perfect or broken. The table shows each tool's SDR of the vocals;
`benchmarks/degenerate_cases.py` makes it. The other source is the same in every case: 1.125 times its target,
18.06 dB.

| column | what |
|---|---|
| museval | `museval.evaluate`, one-second windows, median over windows |
| torchmetrics | `signal_distortion_ratio`, mean over channels, float64 where it accepts that; it allows any filter, so a wrong level scores as perfect |
| sepkit | `sdr_bsseval`. "refused": a sentence that names track and source; in an evaluation that song becomes undefined, and the others are scored |
| right | the correct value; the tests compare sepkit with it |

"""


@dataclass(frozen=True)
class Case:
    """`right`: SDR of vocals in dB; or how the status begins; or, after "refused: ", the error's words."""

    right: float | str
    change: Callable[[Signals, Signals], tuple[Signals, Signals]]
    why: str


def usual(samples: int = 3 * RATE) -> tuple[Signals, Signals]:
    """(target, estimate): pulses at 500 and 2500 of each second's 4000 samples, right ones at half size."""
    target = np.zeros((2, 2, samples))
    for source, first in enumerate((500, 2500)):
        target[source, :, first::RATE] = [[1.0], [0.5]]
    return target, GAIN * target


def muted(signals: Signals, source: int = 0, channel: slice = slice(None), time: slice = slice(None)) -> Signals:
    """A copy with zeros there."""
    copy = signals.copy()
    copy[source, channel, time] = 0
    return copy


def cancelling(signals: Signals) -> Signals:
    """A copy whose vocals have right = −left."""
    copy = signals.copy()
    copy[0, 1] = -copy[0, 0]
    return copy


def broken(signals: Signals, value: float) -> Signals:
    copy = signals.copy()
    copy[0, 0, 100] = value
    return copy


SECOND, RIGHT = slice(RATE, 2 * RATE), slice(1, 2)
CASES = {
    "nothing wrong": Case(USUAL, lambda t, e: (t, e), "error = target / 8"),
    "perfect estimate": Case(math.inf, lambda t, e: (t, t.copy()), "no error"),
    "estimate upside down": Case(-20 * math.log10(2), lambda t, e: (t, -t), "error = twice the target"),
    "silent target": Case("undefined: silent target", lambda t, e: (muted(t), e), "nothing to divide by"),
    "silent estimate": Case("undefined: silent estimate", lambda t, e: (t, muted(e)), "0 dB would flatter"),
    "both silent": Case("undefined: silent target", lambda t, e: (muted(t), muted(e)), "0 / 0"),
    "other target silent": Case(
        "undefined: the target of accompaniment is silent",
        lambda t, e: (muted(t, 1), e),
        "a window counts if all sources sound",
    ),
    "target silent for a second": Case(
        USUAL, lambda t, e: (muted(t, time=SECOND), e), "that window is left out, and counted"
    ),
    "estimate silent for a second": Case(
        USUAL, lambda t, e: (t, muted(e, time=SECOND)), "that window is left out, and counted"
    ),
    "sources take turns": Case(
        "undefined: no window in which",
        lambda t, e: (muted(muted(t, 0, time=slice(RATE, None)), 1, time=slice(RATE)), e),
        "a window counts if all sources sound",
    ),
    "target left = −right": Case(
        "undefined: the target adds up to nothing",
        lambda t, e: (cancelling(t), e),
        "museval adds the channels to find silence",
    ),
    "estimate left = −right": Case(
        "undefined: the estimate adds up to nothing",
        lambda t, e: (t, cancelling(e)),
        "museval adds the channels to find silence",
    ),
    "a silent channel": Case(
        USUAL, lambda t, e: (muted(t, channel=RIGHT), muted(e, channel=RIGHT)), "its error is nothing too"
    ),
    "equal channels": Case(USUAL, lambda t, e: (t[:, [0, 0]], e[:, [0, 0]]), "singular equations; SDR needs no filter"),
    "mono": Case(USUAL, lambda t, e: (t[:, :1], e[:, :1]), "error = target / 8"),
    "shorter than a window": Case(
        USUAL, lambda t, e: (t[..., :3000], e[..., :3000]), "one window, as long as the clip"
    ),
    "float16": Case(USUAL, lambda t, e: (t.astype(np.float16), e.astype(np.float16)), "scored in float64"),
    "integers": Case(
        "refused: must be floating point",
        lambda t, e: (np.int16(8000 * t), np.int16(8000 * e)),
        "full scale is unknown",
    ),
    "NaN in the estimate": Case(
        "refused: 1 samples that are NaN", lambda t, e: (t, broken(e, math.nan)), "a diverged model"
    ),
    "infinity in the estimate": Case(
        "refused: 1 samples that are NaN", lambda t, e: (t, broken(e, math.inf)), "a diverged model"
    ),
    "estimate a second short": Case(
        "refused: has 8000 samples where 12000", lambda t, e: (t, e[..., : 2 * RATE]), "which end is missing?"
    ),
    "estimate a second long": Case(
        "refused: has 16000 samples where 12000", lambda t, e: (t, usual(4 * RATE)[1]), "which end is too much?"
    ),
    "transposed": Case(
        "refused: swap the last two axes", lambda t, e: (t.swapaxes(1, 2), e.swapaxes(1, 2)), "12000 channels"
    ),
}


def sepkit_says(name: str) -> float | str:
    """SDR of vocals in dB, or status, or "refused: " with the error."""
    target, estimate = CASES[name].change(*usual())
    try:
        rows = score_track(
            estimate=dict(zip(NAMES, estimate, strict=True)),
            target=dict(zip(NAMES, target, strict=True)),
            sample_rate=RATE,
            track="Song",
        )
    except SepkitError as error:
        return f"refused: {error}"
    assert rows[0]["metric"] == "sdr_bsseval"
    return rows[0]["value"] if rows[0]["status"] == "ok" else rows[0]["status"]


def museval_says(name: str) -> float | str:
    """Median over windows of `museval.evaluate`'s SDR, or its error."""
    import museval

    target, estimate = (signal.swapaxes(1, 2) for signal in CASES[name].change(*usual()))
    try:
        scores = museval.evaluate(target, estimate, win=RATE, hop=RATE)[0][0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return float(np.nanmedian(scores)) if np.isfinite(scores).any() else float(scores[0])


def torchmetrics_says(name: str) -> float | str:
    """Mean over channels of torchmetrics' SDR, or its error."""
    import torch
    from torchmetrics.functional.audio import signal_distortion_ratio

    target, estimate = (torch.from_numpy(signal[0].copy()) for signal in CASES[name].change(*usual()))
    try:
        if not target.is_floating_point() or target.dtype == torch.float64:
            return float(signal_distortion_ratio(estimate, target).mean())
        return float(signal_distortion_ratio(estimate.double(), target.double()).mean())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def shown(answer: float | str) -> str:
    if isinstance(answer, str):
        words = " ".join(answer.split()).replace("|", "/")
        return words if len(words) <= 120 else words[:119] + "…"
    if answer > 100:  # how much more is rounding, and differs from machine to machine
        return "+inf" if math.isinf(answer) else "over 100"
    return "NaN" if math.isnan(answer) else f"{answer:.2f}"


def table() -> str:
    """The table in Markdown."""
    warnings.simplefilter("ignore")
    rows = []
    for name, case in CASES.items():
        answers = (museval_says(name), torchmetrics_says(name), sepkit_says(name))
        rows.append([name, *map(shown, answers), shown(case.right), case.why])
    headers = ["case", "museval", "torchmetrics", "sepkit", "right", "because"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name}")
    options = parser.parse_args()
    found = table()
    print(found)
    if options.write:
        DOCUMENT.write_text(HEAD + found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
