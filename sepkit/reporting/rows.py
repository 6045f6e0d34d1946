"""The rows of one scoreboard section: their numbers, as scoreboard.csv has them, and how they are shown.

Conventions: all scores given here share one protocol and one set of songs; seeds are averaged song by song. In dB.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sepkit.evaluation.comparison import VERDICTS
from sepkit.evaluation.metrics import LOWER_IS_BETTER
from sepkit.evaluation.paired import PERFECT_DB, unbounded
from sepkit.evaluation.statistics import Comparison, show_p
from sepkit.experiments import BASES, MENU, REFERENCES, entry_of
from sepkit.profiles import PROTOCOLS
from sepkit.reporting.tables import NONE, Grid, interval, number
from sepkit.storage import Root

# column: metric and source. The heading carries the definition.
LEADING = {
    "SDR voc (sdr_bsseval)": ("sdr_bsseval", "vocals"),
    "SI-SDR (si_sdr)": ("si_sdr", "vocals"),
    "SAR (sar_bsseval)": ("sar_bsseval", "vocals"),
}
MAIN, SAR = next(iter(LEADING)), ("sar_bsseval", "vocals")
PARTS = {"SIR voc (sir_bsseval)": ("sir_bsseval", "vocals"), "ISR voc (isr_bsseval)": ("isr_bsseval", "vocals")}
ONSETS = {"SDR drums at onsets (sdr_onsets)": ("sdr_onsets", "drums")}
ASIDE = {**ONSETS, "left in silence (silence_energy_db)": ("silence_energy_db", "vocals")}
DESCRIBED = ("Exp", "Backbone", "Domain", "Extras")
FEWEST = 5  # songs whose median may be called the best
MINUTES = ("GPU min", "CPU min")
PLAN = (*DESCRIBED, *LEADING, *MINUTES, "VRAM GB", "Sig.")  # the plan's columns, which come first
ONE_SEED = "one seed"
CLAIMS = {"": ONE_SEED, "no difference shown": "n.s.", **{verdict: mark for mark, verdict in VERDICTS.items()}}


def score_columns(protocol: str, scores: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """{column: (metric, source)} of a section, as far as its scores hold them."""
    short = {source: source.replace("accompaniment", "acc") for source in PROTOCOLS[protocol][1:]}
    others = {f"SDR {name} (sdr_bsseval)": ("sdr_bsseval", source) for source, name in short.items()}
    there = set(zip(scores["metric"], scores["source"], strict=True))
    return {name: key for name, key in {**LEADING, **PARTS, **others, **ASIDE}.items() if key in there}


def ordered(names: Iterable[Any]) -> list[str]:
    """The menu's order, the bases first; then names that the menu lacks, then the references."""
    known = [*BASES.values(), *(name for name in MENU if name not in BASES.values())]
    unknown, there = sorted(set(map(str, names)) - {*known, *REFERENCES}), set(names)
    return [name for name in (*known, *unknown, *REFERENCES) if name in there]


def facts_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Median, quartiles and counts over songs by (experiment, metric, source), as `summary` gives them.

    Without the metrics that a run of the experiment lacks for a song: those are newer than its scores. And without the
    mixture's SAR: as an estimate it has no artefacts, and beats every network.
    """
    key = ["experiment", "metric", "source"]
    finite = scores.assign(value=scores["value"].clip(-PERFECT_DB, PERFECT_DB))
    seeds = finite.groupby([*key, "track"])["value"].agg(["mean", "count", "size"])
    songs = seeds["mean"].where(seeds["count"] == seeds["size"]).unstack("track")
    facts = unbounded(songs.quantile([0.5, 0.25, 0.75], axis=1).T.set_axis(["median", "q25", "q75"], axis=1))
    rows = seeds["size"].groupby(key).sum()
    counted = scores.reindex(columns=[*key, "frames", "frames_dropped"]).groupby(key).sum().astype(int)
    facts = facts.assign(songs=songs.notna().sum(axis=1), frames=counted["frames"])
    facts["undefined"] = seeds.groupby(key).size() - facts["songs"]
    facts["frames dropped"] = counted["frames_dropped"]
    wanted = scores.drop_duplicates(["run", "track"]).groupby("experiment").size()
    facts = facts[rows == wanted.reindex(rows.index, level="experiment")]
    return facts.drop(index=("mixture", *SAR), errors="ignore")


def row(
    root: Root, name: str, scores: pd.DataFrame, facts: Mapping[str, Mapping[str, float]], test: Comparison | None
) -> dict[str, Any]:
    """The numbers of one experiment, from its scores and their facts by column; NaN where there is none."""
    runs = [root.run(run) for run in sorted(scores["run"].unique())]
    seeds = [] if name in REFERENCES else sorted(scores["seed"].dropna().astype(int).unique())
    statuses = [run.status for run in runs]
    gpu = sum(float(status.get("gpu_min") or 0) for status in statuses) / len(runs)
    cpu = sum(float(status.get("cpu_min") or status.get("minutes") or 0) for status in statuses) / len(runs)
    vram = max(int(status.get("vram_mib") or 0) for status in statuses)
    entry = entry_of(runs[0].config)
    found: dict[str, Any] = dict(zip(DESCRIBED, (name, entry.backbone, entry.domain, entry.extras), strict=True))
    found |= {**dict.fromkeys(LEADING, np.nan), "GPU min": gpu or np.nan, "CPU min": np.nan if gpu else cpu or np.nan}
    found |= {"VRAM GB": vram * 2**20 / 1e9 or np.nan, "Sig.": test.mark if test else NONE}
    for column, fact in facts.items():
        for suffix, what in {"": "median", " q25": "q25", " q75": "q75"}.items():
            found[column + suffix] = fact.get(what, np.nan)
    tested = (test.median_difference, *test.interval, test.p_value, test.p_final) if test else [None] * 5
    tested = (*tested, *((test and test.method_interval) or [None] * 2))
    names = ("gain", "gain low", "gain high", "p", "p (Holm)", "method low", "method high")
    found |= {name: np.nan if value is None else value for name, value in zip(names, tested, strict=True)}
    found |= {
        "windows silent": test.silent[0] if test else 0,
        "Method": ("no change" if test.mark == "no change" else CLAIMS[test.method_verdict]) if test else NONE,
        "accompaniment": ", ".join(sorted(set(scores["accompaniment"].dropna()))) or NONE,
        "seeds": ", ".join(map(str, seeds)) or NONE,
        "runs": len(runs),
    }
    for column, fact in {"": facts.get(MAIN, {}), **facts}.items():
        for what in ("songs", "undefined", "frames", "frames dropped"):
            trainings = max(len(seeds), 1) if what.startswith("frames") else 1
            found[f"{column} {what}".strip()] = int(fact.get(what, 0)) // trainings
    return found


def scored(table: pd.DataFrame) -> list[str]:
    """The score columns: those with quartiles beside them."""
    return [str(name) for name in table if f"{name} q25" in table]


def best_rows(table: pd.DataFrame) -> dict[str, set[int]]:
    """For every score column the positions of the best trained rows; none where there is nothing to choose.

    Nor in SAR, SIR and ISR: each measures one kind of error, and is highest for a network that makes others instead.
    """
    trained = ~table["Exp"].isin(REFERENCES)
    trained &= table["undefined"] == table["undefined"][trained].min()  # a median without a hard song does not win
    unlike = table["accompaniment"][trained].nunique() > 1  # modelled and residual are two definitions
    best = {}
    for column in scored(table):
        values = table[column].astype(float).round(2).where(trained & (table[f"{column} songs"] >= FEWEST))
        low = any(f"({metric})" in column for metric in LOWER_IS_BETTER)
        top = values.min() if low else values.max()
        part = column in PARTS or LEADING.get(column) == SAR
        apart = values.notna().sum() > 1 and not part and not (unlike and column.startswith("SDR acc"))
        best[column] = set(np.flatnonzero(values == top).tolist()) if apart else set()
    return best


def shown(table: pd.DataFrame, caption: str) -> list[Grid]:
    """The plan's columns, then the others, as people read them: medians with quartiles, gains with intervals, counts."""
    scores, records = scored(table), table.to_dict("records")

    def score(row: Mapping[Any, Any], name: str) -> str:
        detail = interval(row[f"{name} q25"], row[f"{name} q75"])
        if row[f"{name} undefined"]:
            detail += f"\n{row[f'{name} songs']} of {row[f'{name} songs'] + row[f'{name} undefined']} songs"
        return f"{number(row[name])}\n{detail}"

    def cells(row: Mapping[Any, Any]) -> dict[str, str]:
        undefined = f"\n({row['undefined']} undefined)" if row["undefined"] else ""
        silent = f", {row['windows silent']} by silence" if row["windows silent"] else ""
        return {
            **{name: str(row[name]).replace(" %", "\u00a0%") for name in DESCRIBED},
            **{name: score(row, name) if name in scores else NONE for name in LEADING},
            **{name: number(row[name], ".1f") for name in MINUTES},
            "VRAM GB": number(row["VRAM GB"]),
            "Sig.": row["Sig."],
            "gain, dB": f"{number(row['gain'], '+.2f')}\n{interval(row['gain low'], row['gain high'], '+.2f')}",
            "p": show_p(row["p"]),
            "p (Holm)": show_p(row["p (Holm)"]),
            "method, dB": f"{row['Method']}\n{interval(row['method low'], row['method high'], '+.2f')}",
            **{name: score(row, name) for name in scores if name not in LEADING},
            "accompaniment": row["accompaniment"],
            "songs": f"{row['songs']}{undefined}",
            "windows": f"{row['frames']}\n({row['frames dropped']} dropped{silent})",
            "seed": str(row["seeds"]),
        }

    frame, best = pd.DataFrame([cells(row) for row in records]).map(str.strip), best_rows(table)
    empty = {name for name in frame if (frame[name] == NONE).all()}
    unused = {MINUTES[1]} if empty.issuperset(MINUTES) else empty.intersection(MINUTES)
    plan = [name for name in PLAN if name not in unused]
    rest = [name for name in frame if name not in PLAN and name not in empty]
    return [
        Grid(frame[plan], caption, best, brief=True),
        Grid(frame[["Exp", *rest]], "Gains, other measures, counts", best),
    ]
