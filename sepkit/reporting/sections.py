"""A section of the scoreboard: its rows, their tests against the protocol's base, and the sentences around."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation import statistics
from sepkit.evaluation.shared import refuse_unlike_files, unlike_training
from sepkit.evaluation.statistics import ALPHA, ARTIST_OVERLAP, OUTLIERS, Comparison
from sepkit.experiments import BASES, REFERENCES
from sepkit.profiles import PROTOCOLS, STEMS
from sepkit.reporting.rows import LEADING, MAIN, ONE_SEED, ONSETS, facts_of, ordered, row, score_columns, shown
from sepkit.reporting.tables import Block, plain_grid
from sepkit.storage import Root, Run

READING = (
    "sdr_bsseval and sar_bsseval: BSS Eval v4, 1 s windows, one 512-tap filter a track, median over windows, then over "
    "songs. si_sdr: whole track, both channels as one vector, median over songs. sdr_onsets: SDR over the 50 ms at each "
    "onset of the true drums. In dB, quartiles over songs in brackets. silence_energy_db: level in dBFS of the estimate "
    "in the seconds in which the vocals are silent, over the songs that have such seconds; lower is better.",
    f"Sig.: Wilcoxon's test, two-sided, on {MAIN} against {BASES['2stem']}, of four sources against {BASES['4stem']}: "
    f"✓ better, ▼ worse where p after Holm's correction is under {ALPHA:g}, else n.s. (not significant); it compares these "
    "checkpoints. p is uncorrected. Gain: Hodges–Lehmann estimate with a 95 % interval that resamples artists; none with "
    "fewer than 6 artists. Method: 95 % interval of the gain over songs and seeds, ✓ and ▼ where it leaves out zero; it "
    "needs two seeds a side. Minutes are of training, a run.",
)
OVERLAP_CAPTION = (
    "sdr_bsseval of vocals in dB, with and without the three test songs whose artists also sing in training "
    f"({', '.join(ARTIST_OVERLAP)}), and without the two nearly vocal-free songs that rule any mean "
    f"({', '.join(OUTLIERS)})"
)


@dataclass(frozen=True)
class Section:
    """Rows that may share a table: one protocol, one set of songs."""

    protocol: str
    folds: bool
    table: pd.DataFrame
    header: list[str]  # sentences
    notes: list[str]
    overlap: pd.DataFrame  # with and without the songs of artists who also sing in training; or empty
    comparisons: dict[str, Comparison]
    scores: pd.DataFrame  # every score behind the table
    facts: pd.DataFrame  # `facts_of` them

    @property
    def base(self) -> str:
        return BASES[self.protocol]

    @property
    def block(self) -> Block:
        songs = "Cross-validation by artist" if self.folds else "Test songs"
        title = f"{songs}, protocol {self.protocol} ({', '.join(PROTOCOLS[self.protocol])})"
        overlap = [plain_grid(self.overlap, OVERLAP_CAPTION)] if len(self.overlap) else []
        return Block(title, self.header, [shown(self.table), *overlap], items=self.notes)


def make_section(root: Root, rows: pd.DataFrame, protocol: str, folds: bool, left_out: Collection[str] = ()) -> Section:
    """The rows of fully scored runs, compared with the base of their protocol; left_out: sentences on other songs."""
    base, columns, facts = BASES[protocol], score_columns(protocol, rows), facts_of(rows)
    known: dict[Any, Any] = facts.to_dict("index")
    by_name = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    tested = {name: scores for name, scores in by_name.items() if name not in (base, *REFERENCES)}
    tests, notes = dict[str, Comparison](), [*left_out, *unlike_training(_runs(root, *by_name.values()))]
    if base in by_name:
        unlike = _unlike_files(root, tested, by_name[base])
        fit = {name: scores for name, scores in tested.items() if name not in unlike}
        tests, refused = statistics.compare_all(fit, by_name[base])
        refused |= unlike
        notes += [f"{name} is not tested against {base}: {why}" for name, why in refused.items()]
    elif tested:
        notes.append(f"{', '.join(tested)}: no {base} with this protocol and these songs, so nothing is tested.")
    records = []
    for name, scores in by_name.items():
        own = {column: known.get((name, *key), {}) for column, key in columns.items()}
        records.append(row(root, name, scores, own, tests.get(name)))
    table = pd.DataFrame(records)
    for test in tests.values():
        notes += [f"{test.run}: {song} left out, {why}." for song, why in test.dropped.items()]
        notes += [test.method_sentence] if test.method_interval else []
    if protocol == "4stem":
        notes += _beside_vocals(by_name, known.keys(), list(tests), base)
    if single := ", ".join(table.loc[table["Method"] == ONE_SEED, "Exp"]):
        notes.append(f"{single}: {ONE_SEED} about the method; two seeds on each side give an interval.")
    header = _header(root, rows, protocol, table)
    return Section(protocol, folds, table, header, notes, _overlap(by_name), tests, rows, facts)


def _runs(root: Root, *scores: pd.DataFrame) -> list[Run]:
    return [root.run(run) for rows in scores for run in rows["run"].unique()]


def _unlike_files(root: Root, by_name: Mapping[str, pd.DataFrame], base: pd.DataFrame) -> dict[str, str]:
    """{experiment: why its scores can't be tested against those of `base`}."""
    unlike, songs = dict[str, str](), list(map(str, base["track"].unique()))
    for name, scores in by_name.items():
        try:
            refuse_unlike_files(_runs(root, base, scores), songs)
        except SepkitError as error:
            unlike[name] = str(error)
    return unlike


def _beside_vocals(
    by_name: Mapping[str, pd.DataFrame], known: Collection[tuple[str, str, str]], names: list[str], base: str
) -> list[str]:
    """The same tests of drums, bass and other, and of the drums' onsets, corrected over all of them."""
    kinds = (*(("sdr_bsseval", source) for source in STEMS[1:]), *ONSETS.values())
    tests = {
        (name, kind): statistics.compare_scores(by_name[name], by_name[base], metric=kind[0], source=kind[1])
        for name in names
        for kind in kinds
        if (name, *kind) in known and (base, *kind) in known
    }
    return [f"Beside the vocals: {test.sentence}" for test in statistics.corrected(tests).values()]


def _header(root: Root, rows: pd.DataFrame, protocol: str, table: pd.DataFrame) -> list[str]:
    trained = rows[~rows["experiment"].isin(REFERENCES)]
    statuses = [root.run(run).status for run in trained["run"].unique()]
    devices = sorted({str(status["device"]) for status in statuses if status.get("device")})
    minutes = sum(float(status.get("minutes") or 0) for status in statuses)
    seeds = sorted(trained["seed"].dropna().astype(int).unique())
    lacking = table[(table["undefined"] > 0) & ~table["Exp"].isin(REFERENCES)]
    undefined = "; ".join(f"{n} of {name}" for name, n in zip(lacking["Exp"], lacking["undefined"], strict=True))
    return [
        f"{rows['track'].nunique()} songs; {', '.join(PROTOCOLS[protocol])} are scored together. Seeds: "
        f"{', '.join(map(str, seeds)) or 'none'}; device: {', '.join(devices) or 'unknown'}; {minutes:.1f} minutes of training "
        f"in {len(statuses)} run{'s' * (len(statuses) != 1)}.",
        f"Windows of vocals: {_span(table['frames'])} counted, {_span(table['frames dropped'])} dropped because a "
        f"source was silent in them. Songs without a defined score: {undefined or 'none'}"
        + (". Medians are then over other songs; gains use the songs defined on both sides." if undefined else "."),
    ]


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high} (by row)"


def _overlap(by_name: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means and medians with and without the songs that share an artist with training, and the outliers."""
    keys = [
        "mean", "mean_without_overlap", "mean_without_outliers", "median", "median_without_overlap", "n", "n_without_overlap",
    ]  # fmt: skip
    concerned = {name: scores for name, scores in by_name.items() if scores["track"].isin(ARTIST_OVERLAP).any()}
    facts = [{"Exp": name, **statistics.summary(scores, *LEADING[MAIN])} for name, scores in concerned.items()]
    table = pd.DataFrame(facts, columns=["Exp", *keys]).rename(columns=lambda key: key.replace("_", " "))
    return table.rename(columns={"n": "songs", "n without overlap": "songs without overlap"})
