"""What the numbers say, in sentences computed from files under the root; each appears where its numbers are there."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import ALPHA, ARTIST_OVERLAP, Comparison, compare_scores, show_p
from sepkit.experiments import REFERENCES, Experiment, get_experiment, week_experiments
from sepkit.profiles import Profile
from sepkit.reporting.rows import LEADING, MAIN
from sepkit.reporting.scoreboard import EMPTY, Board, collect
from sepkit.reporting.sections import Section
from sepkit.reporting.tables import interval
from sepkit.storage import WEEK_HOURS, Root

SMALLEST_DB = 0.3  # the smallest gain that the plan expects of an experiment
HELPED, HURT = "Helped", "Hurt"
NO_GAIN = f"Did not help (the interval leaves out a gain of {SMALLEST_DB:g} dB)"
OPEN = "Cannot be told (no significant difference, and the interval leaves a gain open)"


def lessons(root: Any, profile: Profile | str | None = None, board: Board | None = None) -> list[str]:
    """Sentences on what helped, what did not, what can't be told, what it cost, and the limits of all this.

    board: where it is collected already.
    """
    root = Root.open(root, profile)
    board = board or collect(root, profile)
    section = board.main
    shown = {str(run) for each in board.sections for run in each.scores["run"]}
    return [*(learnt(section, board) or [EMPTY]), *money(root.budget(), shown), *limitations(board), *board.missing]


def learnt(section: Section | None, board: Board) -> list[str]:
    return [*verdicts(section), *standing(section, board.starts)] if section else []


def verdicts(section: Section) -> list[str]:
    """The experiments in groups: helped, hurt, did not help, cannot be told; none of a group, none of its sentence."""
    groups: dict[str, list[str]] = {}
    for name, test in sorted(section.comparisons.items(), key=lambda item: -item[1].median_difference):
        groups.setdefault(_group(test), []).append(_in_short(name, test))
    if not groups:
        return [f"No experiment could be tested against {section.base}."]
    said = [] if HELPED in groups else [f"No experiment beats {section.base} at p < {ALPHA:g} after Holm's correction."]
    for group in filter(groups.__contains__, (HELPED, HURT, NO_GAIN, OPEN)):
        said.append(f"{group}: {'; '.join(groups[group])}.")
    return said


def _group(test: Comparison) -> str:
    if test.significant:
        return HELPED if test.mark == "✓" else HURT
    return NO_GAIN if test.enough and -math.inf < test.interval[0] and test.interval[1] < SMALLEST_DB else OPEN


def _in_short(name: str, test: Comparison) -> str:
    """An experiment's gain in a few words: name, gain with its interval, and the p that decides."""
    if test.p_value is None:
        return f"{name} (nothing to test)"
    why = "" if test.enough else f", {test.n - test.n_zero} songs are too few, {test.fewest} are needed"
    why += f", {test.verdict}" if test.mark == "silence" else ""
    p = f"p = {show_p(test.p_final)}".replace("= <", "<")
    return f"{name} {test.median_difference:+.2f} dB {interval(*test.interval, '+.2f')} ({p}{why})"


def standing(section: Section, starts: Mapping[str, str]) -> list[str]:
    """Where the base lies between mixture and oracle; whether the measures agree; runs against their starts."""
    table, base, said = section.table.set_index("Exp"), section.base, []
    low, here, high = table[MAIN].astype(float).reindex(["mixture", base, "oracle"])
    if high > low and np.isfinite(here):
        said.append(
            f"{base} reaches {here:.2f} dB, {100 * (here - low) / (high - low):.0f} % of the way from the mixture ({low:.2f}) to the ideal ratio mask ({high:.2f})."
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


def limitations(board: Board) -> list[str]:
    """What the numbers can't show: profile, seeds, songs, definitions, and experiments without a score."""
    said, profile, section = [], board.profile, board.main
    if not profile.as_planned:
        carried = "The plan's and the literature's figures are for whole songs and longer training, and may come out otherwise."
        if profile.songs_from == "made" and not board.origin:
            carried = "Synthetic songs show signs of life only: neither the size nor the sign of a difference carries over to music."
        said.append(f"These are {profile.name} scores ({board.origin or profile.songs}; {profile.reduced}). {carried}")
    if section and (tests := list(section.comparisons.values())):
        if single := [name for name, test in section.comparisons.items() if min(test.seeds) < 2]:
            said.append(
                f"One seed only: {', '.join(single) if len(single) < len(tests) else 'every experiment'}. Such a test compares "
                "checkpoints, not methods: published scores differ by an SD of 0.03 to 0.34 dB between seeds alone."
            )
        if few := [test for test in tests if not test.enough]:
            said.append(f"{few[0].n} songs are too few for p < {ALPHA:g}, which needs {few[0].fewest} that differ.")
    if section and set(section.scores["track"]) & {*ARTIST_OVERLAP}:
        said.append("Artists of three test songs also sing in training songs; the scoreboard has scores without them.")
    if section:
        said.append(
            "BSS Eval leaves out the windows in which a source is silent: voices that a network invents there show in silence_energy_db alone. Scores are not listening tests."
        )
    ran = {str(name) for each in board.sections for name in each.table["Exp"]}
    absent = ", ".join(name for name in (*week_experiments(), *REFERENCES) if name not in ran)
    return [*said, *([f"No score of: {absent}."] if absent else [])]


def expectations(names: Iterable[str | Experiment]) -> pd.DataFrame:
    """What each of the experiments, or names on the menu, changes and why, and the gain that plan and literature expect."""
    known, columns = [get_experiment(name) for name in names], ["change", "hypothesis", "plan", "literature"]
    expected = [[getattr(entry, column) for column in columns] for entry in known]
    return pd.DataFrame(expected, pd.Index([entry.name for entry in known], name="experiment", dtype=object), columns)
