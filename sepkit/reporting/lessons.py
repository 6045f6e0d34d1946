"""What the numbers say, in sentences computed from files under the root; each appears where its numbers are there."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import ALPHA, Comparison, compare_scores
from sepkit.experiments import BASES, MENU, REFERENCES, week_experiments
from sepkit.profiles import Profile
from sepkit.reporting.rows import LEADING, MAIN
from sepkit.reporting.scoreboard import EMPTY, Board, collect
from sepkit.reporting.sections import Section
from sepkit.reporting.tables import NONE, interval
from sepkit.storage import WEEK_HOURS, Root


def lessons(root: Any, profile: Profile | str | None = None, board: Board | None = None) -> list[str]:
    """Sentences on what helped, what did not, what it cost, and what is missing; board: where it is collected already."""
    root = Root.open(root, profile)
    board = board or collect(root, profile)
    section = board.main
    shown = {str(run) for each in board.sections for run in each.scores["run"]}
    said = [*verdicts(section), *standing(section, board.starts)] if section else [EMPTY]
    return [*said, *money(root.budget(), shown), *missing(board)]


def verdicts(section: Section) -> list[str]:
    """Every experiment against its base, the certain ones first; then the methods."""
    tests, base = list(section.comparisons.values()), section.base
    if not tests:
        return [f"No experiment could be tested against {base}."]
    tests.sort(key=lambda test: (not test.better, not test.significant))
    said = [test.sentence for test in tests]
    if not tests[0].better:
        said.insert(0, f"No experiment beats {base} at p < {ALPHA:g} after Holm's correction.")
    said += [test.method_sentence for test in tests if test.method_interval]
    if all(max(test.seeds) == 1 for test in tests):
        said.append(
            "Every experiment has one seed, so the tests compare checkpoints, not methods: published scores differ by "
            "an SD of 0.03 to 0.34 dB between seeds alone."
        )
    return said


def standing(section: Section, starts: Mapping[str, str]) -> list[str]:
    """Where the base lies between mixture and oracle; whether the measures agree; runs against their starts."""
    table, base, said = section.table.set_index("Exp"), section.base, []
    low, here, high = table[MAIN].astype(float).reindex(["mixture", base, "oracle"])
    if high > low and np.isfinite(here):
        said.append(
            f"{base} reaches {here:.2f} dB, {100 * (here - low) / (high - low):.0f} % of the way from the mixture "
            f"({low:.2f}) to the ideal ratio mask ({high:.2f})."
        )
    trained = table.loc[~table.index.isin(REFERENCES), list(LEADING)].astype(float)
    if len(trained) > 1 and trained.notna().all(axis=None) and (best := trained.idxmax()).nunique() > 1:
        listed = ", ".join(f"{name} by {column}" for column, name in best.items())
        said.append(f"The measures disagree on the best experiment: {listed}.")
    by_name = dict(list(section.scores.groupby("experiment")))
    for name, start in starts.items():
        if name in by_name and start in by_name:
            try:
                test = compare_scores(by_name[name], by_name[start])
                said.append(f"{name} starts from {start}'s weights: {test.sentence}")
            except SepkitError as error:
                said.append(f"{name} is not compared with {start}, from which it starts: {error}")
        elif name in by_name:
            said.append(f"{name} starts from {start}, which is not scored here: what its training added is unknown.")
    return said


def money(budget: pd.DataFrame, shown: Collection[str] = ()) -> list[str]:
    """Where the minutes went; shown: the runs that have a row in a table."""
    gpu, minutes = (float(budget[name].sum()) for name in ("gpu_min", "minutes"))
    if not minutes:
        return ["No minutes are booked in budget.csv."]
    spent = f"No GPU was used; {minutes:.1f} CPU minutes are spent"
    if gpu:
        spent = f"{gpu:.1f} of {60 * WEEK_HOURS:.0f} GPU minutes are spent ({100 * gpu / (60 * WEEK_HOURS):.0f} %)"
    by_stage, by_run = (budget.groupby(name)["minutes"].sum().sort_values(ascending=False) for name in ("stage", "run"))
    stages = ", ".join(f"{100 * part / minutes:.0f} % {stage}" for stage, part in by_stage.head(4).items())
    said = [f"{spent}: {stages}; the most expensive run is {by_run.index[0]} with {by_run.iloc[0]:.1f} minutes."]
    lost = by_run[~by_run.index.isin(shown)]
    if shown and lost.sum() > 0:
        listed = ", ".join(map(str, lost.index))
        said.append(f"{lost.sum():.1f} of these minutes went into what has no row in a table: {listed}.")
    return said


def missing(board: Board) -> list[str]:
    """Experiments of the week without a score, runs that are not in the tables, what the profile leaves out."""
    ran = {str(name) for section in board.sections for name in section.table["Exp"]}
    absent = ", ".join(name for name in (*week_experiments(), *REFERENCES) if name not in ran)
    said = [*board.missing, *([f"No score of: {absent}."] if absent else [])]
    profile = board.profile
    if not profile.as_planned:
        carried = "The plan's and the literature's figures are for whole songs and longer training, and may come out otherwise."
        if profile.songs_from == "made":
            carried = "Synthetic songs show signs of life only: neither the size nor the sign of a difference carries over to music."
        said.append(f"These are {profile.name} scores ({profile.songs}; {profile.reduced}). {carried}")
    return said


def expectations(names: Iterable[str], tests: Mapping[str, Comparison] | None = None) -> pd.DataFrame:
    """What each experiment of the menu changes, what plan and literature expect, and what was measured.

    tests: comparisons by experiment; None leaves the columns "measured" and "verdict" out.
    """
    known, columns = [name for name in names if name in MENU], ["change", "hypothesis", "plan", "literature"]
    expected = [[getattr(MENU[name], column) for column in columns] for name in known]
    table = pd.DataFrame(expected, pd.Index(known, name="experiment", dtype=object), columns)
    if tests is not None and known:
        table["measured"], table["verdict"] = zip(*(_measured(name, tests.get(name)) for name in known), strict=True)
    return table


def _measured(name: str, test: Comparison | None) -> tuple[str, str]:
    if test is None:
        return NONE, "the base of the tests" if name in BASES.values() else "not tested"
    return f"{test.median_difference:+.2f} dB {interval(*test.interval, '+.2f')}", test.verdict
