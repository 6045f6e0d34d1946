"""A section of the scoreboard: its rows, their tests against the protocol's base, and what stands behind them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation import statistics
from sepkit.evaluation.shared import refuse_unlike_files, unlike_training
from sepkit.evaluation.statistics import ALPHA, ARTIST_OVERLAP, OUTLIERS, Comparison, show_p
from sepkit.experiments import BASES, REFERENCES, UMXHQ
from sepkit.profiles import PROTOCOLS, STEMS
from sepkit.reporting.rows import LEADING, MAIN, ONSETS, facts_of, ordered, row, score_columns, shown
from sepkit.reporting.tables import Block, Grid, interval, number, plain_grid
from sepkit.storage import Root, Run

READING = {
    "SDR, SIR, ISR, SAR": "BSS Eval v4: 1 s windows, one 512-tap filter a track, median over windows, then over songs; dB. "
    "SIR, ISR and SAR each measure one kind of error, so no best is marked",
    "SI-SDR": "whole track, both channels as one vector, median over songs; dB",
    "brackets": "quartiles over songs; of gain and method a 95 % interval",
    "at onsets": "SDR over the 50 ms at each onset of the true drums",
    "left in silence": "level in dBFS of the estimate in the seconds in which the vocals are silent, over the songs that have "
    "such seconds; lower is better",
    "windows": "those of the vocals that count; dropped are those in which a source is silent",
    "minutes, VRAM": "of training, a run; GPU min where it had one, else the processor's",
    "gain": f"Hodges–Lehmann estimate in {MAIN} against {BASES['2stem']}, of four sources against {BASES['4stem']}; its interval "
    "resamples artists, and needs 6",
    "Sig.": f"Wilcoxon's test of these checkpoints, two-sided: ✓ better, ▼ worse where p after Holm's correction is under "
    f"{ALPHA:g}, else n.s. (not significant); p is uncorrected. Compared are the windows that both sides have; silence: "
    "one side's silence leaves out windows, and sdr_global over all sound does not agree, so there is no mark",
    "method": "the gain over songs and seeds, ✓ and ▼ where its interval leaves out zero; needs two seeds a side, else it makes no claim",
}
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
    background: dict[str, str]  # songs, seeds, device
    notes: list[str]  # what forbids a comparison, and windows left out of one
    lost: pd.DataFrame  # the songs left out of a test; or empty
    beside: pd.DataFrame  # tests of the other sources; or empty
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
        caption = f"Medians over {self.background['songs']} songs, dB. Sig. is against {self.base}, p < {ALPHA:g} after Holm: ✓ better, ▼ worse, n.s. not significant."
        facts = Grid(pd.DataFrame(self.background.items(), columns=["of this table", "value"]))
        behind = {"Songs left out of a test": self.lost, OVERLAP_CAPTION: self.overlap}
        grids = [facts, *(plain_grid(table, caption) for caption, table in behind.items() if len(table))]
        beside = [plain_grid(self.beside, "Beside the vocals")] if len(self.beside) else []
        return Block(
            title, [], [*shown(self.table, caption), *beside], items=self.notes, details={"Songs, seeds, device": grids}
        )


def make_section(root: Root, rows: pd.DataFrame, protocol: str, folds: bool, left_out: Collection[str] = ()) -> Section:
    """The rows of fully scored runs, compared with the base of their protocol; left_out: sentences on other songs."""
    base, columns, facts = BASES[protocol], score_columns(protocol, rows), facts_of(rows)
    known: dict[Any, Any] = facts.to_dict("index")
    by_name = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    tested = {name: scores for name, scores in by_name.items() if name not in (base, *REFERENCES)}
    tests, notes = dict[str, Comparison](), [*left_out, *unlike_training(_runs(root, *by_name.values()))]
    notes += [f"{UMXHQ}."] if "umxhq" in by_name else []
    if base in by_name:
        unlike, fit, songs = dict[str, str](), dict(tested), list(map(str, by_name[base]["track"].unique()))
        for name, scores in tested.items():
            try:
                refuse_unlike_files(_runs(root, by_name[base], scores), songs)
            except SepkitError as error:
                unlike[name] = str(error)
                del fit[name]
        tests, refused = statistics.compare_all(fit, by_name[base])
        notes += [f"{name} is not tested against {base}: {why}" for name, why in {**refused, **unlike}.items()]
        notes += [f"{name}: {note}" for name, test in tests.items() for note in test.notes]
    elif tested:
        notes.append(f"{', '.join(tested)}: no {base} with this protocol and these songs, so nothing is tested.")
    records = []
    for name, scores in by_name.items():
        own = {column: known.get((name, *key), {}) for column, key in columns.items()}
        records.append(row(root, name, scores, own, tests.get(name)))
    table = pd.DataFrame(records)
    left = [(test.run, song, why) for test in tests.values() for song, why in test.dropped.items()]
    lost = pd.DataFrame(left, columns=["Exp", "song", "why"])
    beside = _beside_vocals(by_name, known.keys(), list(tests), base) if protocol == "4stem" else pd.DataFrame()
    background, overlap = _background(root, rows, table), _overlap(by_name)
    return Section(protocol, folds, table, background, notes, lost, beside, overlap, tests, rows, facts)


def _runs(root: Root, *scores: pd.DataFrame) -> list[Run]:
    return [root.run(run) for rows in scores for run in rows["run"].unique()]


def _beside_vocals(
    by_name: Mapping[str, pd.DataFrame], known: Collection[tuple[str, str, str]], names: list[str], base: str
) -> pd.DataFrame:
    """The same tests of drums, bass and other, and of the drums' onsets, corrected over all of them."""
    kinds = (*(("sdr_bsseval", source) for source in STEMS[1:]), *ONSETS.values())
    tests = {
        (name, kind): statistics.compare_scores(by_name[name], by_name[base], metric=kind[0], source=kind[1])
        for name in names
        for kind in kinds
        if (name, *kind) in known and (base, *kind) in known
    }
    return pd.DataFrame(
        {
            "Exp": name, "score": f"{test.metric} of {test.source}",
            "gain, dB": f"{number(test.median_difference, '+.2f')}\n{interval(*test.interval, '+.2f')}",
            "p (Holm)": show_p(test.p_final), "Sig.": test.mark,
        }
        for (name, _), test in statistics.corrected(tests).items()
    )  # fmt: skip


def _background(root: Root, rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    trained = rows[~rows["experiment"].isin(REFERENCES)]
    statuses = [root.run(run).status for run in trained["run"].unique()]
    devices = sorted({str(status["device"]) for status in statuses if status.get("device")})
    minutes = sum(float(status.get("minutes") or 0) for status in statuses)
    seeds = sorted(trained["seed"].dropna().astype(int).unique())
    lacking = table[(table["undefined"] > 0) & ~table["Exp"].isin(REFERENCES)]
    undefined = "; ".join(f"{n} of {name}" for name, n in zip(lacking["Exp"], lacking["undefined"], strict=True))
    if undefined:
        undefined += "; medians are then over other songs, gains over the songs defined on both sides"
    return {
        "songs": str(rows["track"].nunique()),
        "seeds": ", ".join(map(str, seeds)) or "none",
        "device": ", ".join(devices) or "unknown",
        "training": f"{minutes:.1f} minutes, {len(statuses)} run{'s' * (len(statuses) != 1)}",
        "songs without a score": undefined or "none",
    }


def _overlap(by_name: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means and medians with and without the songs that share an artist with training, and the outliers."""
    keys = [
        "mean", "mean_without_overlap", "mean_without_outliers", "median", "median_without_overlap", "n", "n_without_overlap",
    ]  # fmt: skip
    concerned = {name: scores for name, scores in by_name.items() if scores["track"].isin(ARTIST_OVERLAP).any()}
    facts = [{"Exp": name, **statistics.summary(scores, *LEADING[MAIN])} for name, scores in concerned.items()]
    table = pd.DataFrame(facts, columns=["Exp", *keys]).rename(columns=lambda key: key.replace("_", " "))
    return table.rename(columns={"n": "songs", "n without overlap": "songs without overlap"})
