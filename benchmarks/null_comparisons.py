"""How often a difference is claimed where there is none: 200 simulated nulls for each kind of noise.

    python benchmarks/null_comparisons.py --write    # the tables of docs/statistics.md

Two methods with the same quality are trained with k seeds each and scored on 50 songs:

    score[seed, song] = song + quality + seed's own level + noise of (seed, song)

The two spreads are set by what is published about seeds: SD between seeds of the mean over songs (0.03 to
0.24 dB) and SD over songs of the difference between two seeds (0.4 to 1.7 dB). The noise alone moves the
mean by paired SD / √(2 · songs), which is part of the first. Deterministic; about two minutes.
"""

import argparse
import math
import re
from pathlib import Path

import numpy as np
from tabulate import tabulate

from sepkit.data.tracks import artist_of
from sepkit.evaluation.paired import artist_bootstrap, components, wilcoxon
from sepkit.evaluation.power import PAIRED_SDS, SEED_SDS, TYPICAL_PAIRED_SD, checkpoints_db, detectable_db, methods_db
from sepkit.evaluation.signals import Array

SONGS = 50
# name: (SD between seeds of the mean, SD over songs between two seeds, tails and artists)
CASES = {
    "quiet": (0.03, 0.28, "normal"),
    "songs differ": (0.10, 1.0, "normal"),
    "seeds differ": (0.24, 0.4, "normal"),
    "both differ": (0.24, 1.7, "normal"),
    "heavy tails": (0.24, 1.7, "student"),
    "two songs an artist": (0.24, 1.7, "artists"),
    "methods differ by song": (0.10, 0.6, "interaction"),
}
SEEDS = (2, 3, 5)
DOCUMENT = Path(__file__).parents[1] / "docs" / "statistics.md"


def simulate(
    seeds: int, seed_sd: float, paired_sd: float, kind: str, gain: float, number: int, songs: int = SONGS
) -> tuple[Array, Array, list[str]]:
    """(run, base, names of songs): scores `(seed, song)` in dB, the run better by `gain`."""
    rng = np.random.default_rng([number, seeds])
    noise_sd = paired_sd / math.sqrt(2)
    level_sd = math.sqrt(max(0.0, seed_sd**2 - noise_sd**2 / songs))
    artists = np.arange(songs) // 2 if kind == "artists" else np.arange(songs)
    song = 3 * rng.standard_normal(songs)
    common, sides = song, []
    for quality in (gain, 0.0):
        if kind == "interaction":  # as between systems: 1.7 dB over songs, 0 on average
            song = common + 1.7 * rng.standard_normal(songs) / math.sqrt(2)
        noise = rng.standard_normal((seeds, songs))
        if kind == "student":
            noise = rng.standard_t(3, (seeds, songs)) / math.sqrt(3)  # SD 1
        elif kind == "artists":
            noise = (noise + rng.standard_normal((seeds, songs))[:, artists]) / math.sqrt(2)
        level = level_sd * rng.standard_normal((seeds, 1))
        sides.append(song + quality + level + noise_sd * noise)
    return sides[0], sides[1], [f"artist {of} - song {i}" for i, of in enumerate(artists)]


def claims(run: Array, base: Array, names: list[str]) -> tuple[bool, bool, bool]:
    """Whether a difference is claimed at 5 % by Wilcoxon, by a plain bootstrap, by the method's interval."""
    differences = run.mean(axis=0) - base.mean(axis=0)
    parts = components(run, base, artist_bootstrap(differences, names, 500), len(set(map(artist_of, names))))
    assert parts is not None
    low, high = parts.interval
    low_plain, high_plain = plain_bootstrap(run, base)
    return wilcoxon(differences)[0] < 0.05, not low_plain <= 0 <= high_plain, not low <= 0 <= high


def plain_bootstrap(run: Array, base: Array, resamples: int = 1000) -> tuple[float, float]:
    """Percentiles of the mean difference, songs and each side's seeds drawn with replacement."""
    rng = np.random.default_rng(0)
    songs = rng.multinomial(run.shape[1], np.full(run.shape[1], 1 / run.shape[1]), size=resamples)
    means = []
    for side in (run, base):
        seeds = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), size=resamples)
        means.append(np.einsum("bs,sn,bn->b", seeds, side, songs, optimize=True) / side.size)
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def rates(case: str, seeds: int, count: int, gain: float = 0.0) -> tuple[float, float, float]:
    """Share of `count` simulated comparisons in which each of the three claims a difference."""
    seed_sd, paired_sd, kind = CASES[case]
    found = [claims(*simulate(seeds, seed_sd, paired_sd, kind, gain, number)) for number in range(count)]
    test, plain, method = np.mean(found, axis=0)
    return float(test), float(plain), float(method)


def table(nulls: int) -> str:
    """The table of false claims, and of the claims under a true difference of 0.5 dB."""
    rows = []
    for case, (seed_sd, paired_sd, _) in CASES.items():
        for seeds in SEEDS:
            null = rates(case, seeds, nulls)
            power = rates(case, seeds, nulls // 2, gain=0.5)[2]
            rows.append([case, f"{seed_sd:.2f}", f"{paired_sd:.1f}", seeds,
                         *(f"{100 * rate:.1f} %" for rate in null), f"{100 * power:.0f} %"])  # fmt: skip
            print(*rows[-1], sep="  ", flush=True)
    headings = [
        "noise", "seed SD, dB", "paired SD, dB", "seeds a side", "Wilcoxon p < 0.05", "plain bootstrap",
        "sepkit's interval", "finds 0.5 dB",
    ]  # fmt: skip
    return tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)


def power() -> str:
    """The smallest differences: ours beside textbook t-tests."""
    rows: list[list[str]] = []
    for sd in PAIRED_SDS:
        row = [checkpoints_db(SONGS, sd), checkpoints_db(SONGS, sd, alpha=0.05)]
        rows.append([f"checkpoints, paired SD {sd}", *(f"{each:.2f}" for each in row),
                     f"{detectable_db(sd / math.sqrt(SONGS), SONGS - 1):.2f}"])  # fmt: skip
    for seeds in SEEDS:
        for sd in SEED_SDS:
            own = methods_db(SONGS, seeds, sd, TYPICAL_PAIRED_SD)
            rows.append([f"methods, {seeds} seeds, seed SD {sd}", "—", f"{own:.2f}",
                         f"{detectable_db(sd * math.sqrt(2 / seeds), 2 * seeds - 2):.2f}"])  # fmt: skip
    headings = ["between", "ours at p < 0.01, dB", "ours at 5 %, dB", "t-test at 5 %, dB"]
    return tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nulls", type=int, default=200, help="simulated comparisons for each line")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    options = parser.parse_args()
    tables = {"nulls": table(options.nulls), "power": power()}
    print(tables["power"])
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        for name, content in tables.items():
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            text = re.sub(f"{begin}.*{end}", f"{begin}\n{content}\n{end}", text, flags=re.DOTALL)
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
