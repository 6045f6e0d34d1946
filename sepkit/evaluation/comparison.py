"""What one comparison found: in one sentence, one mark, and a table of details.

Conventions: differences are run − base, in dB; their interval resamples artists, all songs of each. Where
several experiments are tested against one base, Holm's p decides. Where windows were left out for the silence of one
side, a difference with another sign than that of the whole track (sdr_global) is not claimed, whatever p is.
"""

import math
from dataclasses import dataclass, field

from sepkit.evaluation.metrics import LOWER_IS_BETTER
from sepkit.evaluation.paired import FEWEST_ARTISTS, Components, unbounded

SILENCE = "silence"  # the mark of a difference that rests on it
VERDICTS = {"✓": "better", "▼": "worse", SILENCE: "rests on silence"}


@dataclass(frozen=True)
class Comparison:
    """A run against a base on one metric of one source; printed: sentences and details."""

    run: str
    base: str
    metric: str
    source: str
    protocol: str
    origin: str  # of the accompaniment; "" for other sources
    n: int  # songs compared, zero differences included
    n_zero: int
    n_uneven: int  # songs over unlike numbers of windows, since these are not known
    n_better: int
    p_value: float | None  # uncorrected; None where the test does not apply
    method: str  # "exact", "normal approximation" or "none"
    median_difference: float  # Hodges–Lehmann pseudo-median, dB
    interval: tuple[float, float]  # 95 %, artists resampled; infinite with fewer than 6 artists
    artists: int
    rank_biserial: float  # −1 … 1, positive where the run is better
    seeds: tuple[int, int]  # of the run and of the base; 0 for a reference, which is not trained
    components: Components | None  # of the methods' interval; None with one seed a side
    alpha: float  # level of the test
    dropped: dict[str, str] = field(default_factory=dict)  # song: reason
    silent: tuple[int, int] = (0, 0)  # windows left out since the run, and since the base, is silent there
    whole_track: float = math.nan  # difference in sdr_global, dB, where windows were left out
    about: tuple[str, ...] = ()  # sentences on the runs behind both sides
    p_holm: float | None = None  # corrected by Holm; None for a single test

    @property
    def fewest(self) -> int:
        """How many songs must differ for p < alpha: the least two-sided p is 2 · 2⁻ⁿ."""
        return 2 + math.floor(-math.log2(self.alpha))

    @property
    def enough(self) -> bool:
        return self.n - self.n_zero >= self.fewest

    @property
    def p_final(self) -> float | None:
        """The p that decides: Holm's, or the one p of a single test."""
        return self.p_value if self.p_holm is None else self.p_holm

    @property
    def withheld(self) -> bool:
        """Whether the difference over the windows of both is another one than that of the whole track."""
        return any(self.silent) and self.whole_track * self.rank_biserial <= 0

    @property
    def mark(self) -> str:
        """For a scoreboard: ✓ better, ▼ worse, "silence" (withheld), "n too small", "no change" or "n.s." (not significant)."""
        if self.p_final is None or not self.enough:
            return "no change" if self.p_final is None else "n too small"
        if self.p_final >= self.alpha:
            return "n.s."
        return SILENCE if self.withheld else "✓" if self.rank_biserial > 0 else "▼"

    @property
    def significant(self) -> bool:
        return self.mark in ("✓", "▼")

    @property
    def direction(self) -> str:
        """higher or lower where the interval leaves out zero, else ""."""
        low, high = self.interval
        return "higher" if low > 0 else "lower" if high < 0 else ""

    @property
    def verdict(self) -> str:
        if self.mark in VERDICTS:
            return VERDICTS[self.mark]
        if self.p_value is not None and self.direction:
            return f"{self.direction} ({self._p}), not significant at {self.alpha:g}"
        return "nothing to test" if self.p_value is None else "no difference shown"

    @property
    def sentence(self) -> str:
        """Difference, interval and verdict in one sentence."""
        what, gap = f"{self.metric} of {self.source}", self.median_difference
        if self.p_value is None:
            if self.n:
                return f"{self.run} has the same {what} as {self.base} on all {self.n} songs: nothing to test."
            return f"{self.run} and {self.base} share no song with a defined {what}: nothing to test."
        numbers = f"95 % interval {_span(self.interval)}, {self._p}"
        if self.artists < FEWEST_ARTISTS:
            numbers = f"no 95 % interval: fewer than {FEWEST_ARTISTS} artists; {self._p}"
        if not self.enough:
            return f"{self.run} against {self.base}: {gap:+.2f} dB in {what} ({numbers}); {self.n - self.n_zero} songs are too few for p < {self.alpha:g}, which needs {self.fewest} that differ."
        if self.mark in VERDICTS:
            word = f"{'higher' if gap > 0 else 'lower'} ({self.verdict})"
            if self.significant and self.metric not in LOWER_IS_BETTER:
                word = self.verdict
        elif self.direction:
            word, numbers = self.direction, f"{numbers}: not significant at {self.alpha:g}"
        else:
            return f"{self.run} against {self.base}: no difference shown in {what}: {gap:+.2f} dB ({numbers})."
        return f"{self.run} is {abs(gap):.2f} dB {word} than {self.base} in {what} ({numbers})."

    @property
    def method_interval(self) -> tuple[float, float] | None:
        """95 %, over songs and seeds; None with one seed a side."""
        return self.components.interval if self.components else None

    @property
    def method_verdict(self) -> str:
        """better, worse or no difference shown, by `method_interval`; "" without one."""
        if self.components is None:
            return ""
        low, high = self.components.interval
        if low <= 0 <= high:
            return "no difference shown"
        better = (low > 0) != (self.metric in LOWER_IS_BETTER)
        return VERDICTS[SILENCE if self.withheld else "✓" if better else "▼"]

    @property
    def method_sentence(self) -> str:
        """What the scores say of the methods, seeds counted."""
        if self.components:
            found = f"{self.method_verdict}: {float(unbounded(self.components.estimate)):+.2f} dB"
            found += f", 95 % interval {_span(self.components.interval)} over songs and seeds"
        elif self.p_value is None:
            found = "nothing to test"
        else:
            one_seed = "one seed: no claim, since this compares two checkpoints"
            found = one_seed if 1 in self.seeds else "one artist only: no claim"
        of_run, of_base = (count or "none" for count in self.seeds)
        seeds = f"(seeds: {of_run} of {self.run}, {of_base} of {self.base})"
        return f"{self.run} against {self.base} as methods: {found} {seeds}."

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what both sides rest on."""
        said, whole = list(self.about), float(unbounded(self.whole_track))
        if any(self.silent):
            found = "is not scored" if math.isnan(whole) else f"differs by {whole:+.2f} dB"
            said.append(
                f"Left out for silence: {self.silent[0]} windows in which an estimate of {self.run} is silent, {self.silent[1]} in which one of {self.base} is. Over all sound sdr_global of {self.source} {found}."
            )
        if self.n_uneven:
            said.append(
                f"{self.n_uneven} songs are compared by medians over unlike windows, which are not kept: delete scores.csv and evaluate again."
            )
        return tuple(said)

    @property
    def details(self) -> dict[str, str]:
        """How the test was done and what it rests on, for a table."""
        test = f"Wilcoxon signed-rank, two-sided, {self.method}, zero differences dropped"
        facts = {
            "protocol": self.protocol + (f", accompaniment {self.origin}" if self.origin else ""),
            "test": "none" if self.p_value is None else test,
            "p": show_p(self.p_value),
            "p after Holm": show_p(self.p_holm) if self.p_holm is not None else "one test: not corrected",
            "songs": f"{self.n} compared, {self.n_zero} without change, {len(self.dropped)} undefined",
            "songs better": f"{self.n_better} of {self.n}",
            "windows left out for silence": f"{self.silent[0]} of the run, {self.silent[1]} of the base",
            "medians over unlike numbers of windows": f"{self.n_uneven} songs",
            "rank-biserial correlation": f"{self.rank_biserial:+.2f}",
            "artists resampled": str(self.artists),
        }
        if self.components:
            facts["degrees of freedom of the methods' interval"] = f"{self.components.degrees:.1f}"
        return facts | {f"left out: {song}": why for song, why in self.dropped.items()}

    def __str__(self) -> str:
        table = (f"    {name}: {value}" for name, value in self.details.items())
        return "\n".join((self.sentence, self.method_sentence, *self.notes, *table))

    @property
    def _p(self) -> str:
        p = show_p(self.p_value)
        p = f"p {p}" if p.startswith("<") else f"p = {p}"
        return p if self.p_holm is None else f"{p}; {show_p(self.p_holm)} after Holm"


def show_p(p: float | None) -> str:
    """Two significant digits; "—" for none."""
    return "—" if p is None or math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.2f} to {interval[1]:+.2f} dB"
