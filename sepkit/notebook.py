"""What a day's notebook says around its runs: where it stands, what came out, what now.

Every sentence is computed from files under the root; none is written in advance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.commands.doctor import environment
from sepkit.errors import SepkitError
from sepkit.evaluation.scoring import evaluate
from sepkit.evaluation.statistics import compare_scores, summary
from sepkit.experiments import MENU, picked, week_experiments
from sepkit.profiles import Profile, get_profile
from sepkit.storage import WEEK_HOURS, Root, Run, drive, hours_left, run_name
from sepkit.training.plan import plan

DAYS = 7


@dataclass(frozen=True)
class Day:
    """One day of the week: its number, its place, and the rows of the menu that it runs."""

    number: int
    profile: Profile
    root: Root
    data: Path | str | None
    seed: int
    rows: tuple[str, ...]

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that `train` and `reference` share."""
        return {"profile": self.profile, "data": self.data, "root": self.root}

    def run(self, experiment: str, fold: int | None = None) -> Run:
        return self.root.run(run_name(experiment, self.seed, fold))

    def easy_and_hard(self) -> tuple[str, str]:
        """Base's best and worst validation song, the same two for all runs."""
        scores = evaluate(self.run("Base"), data=self.data, split="valid")
        rows = scores[(scores["metric"] == "sdr_bsseval") & (scores["source"] == "vocals")].dropna(
            subset=["value"]
        )
        if rows.empty:
            raise SepkitError(
                "No validation song of Base has a defined sdr_bsseval; look at its valid_scores.csv."
            )
        ranked = rows.sort_values("value")["track"]
        return str(ranked.iloc[-1]), str(ranked.iloc[0])

    def __str__(self) -> str:
        facts = environment(self.root.path, self.profile)
        lines = [
            f"Day {self.number} of {DAYS}, profile {self.profile.name} ({self.profile.songs}; {self.profile.reduced})",
            f"device {facts['device']}, {facts['precision']}; root {self.root.path}, {facts['free_disk_gb']} GB free",
            f"GPU hours left of {WEEK_HOURS:g}: {hours_left(self.root):.2f}",
        ]
        if facts["drive"] is None:
            lines.append("no Drive copy: what is written here is gone with this machine")
        return "\n".join(lines)


def begin(
    number: int,
    rows: Sequence[str] = (),
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    seed: int = 0,
    pick: Iterable[str] | None = None,
) -> Day:
    """Opens a day: brings back the synced copy, and prints where the student stands.

    rows: what the day runs; pick: the rows of the week, None as `sepkit.experiments.picked` says.
    """
    profile = get_profile(profile)
    root = Root.open(root, profile)
    back = drive.pull(root)
    week = picked(pick, profile)
    if pick is None and profile.as_planned:
        print(f"the default week of {WEEK_HOURS:g} GPU hours: {', '.join(week)}; give `pick` for other rows")
    chosen = tuple(row for row in rows if row in week)
    day = Day(number, profile, root, data, seed, chosen)
    print(day)
    if back is not None and (back.copied or not back.safe):
        print(f"from Drive: {back}")
    if rows and not chosen:
        print(f"none of this day's rows ({', '.join(rows)}) is in the week's pick: nothing is trained")
    return day


def expectations(rows: Iterable[str]) -> pd.DataFrame:
    """What each row changes against Base, what the plan expects of it, and what the literature finds."""
    return pd.DataFrame(
        [
            {
                "row": name,
                "change": MENU[name].change,
                "plan": MENU[name].plan,
                "literature": MENU[name].literature,
            }
            for name in rows
        ],
        columns=["row", "change", "plan", "literature"],
    ).set_index("row")


def outcome(run: Run, base: Run, metric: str = "sdr_bsseval", source: str = "vocals") -> str:
    """The measured result of `run` beside the plan's and the literature's expectation, in sentences."""
    result = compare_scores(run.scores(), base.scores(), metric=metric, source=source)
    entry = MENU.get(run.config["experiment"])
    text = result.sentence
    if result.method_interval is not None:  # with one seed a side the sentence has said what it can't tell
        text += f" {result.method_sentence}"
    if entry is not None:
        text += f" The plan expected {entry.plan}; the literature {entry.literature}."
    return text


def outcome_of_base(base: Run) -> str:
    """Base's medians beside what the plan and the literature expect of whole songs."""
    figures = {metric: summary(base.scores(), metric)["median"] for metric in ("sdr_bsseval", "si_sdr")}
    profile, entry = get_profile(base.config["profile"]), MENU["Base"]
    return (
        f"Base reads {figures['sdr_bsseval']:.2f} dB sdr_bsseval and {figures['si_sdr']:.2f} dB si_sdr of vocals on the "
        f"{profile.name} profile ({profile.songs}). On whole songs the plan expects {entry.plan}; the literature "
        f"{entry.literature}. Against the plan, this profile reduces: {profile.reduced}."
    )


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """Medians over the test songs, dB, of runs that are scored."""
    rows = []
    for run in runs:
        scores, status = run.scores(), run.status
        row: dict[str, Any] = {"run": run.name}
        for metric in ("sdr_bsseval", "si_sdr", "sar_bsseval"):
            row[metric] = summary(scores, metric)["median"]
        row |= {
            "songs": summary(scores)["n"],
            "epochs": status.get("epochs"),
            "minutes": status.get("minutes"),
            "stopped": status.get("stopped", "—"),
        }
        rows.append(row)
    return pd.DataFrame(rows).set_index("run").round(2)


def what_now(day: Day) -> str:
    """Hours left, the best next run, what to expect of it; and whether the copy on Drive is safe."""
    synced = drive.push(day.root)
    finished = {run.config["experiment"] for run in day.root.runs() if run.finished}
    left = hours_left(day.root)
    lines = [f"GPU hours left: {left:.2f} of {WEEK_HOURS:g}."]
    open_rows = [name for name in week_experiments() if name not in finished]
    if open_rows:
        name = open_rows[0]
        cost = plan(profile=day.profile, pick=[name], root=day.root)
        minutes = float(cost.loc[cost["experiment"] == name, "minutes"].iloc[0])
        basis = cost.loc[cost["experiment"] == name, "basis"].iloc[0]
        lines.append(
            f"Best next run: {name}, {MENU[name].change} (day {MENU[name].day}), about {minutes:.1f} minutes "
            f"({basis}). Expect: {MENU[name].literature}."
        )
    else:
        lines.append(
            "Every row of the menu has run; another seed of Base says how much of a difference is chance."
        )
    if day.number < DAYS:
        lines.append(f"Tomorrow: day {day.number + 1}.")
    lines.append(f"Drive: {synced}." if synced is not None else "No Drive copy is set up here.")
    return "\n".join(lines)
