"""What the numbers say, in sentences: every one is computed from files under the root.

A sentence appears only where its numbers are there; nothing is said about rows that did not run
except that they did not.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import Comparison, compare_scores
from sepkit.experiments import MENU, week_experiments
from sepkit.profiles import Profile
from sepkit.reporting.rows import ALPHA, LEADING, MAIN, REFERENCES, Board, Section
from sepkit.reporting.scoreboard import collect
from sepkit.storage import Root

LIMIT_MIN = 480.0  # 8 GPU-hours
SEED_SD_DB = "0.03 to 0.34"  # of published configurations that differ in the seed alone


def lessons(root: Any, profile: Profile | str | None = None) -> list[str]:
    """Sentences on what helped, what did not, what can't be told, what it cost, what is missing."""
    root = Root.open(root, profile)
    return board_lessons(collect(root, profile), root.budget())


def board_lessons(board: Board, budget: pd.DataFrame) -> list[str]:
    section = board.main
    shown = {str(run) for each in board.sections for run in each.scores["run"]}
    said = (
        [*verdicts(section), *standing(section, board.starts)]
        if section
        else ["No run is finished and scored yet, so nothing can be concluded."]
    )
    return [*said, *money(budget, shown), *missing(board)]


def verdicts(section: Section) -> list[str]:
    """Which rows beat Base, which lost, which can't be told apart, and how sure that is."""
    tests, base = section.comparisons, section.base
    if not tests:
        return [f"No row could be tested against {base}."]
    holm = dict(zip(section.table["Exp"], section.table["p (Holm)"], strict=True))
    said = []
    for better, word in ((True, "beats"), (False, "is worse than")):
        rows = {name: test for name, test in tests.items() if test.significant and test.better == better}
        for name, test in rows.items():
            kept = (
                ""
                if holm[name] < ALPHA
                else f"; after Holm's correction p = {holm[name]:.4f}, no longer under {ALPHA:g}"
            )
            said.append(
                f"{name} {word} {base} by {abs(test.median_difference):.2f} dB {_interval(test)} on {test.metric} of {test.source}{kept}."
            )
    if not any(test.significant and test.better for test in tests.values()):
        said.append(f"No row beats {base} at p < {ALPHA:g}.")
    for name, test in tests.items():
        if test.n == test.n_zero:
            said.append(f"{name} scores exactly as {base} on every song.")
        elif not test.enough:
            said.append(
                f"{name}: n = {test.n} songs are too small for p < {ALPHA:g}, whatever the difference ({test.median_difference:+.2f} dB)."
            )
        elif not test.significant:
            said.append(
                f"{name} can't be told from {base}: {test.median_difference:+.2f} dB {_interval(test)}; with 95 % confidence a gain above {test.interval[1]:.2f} dB is excluded."
            )
    said += [test.method_sentence for test in tests.values() if test.method_interval is not None]
    seeds = set(section.table.loc[~section.table["Exp"].isin(REFERENCES), "seeds"])
    if all("," not in str(each) for each in seeds):
        said.append(
            f"Every row has one seed, so the tests compare checkpoints, not methods: published scores differ by an SD of {SEED_SD_DB} dB between seeds alone."
        )
    return said


def standing(section: Section, starts: Mapping[str, str]) -> list[str]:
    """Where Base lies between mixture and oracle; whether the measures agree; rows against their starts."""
    table = section.table.set_index("Exp")
    said, base = [], section.base
    if {base, *REFERENCES} <= set(table.index) and MAIN in table:
        low, here, high = (float(table.loc[name, MAIN]) for name in ("mixture", base, "oracle"))  # type: ignore[arg-type]
        if high > low:
            said.append(
                f"{base} reaches {here:.2f} dB, {100 * (here - low) / (high - low):.0f} % of the way from the mixture ({low:.2f}) to the ideal ratio mask ({high:.2f})."
            )
    names = [name for name in LEADING if name in table]
    trained = table.drop(index=[name for name in REFERENCES if name in table.index])
    if len(names) == 3 and len(trained) > 1 and trained[names].notna().all(axis=None):
        best = {name: str(trained[name].astype(float).idxmax()) for name in names}
        if len(set(best.values())) > 1:
            told = ", ".join(f"{row} by {name}" for name, row in best.items())
            said.append(
                f"The measures disagree on the best row ({told}); SAR alone can be gamed: the mixture itself scores high on it."
            )
    for name, start in starts.items():
        if name in table.index and start in table.index:
            rows = section.scores
            try:
                test = compare_scores(rows[rows["experiment"] == name], rows[rows["experiment"] == start])
                said.append(f"{name} against the network that it starts from: {test.sentence}")
            except SepkitError as error:
                said.append(f"{name} is not compared with {start}, from which it starts: {error}")
        elif name in table.index:
            said.append(
                f"{name} starts from {start}, which has no row here: its gain over {base} doesn't tell what its own training added."
            )
    return said


def money(budget: pd.DataFrame, shown: Collection[str] = ()) -> list[str]:
    """Where the minutes went, against 8 GPU-hours; shown: the runs that have a row in a table."""
    if budget.empty:
        return ["No minutes are booked in budget.csv."]
    gpu, minutes = float(budget["gpu_min"].sum()), float(budget["minutes"].sum())
    by_stage = budget.groupby("stage")["minutes"].sum().sort_values(ascending=False)
    by_run = budget.groupby("run")["minutes"].sum().sort_values(ascending=False)
    stages = (
        ", ".join(f"{100 * spent / minutes:.0f} % {stage}" for stage, spent in by_stage.head(4).items())
        if minutes
        else ""
    )
    total = (
        f"{gpu:.1f} of {LIMIT_MIN:.0f} GPU minutes are spent ({100 * gpu / LIMIT_MIN:.0f} %)"
        if gpu
        else f"No GPU was used; {minutes:.1f} CPU minutes are spent"
    )
    said = [
        f"{total}: {stages}; the most expensive run is {by_run.index[0]} with {by_run.iloc[0]:.1f} minutes."
        if minutes
        else f"{total}."
    ]
    lost = by_run[[run not in shown for run in by_run.index]]
    if shown and lost.sum() > 0:
        said.append(
            f"{lost.sum():.1f} of these minutes went into what has no row in a table: {', '.join(map(str, lost.index))}."
        )
    return said


def missing(board: Board) -> list[str]:
    """Rows of the menu that did not run, runs that are not in the table, and what the profile leaves out."""
    ran = {str(name) for section in board.sections for name in section.table["Exp"]}
    absent = [name for name in (*week_experiments(), *REFERENCES) if name not in ran]
    said = [f"{run} is not in the table: {reason}." for run, reason in board.unfinished.items()]
    if absent:
        said.append(f"No score of: {', '.join(absent)}.")
    if not board.profile.as_planned:
        said.append(
            f"These are {board.profile.name} scores ({board.profile.songs}; {board.profile.reduced}); the plan's and the literature's figures are for MUSDB18-HQ, so only signs and orders compare."
        )
    return said


def expectations(section: Section) -> pd.DataFrame:
    """Hypothesis, expectation and measurement of each trained row that the menu holds."""
    records = []
    for row in section.table.to_dict("records"):
        entry = MENU.get(str(row["Exp"]))
        if entry is None:
            continue
        test = section.comparisons.get(entry.name)
        if test is not None:
            measured = (
                f"{test.median_difference:+.2f} dB {_interval(test)}"
                if np.isfinite(test.median_difference)
                else "undefined"
            )
            verdict = (
                "better"
                if test.better
                else "worse"
                if test.significant
                else test.mark or "no significant difference"
            )
        else:
            measured = "; ".join(
                f"{row[name]:.2f} dB {name}" for name in LEADING if name in row and np.isfinite(row[name])
            )
            verdict = "the base of the tests" if entry.name == section.base else "not tested"
        records.append(
            {"Exp": entry.name, "hypothesis": entry.hypothesis, "the plan expects": entry.plan,
             "the literature": entry.literature, "measured": measured, "verdict": verdict}
        )  # fmt: skip
    return pd.DataFrame(records)


def _interval(test: Comparison) -> str:
    low, high = test.interval
    return f"[{low:+.2f}, {high:+.2f}]" if np.isfinite([low, high]).all() else "(no interval: too few songs)"
