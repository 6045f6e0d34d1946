"""What difference can n songs and k seeds show?

Closed forms for normal differences (Cohen 1988, ch. 2): a two-sided test with standard error se and f degrees of
freedom has the power P(|T| > t) for T noncentral t with f degrees and noncentrality difference / se.

Two checkpoints: Wilcoxon's test over n songs is a paired t-test over 3n/π songs (asymptotic relative
efficiency; Hollander, Wolfe, Chicken 2014, ch. 3), with the SD over songs of their paired difference.
Two methods: the interval of `sepkit.evaluation.paired` with k seeds a side, its variances and degrees of
freedom drawn from their distributions (20,000 times, always the same draws).
"""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats

from sepkit.errors import UsageError
from sepkit.evaluation.paired import pseudo_median
from sepkit.evaluation.sides import Side
from sepkit.evaluation.signals import Array
from sepkit.evaluation.statistics import ALPHA
from sepkit.experiments import BASE
from sepkit.profiles import ProfileLike, get_profile
from sepkit.storage import Root, RootLike

# Of published configurations: SD over songs between two seeds or systems, SD between seeds of the mean.
PAIRED_SDS: tuple[float, ...] = (0.4, 0.6, 1.0, 1.7)
SEED_SDS = (0.1, 0.15, 0.3)
TYPICAL_PAIRED_SD = 1.0
POWER = 0.8
INTERVAL_ALPHA = 0.05  # methods are compared by 95 % intervals
DRAWS = 20_000


def detectable_db(se: float, degrees: float, alpha: float = 0.05) -> float:
    """The difference in dB that a two-sided t-test with standard error `se` finds with 80 % power.

    >>> round(detectable_db(0.1 * math.sqrt(2 / 3), 4), 2)  # 3 against 3 seeds
    0.31
    """
    levels = (np.arange(4000) + 0.5) / 4000  # scipy's own noncentral t gives NaN in places
    spread = np.sqrt(scipy.stats.chi2.ppf(levels, degrees) / degrees)
    return se * _shift_found(scipy.stats.t.ppf(1 - alpha / 2, degrees) * spread)


def _shift_found(limits: Array) -> float:
    """The mean of a unit normal that is beyond ± limit, itself random, with probability POWER."""

    def lacking(shift: float) -> float:
        found = scipy.stats.norm.sf(limits - shift) + scipy.stats.norm.cdf(-limits - shift)
        return float(np.mean(found)) - POWER

    return float(scipy.optimize.brentq(lacking, 1e-6, float(limits.max()) + 10))


def checkpoints_db(songs: int, paired_sd: float, alpha: float = ALPHA) -> float:
    """What Wilcoxon's test over `songs` finds between two checkpoints, dB.

    >>> round(checkpoints_db(50, 0.4, alpha=0.05), 2)
    0.17
    """
    effective = songs * 3 / math.pi
    return detectable_db(paired_sd / math.sqrt(effective), effective - 1, alpha)


def methods_db(songs: int, seeds: int, seed_sd: float, paired_sd: float) -> float:
    """What the 95 % interval over songs and seeds finds between two methods of `seeds` trainings each, dB.

    seed_sd: SD between seeds of the score over songs (the noise of songs included);
    paired_sd: SD over songs of the difference between two seeds.

    >>> round(methods_db(50, 3, 0.3, 0.4), 1)
    1.0
    """
    between, of_songs = seed_sd**2 / seeds, paired_sd**2 / (seeds * songs)
    frees = np.array([[seeds - 1], [seeds - 1], [songs - 1]])
    drawn = np.random.default_rng(0).chisquare(frees, (3, DRAWS))
    parts = np.array([[between], [between], [of_songs]]) * drawn / frees
    total = parts.sum(axis=0)
    degrees = total**2 / (parts**2 / frees).sum(axis=0)
    se = math.sqrt(2 * between)  # seed_sd holds the noise of songs already; the interval counts it again
    return se * _shift_found(scipy.stats.t.ppf(1 - INTERVAL_ALPHA / 2, degrees) * np.sqrt(total) / se)


def power_table(
    root: RootLike = None,
    profile: ProfileLike = None,
    *,
    songs: int | None = None,
    seeds: Iterable[int] = (2, 3, 5),
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """The smallest difference found with 80 % power: a row for each question and spread.

    Columns: between ("checkpoints", tested at `alpha`, or "methods", by 95 % intervals), songs, seeds (a side),
    paired_sd, seed_sd, alpha, detectable_db, and t_test_db: textbook t-tests at 5 %, paired over the songs, or of k
    against k seeds with songs free of noise, as published tables count. With two or more scored seeds of Base under
    `root` its own spreads are used; `.attrs["basis"]` says which.
    """
    profile = get_profile(profile)
    songs, seeds = songs or profile.test_songs, tuple(seeds)
    if songs < 6 or not seeds or min(seeds) < 2:
        raise UsageError(f"Expected at least 6 songs and 2 seeds a side, got {songs} songs and seeds {seeds}.")
    basis = "spreads as published; with two scored seeds of Base, Base's own are used"
    paired, spreads = PAIRED_SDS, [(sd, TYPICAL_PAIRED_SD) for sd in SEED_SDS]
    if measured := measured_spread(Root.open(root, profile)):
        seed_sd, paired_sd, count = measured
        paired, spreads = (paired_sd,), [(seed_sd, paired_sd)]
        basis = f"spreads of {count} seeds of Base here: SD {seed_sd:.2f} dB between seeds, {paired_sd:.2f} dB over songs between two seeds"
    rows: list[tuple[str | float, ...]] = []
    for sd in paired:
        t_test = detectable_db(sd / math.sqrt(songs), songs - 1)
        rows.append(("checkpoints", songs, 1, sd, math.nan, alpha, checkpoints_db(songs, sd, alpha), t_test))
    for k, (seed_sd, sd) in itertools.product(seeds, spreads):
        t_test = detectable_db(seed_sd * math.sqrt(2 / k), 2 * k - 2)
        rows.append(("methods", songs, k, sd, seed_sd, INTERVAL_ALPHA, methods_db(songs, k, seed_sd, sd), t_test))
    names = ["between", "songs", "seeds", "paired_sd", "seed_sd", "alpha", "detectable_db", "t_test_db"]
    table = pd.DataFrame(rows, columns=names)
    table.attrs["basis"] = basis
    return table


def measured_spread(root: Root) -> tuple[float, float, int] | None:
    """(SD between seeds, SD over songs between two seeds, seeds) of Base under `root`, dB; or None."""
    runs = root.scored_runs(BASE)
    if len(runs) < 2:
        return None
    side = Side(pd.concat([run.scores() for run in runs]), "sdr_bsseval", "vocals", "root")
    table = side.table.loc[:, np.isfinite(side.means)].to_numpy()
    if side.seeds < 2 or table.shape[1] < 2:
        return None
    levels = [pseudo_median(seed - table.mean(axis=0)) for seed in table]
    between = [np.var(one - other, ddof=1) for one, other in itertools.combinations(table, 2)]
    spread = float(np.std(levels, ddof=1)), float(np.sqrt(np.mean(between)))
    return (*spread, side.seeds) if min(spread) > 0 else None
