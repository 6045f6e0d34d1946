"""Text and tables that open and close a day's notebook, computed from files under the root."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.commands.doctor import environment
from sepkit.data.packs import store
from sepkit.errors import SepkitError
from sepkit.evaluation.scoring import evaluate
from sepkit.evaluation.statistics import compare_all, summary
from sepkit.experiments import BASE, MENU, picked, week_experiments
from sepkit.profiles import Profile, get_profile
from sepkit.reporting.lessons import expectations, expected
from sepkit.storage import Root, Run, drive, hours_left, ledger
from sepkit.storage.ledger import week_hours
from sepkit.training.plan import plan

__all__ = ["Day", "begin", "expectations", "expected", "outcome", "results", "what_now"]
DAYS = 7


@dataclass(frozen=True)
class Day:
    """One day of the week: its number, its place, and the experiments that it runs."""

    number: int
    profile: Profile
    root: Root
    data: Path | str | None
    seed: int
    rows: tuple[str, ...]  # experiments

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that `train` and `reference` share."""
        return {"profile": self.profile, "data": self.data, "root": self.root}

    def run(self, experiment: str, fold: int | None = None) -> Run:
        return self.root.run_of(experiment, self.seed, fold)

    def easy_and_hard(self) -> tuple[str, str]:
        """Base's best and worst validation song, the same two for all runs."""
        scores = evaluate(self.run(BASE), data=self.data, split="valid")
        rows = scores.query("metric == 'sdr_bsseval' and source == 'vocals'")
        ranked = rows.dropna(subset="value").sort_values("value")["track"]
        if ranked.empty:
            raise SepkitError("No validation song of Base has a defined sdr_bsseval; look at its valid_scores.csv.")
        return str(ranked.iloc[-1]), str(ranked.iloc[0])

    def __str__(self) -> str:
        facts = environment(self.root.path, self.profile)
        folder, fault = drive.standing(self.root)
        no_copy = "\nno copy on Drive: results are lost when this machine is" if folder is None else ""
        if fault:
            no_copy = f"\nDrive: {fault}; until then results are on this machine only"
        return (
            f"Day {self.number} of {DAYS}, profile {self.profile.name} ({self.profile.songs}; {self.profile.reduced})\n"
            f"device {facts['device']}, {facts['precision']}; root {self.root.path}, {facts['free_disk_gb']} GB free\n"
            f"GPU hours left of {week_hours():g}: {hours_left(self.root):.2f}{no_copy}"
        )


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
    """Opens a day: fetches the copy from Drive, and prints where the student stands.

    rows: the day's experiments; pick: those of the week, None as `sepkit.experiments.picked` says.
    """
    profile = get_profile(profile)
    root, week = Root.open(root, profile), picked(pick, profile)
    ledger.open_clock(root, "notebook")
    back = drive.pull(root)
    if back is not None:  # published weights come back from Drive with the root
        os.environ.setdefault("TORCH_HOME", str(root.path / "torch"))
    if pick is None and profile.as_planned:
        print(f"the default week of {week_hours():g} GPU hours: {', '.join(week)}; give `pick` for other experiments")
    day = Day(number, profile, root, data, seed, tuple(row for row in rows if row in week))
    print(day)
    if back is not None and (back.copied or not back.safe):
        print(f"from Drive: {back}")
    if rows and not day.rows:
        print(f"The week's pick has none of this day's experiments ({', '.join(rows)}): nothing is trained.")
    return day


def outcome(runs: Run | Iterable[Run], base: Run, metric: str = "sdr_bsseval", source: str = "vocals") -> str:
    """Every run against `base`, corrected by Holm, beside the plan's and the literature's expectation."""
    by_name = {run.name: run for run in ([runs] if isinstance(runs, Run) else runs)}
    sides = {name: run.scores() for name, run in by_name.items()}
    tests, refused = compare_all(sides, base.scores(), metric=metric, source=source)
    lines = [f"{name} is not compared with {base.name}: {why}" for name, why in refused.items()]
    for name, test in tests.items():
        entry = MENU.get(by_name[name].config["experiment"])
        expectation = f" {expected(entry)}" if entry else ""
        lines.append(f"{test.mark} {test.sentence} {test.method_sentence}{expectation}")
    return "\n".join(lines)


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """Medians over the test songs, dB, of runs that are scored."""
    rows = {}
    for run in runs:
        scores, status = run.scores(), {"stopped": "—", **run.status}
        medians = {name: summary(scores, name)["median"] for name in ("sdr_bsseval", "si_sdr", "sar_bsseval")}
        facts = {name: status.get(name) for name in ("epochs", "minutes", "stopped")}
        rows[run.name] = {**medians, "songs": summary(scores)["n"], **facts}
    return pd.DataFrame(list(rows.values()), pd.Index(list(rows), name="run")).round(2)


def what_now(day: Day) -> str:
    """Hours left, the best next run, what to expect of it; and whether the copy on Drive is safe."""
    finished = {run.config["experiment"] for run in day.root.runs() if run.finished}
    best = "All experiments have run; another seed of Base shows how much of a difference is chance."
    if name := next((name for name in week_experiments() if name not in finished), None):
        cost, entry = plan(profile=day.profile, pick=[name], root=day.root).iloc[0], MENU[name]
        best = (
            f"Best next run: {name}, {entry.change} (day {entry.day}), about {cost['minutes']:.1f} minutes "
            f"({cost['basis']}). {expected(entry)}"
        )
    lines = [f"GPU hours left: {hours_left(day.root):.2f} of {week_hours():g}.", best]
    if day.number < DAYS:
        lines.append(f"Tomorrow: day {day.number + 1}.")
    stored = store(day.root)
    synced = drive.push(day.root)  # last, with every minute that was counted above
    copy = (
        "There is no copy on Drive." if synced is None else f"Drive: {'; '.join(filter(None, (str(synced), stored)))}."
    )
    return "\n".join([*lines, copy])
