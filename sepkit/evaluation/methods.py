"""Would another training say the same? An interval for the difference between two methods.

A test over songs holds the trained checkpoints fixed. A claim about methods counts the seeds as well: each side was
trained k times, and another k trainings would score otherwise. Songs and seeds are crossed, so their variances add:

    V = V_songs + S²_run / k_run + S²_base / k_base

V_songs: variance of the pseudo-median when artists are resampled (seed-averaged differences). S²: variance
over one side's seeds of the pseudo-median against the other side's average. The interval is the
pseudo-median ± t·√V, t with Satterthwaite's degrees of freedom (Welch 1947), since 2 to 5 seeds estimate a
variance poorly. The noise of single songs is counted in V_songs and in S² too, which errs to the wide side.

Percentiles of a bootstrap over songs and seeds are not used: with k seeds a side it captures only (k − 1)/k
of the variance between seeds, and excludes zero far too often (docs/statistics.md shows both).
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats

from sepkit.evaluation.paired import pseudo_median
from sepkit.evaluation.signals import Array


@dataclass(frozen=True)
class Components:
    """What a method's interval is made of; variances in dB², of the estimate."""

    estimate: float  # dB
    songs: float
    run: float  # S² / k of the run's seeds; 0 for a reference, which has none
    base: float
    degrees: float  # Satterthwaite's, of the sum

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        half = scipy.stats.t.ppf(0.975, self.degrees) * np.sqrt(self.songs + self.run + self.base)
        return self.estimate - float(half), self.estimate + float(half)


def components(run: Array, base: Array, draws: Array, artists: int) -> Components | None:
    """Variance components of run − base, each `(seed, song)` in dB, all defined; None where nothing varies.

    draws: `artist_bootstrap` of the seed-averaged differences; artists: how many there are. A side with
    one row counts as fixed: the caller allows that (a reference) or not (one seed).

    >>> from sepkit.evaluation.paired import artist_bootstrap
    >>> rng, songs = np.random.default_rng(0), [f"artist {i}" for i in range(30)]
    >>> run, base = (shift + rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.5, (3, 30)) for shift in (1, 0))
    >>> draws = artist_bootstrap(run.mean(axis=0) - base.mean(axis=0), songs)
    >>> low, high = components(run, base, draws, artists=30).interval
    >>> low < 1 < high and bool(high - low > 4 * draws.std())
    True
    """
    if artists < 2:
        return None
    run_mean, base_mean = run.mean(axis=0), base.mean(axis=0)
    songs = float(draws.var()) * artists / (artists - 1)
    of_run = _between([pseudo_median(seed - base_mean) for seed in run])
    of_base = _between([pseudo_median(run_mean - seed) for seed in base])
    total = songs + of_run + of_base
    if total == 0:
        return None
    parts = ((songs, artists - 1), (of_run, len(run) - 1), (of_base, len(base) - 1))
    degrees = total**2 / sum(part**2 / free for part, free in parts if part)
    return Components(pseudo_median(run_mean - base_mean), songs, of_run, of_base, degrees)


def _between(estimates: list[float]) -> float:
    """Variance of the mean of k seeds, estimated from the k."""
    return float(np.var(estimates, ddof=1)) / len(estimates) if len(estimates) > 1 else 0.0
