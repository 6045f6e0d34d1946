"""The rows of one scoreboard section, their tests against its base, and the sentences above them.

Conventions as in `sepkit.reporting.scoreboard`: all scores given here share one protocol and one set
of songs; several seeds of an experiment come as one table and are averaged song by song.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sepkit.data.songs import STEMS
from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import ARTIST_OVERLAP, Comparison, compare_scores, summary
from sepkit.experiments import MENU
from sepkit.profiles import PROTOCOLS, Profile
from sepkit.storage import Root, Run

BASE = "Base"
BASES = {"2stem": BASE, "4stem": "Base-4"}  # what rows of a protocol are tested against
REFERENCES = ("mixture", "oracle")
ALPHA = 0.01
# column: metric and source. The header carries the definition.
LEADING = {
    "SDR voc (sdr_bsseval)": ("sdr_bsseval", "vocals"),
    "SI-SDR (si_sdr)": ("si_sdr", "vocals"),
    "SAR (sar_bsseval)": ("sar_bsseval", "vocals"),
}
MAIN = next(iter(LEADING))
SILENCE = {"left in silence (silence_energy_db)": ("silence_energy_db", "vocals")}
ONSETS = {"SDR drums at onsets (sdr_onsets)": ("sdr_onsets", "drums")}  # where drums are a source
ASIDE = {**ONSETS, **SILENCE}  # left out where no row has one; in a terminal they stand in the second table
ONE_SEED = "one seed: no claim"
SHORT = {"accompaniment": "acc"}


@dataclass(frozen=True)
class Section:
    """Rows that may share a table: one protocol, one set of songs."""

    name: str  # "2stem", "4stem", "2stem folds"
    protocol: str
    folds: bool
    table: pd.DataFrame
    header: list[str]  # sentences
    notes: list[str]
    overlap: pd.DataFrame  # with and without the songs of artists who also sing in training; or empty
    comparisons: dict[str, Comparison]
    scores: pd.DataFrame  # every score behind the table

    @property
    def title(self) -> str:
        songs = "cross-validation by artist" if self.folds else "test songs"
        return f"{songs.capitalize()}, protocol {self.protocol} ({', '.join(PROTOCOLS[self.protocol])})"

    @property
    def base(self) -> str:
        return BASES[self.protocol]


@dataclass(frozen=True)
class Board:
    profile: Profile
    sections: list[Section] = field(default_factory=list)
    unfinished: dict[str, str] = field(default_factory=dict)  # run: reason
    starts: dict[str, str] = field(default_factory=dict)  # experiment: whose weights it began with

    @property
    def main(self) -> Section | None:
        return self.sections[0] if self.sections else None


def ordered(names: Any) -> list[str]:
    """The menu's order, then names that it does not hold, then the references."""
    menu = list(MENU)
    trained = [str(name) for name in names if name not in REFERENCES]
    trained.sort(
        key=lambda name: (name not in BASES.values(), menu.index(name) if name in menu else len(menu), name)
    )
    return trained + [name for name in REFERENCES if name in set(names)]


def compared(by_name: Mapping[str, pd.DataFrame], base: str) -> tuple[dict[str, Comparison], list[str]]:
    """Each trained row against `base`, and why one could not be compared."""
    comparisons, notes = {}, []
    tested = [name for name in by_name if name not in (base, *REFERENCES)]
    if base not in by_name:
        return {}, [
            f"{', '.join(tested)}: no {base} with this protocol and these songs, so nothing is tested."
        ] if tested else []
    for name in tested:
        try:
            comparisons[name] = compare_scores(by_name[name], by_name[base], alpha=ALPHA)
        except SepkitError as error:
            notes.append(f"{name} is not tested against {base}: {error}")
    return comparisons, notes


def beside_vocals(
    by_name: Mapping[str, pd.DataFrame], comparisons: Mapping[str, Comparison], base: str
) -> list[str]:
    """What the same tests say of drums, bass and other, and of the drums' onsets."""
    said = []
    for name in comparisons:
        for metric, source in (*(("sdr_bsseval", source) for source in STEMS[1:]), *ONSETS.values()):
            if all(facts_of(by_name[side], metric, source) for side in (name, base)):
                test = compare_scores(by_name[name], by_name[base], metric=metric, source=source, alpha=ALPHA)
                said.append(f"Not corrected over sources: {test.sentence}")
    return said


def facts_of(scores: pd.DataFrame, metric: str, source: str) -> dict[str, Any]:
    """`summary`, or {} where a song of some run has no such row: it was scored before the metric was there."""
    own = scores[(scores["metric"] == metric) & (scores["source"] == source)]
    whole = len(own) == len(scores.drop_duplicates(["run", "track"]))
    return dict(summary(own, metric, source)) if whole else {}


def row(
    root: Root,
    name: str,
    scores: pd.DataFrame,
    columns: Mapping[str, tuple[str, str]],
    result: Comparison | None,
    adjusted: float | None,
) -> dict[str, Any]:
    entry, runs = MENU.get(name), sorted(scores["run"].unique())
    reference = name in REFERENCES
    statuses = [root.run(run).status for run in runs]
    row: dict[str, Any] = {
        "Exp": name,
        "Backbone": entry.backbone if entry else "—" if reference else _model(root.run(runs[0])),
        "Domain": entry.domain if entry else "—",
        "Extras": entry.extras if entry else "—",
    }
    facts: dict[str, dict[str, Any]] = {}
    for column, (metric, source) in columns.items():
        facts[column] = facts_of(scores, metric, source)
        for suffix, fact in (("", "median"), (" q25", "q25"), (" q75", "q75")):
            row[column + suffix] = facts[column].get(fact, np.nan)
    leading = facts.get(MAIN, {})
    seeds = sorted(scores["seed"].dropna().astype(int).unique())
    counts: dict[str, Any] = {}
    for column, known in facts.items():
        counts[f"{column} songs"] = known.get("n", 0)
        counts[f"{column} undefined"] = known.get("n_undefined", 0)
        for name, key in (("frames", "frames"), ("frames dropped", "frames_dropped")):
            counts[f"{column} {name}"] = known.get(key, 0) // max(len(seeds), 1)
    accompaniment = scores[scores["source"] == "accompaniment"]
    origins = sorted(set(accompaniment["accompaniment"].dropna()))
    gpu, minutes = (
        sum(float(status.get(key) or 0) for status in statuses) / len(runs) for key in ("gpu_min", "minutes")
    )
    mark = "—" if result is None else result.mark or ("no change" if result.n == result.n_zero else "n.s.")
    # the plan's columns first
    plan = ("Exp", "Backbone", "Domain", "Extras", *(name for name in LEADING if name in row))
    row |= {"GPU min": gpu or np.nan, "Sig.": mark}
    row |= {
        "gain": result.median_difference if result else np.nan,
        "gain low": result.artist_interval[0] if result else np.nan,
        "gain high": result.artist_interval[1] if result else np.nan,
        "p": np.nan if result is None or result.p_value is None else result.p_value,
        "p (Holm)": np.nan if adjusted is None else adjusted,
        "Method": _claim(result),
        "method low": result.method_interval[0] if result and result.method_interval else np.nan,
        "method high": result.method_interval[1] if result and result.method_interval else np.nan,
        "accompaniment": ", ".join(origins) or "—",
        "songs": leading.get("n", 0),
        "undefined": leading.get("n_undefined", 0),
        "frames": counts.get(f"{MAIN} frames", 0),
        "frames dropped": counts.get(f"{MAIN} frames dropped", 0),
        "CPU min": np.nan if gpu else minutes or np.nan,
        "seeds": "—" if reference else ", ".join(map(str, seeds)),
        "runs": len(runs),
        **counts,
    }
    return {name: row[name] for name in dict.fromkeys((*plan, "GPU min", "Sig.", *row))}


def _claim(result: Comparison | None) -> str:
    """What the interval over songs and seeds says of the method; the main metric is better when higher."""
    if result is None:
        return "—"
    if result.method_interval is None:
        return "no change" if result.n == result.n_zero else ONE_SEED
    low, high = result.method_interval
    return "✓" if low > 0 else "▼" if high < 0 else "n.s."


def _model(run: Run) -> str:
    return str((run.config.get("model") or {}).get("name", "—"))


def header_sentences(
    root: Root, profile: Profile, rows: pd.DataFrame, protocol: str, table: pd.DataFrame
) -> list[str]:
    trained = table[~table["Exp"].isin(REFERENCES)]
    runs = rows[~rows["experiment"].isin(REFERENCES)]["run"].unique()
    statuses = [root.run(run).status for run in runs]
    devices = sorted({str(status["device"]) for status in statuses if status.get("device")})
    minutes = sum(float(status.get("minutes") or 0) for status in statuses)
    seeds = sorted(rows["seed"].dropna().astype(int).unique())
    counted, dropped = (_span(table[column]) for column in ("frames", "frames dropped"))
    lacking = trained[trained["undefined"] > 0]
    undefined = "; ".join(
        f"{n} of {name}" for name, n in zip(lacking["Exp"], lacking["undefined"], strict=True)
    )
    return [
        f"Profile {profile.name}: {profile.songs}. Reduced against the plan: {profile.reduced}.",
        f"{rows['track'].nunique()} songs, protocol {protocol}: {', '.join(PROTOCOLS[protocol])} scored together.",
        "sdr_bsseval and sar_bsseval: BSS Eval v4: 1 s windows, one 512-tap filter a track, median over "
        "frames, then over songs. si_sdr: whole track, both channels as one vector, then median over songs. "
        "In dB, with the quartiles over songs in brackets. silence_energy_db: level in dBFS of what is left of "
        "the estimate in the seconds in which vocals are silent, lower is better, over the songs that have some."
        + (
            " sdr_onsets: SDR over the 50 ms at each onset of the true drums."
            if set(ONSETS) & set(table)
            else ""
        ),
        f"Seed {', '.join(map(str, seeds)) or 'unknown'}; device {', '.join(devices) or 'unknown'}; "
        f"{minutes:.1f} minutes of training in {_count(len(runs), 'run')} (the column: minutes a run).",
        f"Frames of vocals: {counted} counted and {dropped} dropped, because a source was silent in them. "
        f"Songs without a defined score: {undefined or 'none'}"
        + (
            ", so that medians are over unlike songs; gains and tests use songs defined on both sides."
            if undefined
            else "."
        ),
        f"Sig.: Wilcoxon two-sided against {BASES[protocol]} on {MAIN}, ✓ better and ▼ worse at p < {ALPHA:g}, n.s. not "
        "significant: it compares these checkpoints. p (Holm) is corrected over the rows that ran. Gain: "
        "Hodges–Lehmann estimate in dB with a 95 % interval that resamples artists. Method: 95 % interval of "
        "the gain over songs and seeds, ✓ and ▼ where it leaves out zero; with one seed a side there is none.",
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high} (by row)"


def overlap_table(by_name: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means and medians with and without the songs that share an artist with training, and outliers."""
    metric, source = LEADING[MAIN]
    records = []
    for name, scores in by_name.items():
        leading = scores[(scores["metric"] == metric) & (scores["source"] == source)]
        if not leading["track"].isin(ARTIST_OVERLAP).any():
            continue
        fact = summary(leading, metric, source)
        keys = ("mean", "mean_without_overlap", "mean_without_outliers", "median", "median_without_overlap")
        records.append(
            {"Exp": name, **{key.replace("_", " "): fact[key] for key in keys}}
            | {"songs": fact["n"], "songs without overlap": fact["n_without_overlap"]}
        )
    return pd.DataFrame(records)
