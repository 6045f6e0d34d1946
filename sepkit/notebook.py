"""What opens and closes a day's notebook, computed from files under the root; in between, what its runs look and sound like."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from sepkit.commands.doctor import environment
from sepkit.data.folds import FOLDS
from sepkit.data.locate import given_songs, songs_elsewhere
from sepkit.data.packs import store
from sepkit.devices import pick_device
from sepkit.errors import UsageError
from sepkit.evaluation.listening import choose_songs, excerpts
from sepkit.evaluation.statistics import summary
from sepkit.experiments import BASE, MENU, Line, get_experiment, picked, resolve
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.reporting import compute
from sepkit.reporting.lessons import expectations
from sepkit.reporting.outcome import PREDICTIONS, Outcome, outcome, predictions
from sepkit.reporting.songs import excerpt_view, excerpts_player
from sepkit.reporting.tables import NONE, number
from sepkit.storage import DataLike, Root, RootLike, Run, drive, hours_left, ledger, write_json
from sepkit.storage.excerpts import easy_and_hard
from sepkit.storage.ledger import week_hours
from sepkit.training.plan import plan, week_lines
from sepkit.training.train import no_time_for

__all__ = ["Day", "Outcome", "begin", "expectations", "outcome", "plan_and_measured", "results", "what_now"]
DAYS = 7


@dataclass(frozen=True)
class Day:
    """One day of the week: its number (0: the notebook of own songs), its place, and the experiments that it runs."""

    number: int
    profile: Profile
    root: Root
    data: DataLike
    seed: int
    rows: tuple[str, ...]  # experiments
    pick: tuple[str, ...] | None = None  # the week's experiments, where they were given
    folds: str | None = None  # the experiment that day 5 trains in three folds

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that `train` and `reference` share."""
        return {"profile": self.profile, "data": self.data, "root": self.root}

    def run(self, experiment: str, fold: int | None = None) -> Run:
        return self.root.run_of(experiment, self.seed, fold)

    def easy_and_hard(self) -> tuple[str, str]:
        """Base's best and worst validation song, the same two for all runs."""
        return easy_and_hard(self.root) or choose_songs(self.root, self.data)

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Displays the easy and the hard song: a picture of each run, and one player with the estimates of all."""
        from IPython.display import display

        runs = [runs] if isinstance(runs, Run) else list(runs)
        found = {run.name: {each.song: each for each in excerpts(run, self.data)} for run in runs}
        for label, song in zip(("easy", "hard"), self.easy_and_hard() if runs else (), strict=False):
            there, title = {name: of[song] for name, of in found.items() if song in of}, f"{label}: {song}"
            small = 48 if len(there) > 2 else 64  # a notebook has to stay small
            with ThreadPoolExecutor(1) as beside:  # sounds are encoded while pictures are drawn
                sounds = [beside.submit(excerpts_player, there, "vocals", title=title, kbit_s=small)] if there else []
                for name, excerpt in there.items():
                    display(excerpt_view(excerpt, f"{name}, {title}"))
                display(*(sound.result() for sound in sounds))

    def predict(self, gains: Mapping[str, Any], why: str = "") -> str:
        """Keeps the gains over Base, in dB, that the student expects, and says which are kept; None adds none.

        A prediction for an experiment whose scores are known already is not taken.
        """
        kept = predictions(self.root)
        for name, gain in gains.items():
            if gain not in (None, "") and not self.run(name).scored:
                try:
                    kept[name] = {"gain_db": float(gain), "why": str(why)}
                except ValueError:
                    raise UsageError(f"Expected a number of dB for {name}, or None, got {gain!r}.") from None
        if kept:
            write_json(self.root.path / PREDICTIONS, kept)
        texts = [f"{name} {kept[name]['gain_db']:+.1f} dB" if name in kept else f"{name} {NONE}" for name in gains]
        return f"Your predictions: {', '.join(texts)}"

    def __str__(self) -> str:
        facts = environment(self.root.path, self.profile)
        folder, fault = drive.standing(self.root)
        copy = "" if folder else "; no copy on Drive: results are lost when this machine is"
        if fault:
            copy = f"\nDrive: {fault}; until then results are on this machine only"
        return (
            f"{f'Day {self.number} of {DAYS}' if self.number else 'Your own songs'}, profile {self.profile.name}: {self.profile.songs}\n"
            f"{facts['device']}, {facts['precision']}; {facts['free_disk_gb']} GB free in {self.root.path}\n"
            f"GPU hours left: {hours_left(self.root):.2f} of {week_hours():g}{copy}"
        )


def begin(
    number: int,
    rows: Sequence[str] = (),
    *,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    seed: int = 0,
    pick: str | Iterable[str] | None = None,
) -> Day:
    """Opens a day: fetches the copy from Drive, and prints where the student stands.

    rows: the day's experiments; pick: those of the week, a list or one string with commas, None or "" as
    `sepkit.experiments.picked` says. An empty profile, data or root, as a form gives it, counts as None.
    """
    profile = get_profile(profile)
    root, data = Root.open(root or None, profile), data or None
    if isinstance(pick, str):
        pick = [name.strip() for name in pick.split(",") if name.strip()] or None
    pick = None if pick is None else tuple(pick)
    ledger.open_clock(root, "notebook")
    back = drive.pull(root)
    if back is not None:  # published weights come back from Drive with the root
        os.environ.setdefault("TORCH_HOME", str(root.path / "torch"))
    week = [line for line in _week(profile, root, pick) if line.within or pick]  # a pick goes on until time is up
    if pick is None and profile.as_planned:
        text = ", ".join(f"{line.experiment} in three folds" if line.folds else line.experiment for line in week)
        print(f"the default week of {week_hours():g} GPU hours: {text}; give `pick` for other experiments")
    names = [line.experiment for line in week if not line.folds]
    names += [row for row in rows if pick is None and root.run_of(row, seed).finished]  # its hours are spent
    folds = next((line.experiment for line in week if line.folds), None)
    day = Day(number, profile, root, data, seed, tuple(_to_run(rows, names, profile, root, seed)), pick, folds)
    print(day)
    if back is not None and (back.copied or not back.safe):
        print(f"from Drive: {back}")
    if synthetic := _why_not_demo(day):
        print(synthetic)
    if pick is None and (spared := [row for row in rows if row in profile.left_out and row not in day.rows]):
        print(f"Profile {profile.name} leaves out {' and '.join(spared)} for speed; name them in `pick` to train them.")
    if rows and not day.rows:
        print(f"The week's pick has none of this day's experiments ({', '.join(rows)}): nothing is trained.")
    return day


def _why_not_demo(day: Day) -> str:
    """A line for who would train the demo although a GPU or other songs are here; "" otherwise."""
    songs = songs_elsewhere(day.data, day.root)
    here = " and ".join([*["a GPU"] * (pick_device(None) == "cuda"), *[f"songs in {songs}"] * bool(songs)])
    if day.profile.songs_from != "made" or not here:
        return ""
    on = "" if songs and given_songs(day.data) else " on synthetic songs"
    return f"NOTE: {here} found, but profile {day.profile.name} trains small networks{on}; choose preview or full."


def _week(profile: Profile, root: Root, pick: Sequence[str] | None) -> list[Line]:
    """The week's experiments and folds; of a planned week as far as the hours that are left allow it."""
    if pick is None and profile.as_planned:
        return week_lines(profile, root)
    names = list(dict.fromkeys([BASE, *picked(pick, profile)]))
    if profile.as_planned:
        return week_lines(profile, root, pick=names)
    return [*(Line(name, folds=False, within=True) for name in names), Line(BASE, folds=True, within=True)]


def _to_run(rows: Iterable[str], week: Sequence[str], profile: Profile, root: Root, seed: int) -> Iterator[str]:
    """Those of `rows` that the week has, finished ones or with time for another epoch; a line names the others."""
    for name in rows:
        run, epochs = root.run_of(name, seed), resolve(get_experiment(name), profile)["training"]["epochs"]
        reason = no_time_for(run, epochs) if name in week else None
        if reason:
            print(f"{name} is left out: {reason}.")
        elif name in week:
            yield name


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """Medians over the test songs, dB, of runs that are scored."""
    rows = {}
    for run in runs:
        scores, status = run.scores(), {"stopped": "—", **run.status}
        medians = {name: round(summary(scores, name)["median"], 2) for name in ("sdr_bsseval", "si_sdr", "sar_bsseval")}
        facts = {name: status.get(name) for name in ("epochs", "minutes", "stopped")}
        facts["last rate"] = number(status.get("last_learning_rate"), ".1e")
        rows[run.name] = {**medians, "songs": summary(scores)["n"], **facts}
        if run.config["experiment"] == "mixture":
            rows[run.name]["sar_bsseval"] = NONE  # it has no artefacts: its SAR says nothing
    return pd.DataFrame(list(rows.values()), pd.Index(list(rows), name="run")).round(2)


def plan_and_measured(day: Day) -> pd.DataFrame:
    """`compute.plan_and_measured` as text: of the week on its first and last day, else of Base and the day's experiments.

    Those without a prediction are predicted first, which takes a few training steps of each where no GPU is here.
    """
    missing = [name for name in (BASE, *day.rows) if name not in set(compute.predicted(day.root)["experiment"])]
    if missing:
        compute.keep_predicted(day.root, plan(profile=day.profile, pick=missing, root=day.root))
    names = None if day.number in (1, DAYS) else (BASE, *day.rows)
    return compute.plan_and_measured(day.root, names).map(partial(number, form=".1f"))


def what_now(day: Day) -> str:
    """Hours left, the best next run; and whether the copy on Drive is safe."""
    week = [line for line in _week(day.profile, day.root, day.pick) if not _is_done(day, line)]
    best = "All experiments of the week have run; another seed of Base shows how much of a difference is chance."
    if line := next((line for line in week if line.within), None):
        table = plan(
            profile=day.profile, pick=[line.experiment], root=day.root, folds=range(FOLDS) if line.folds else [None]
        )
        cost, entry = table.iloc[-1], MENU[line.experiment]
        best = f"Best next run: {line.experiment}{' in three folds' if line.folds else ''}, {entry.change} (day {5 if line.folds else entry.day}), about {cost['minutes']:.1f} minutes ({cost['basis']})."
    elif week:
        best = f"The hours left allow none of the week's experiments: {', '.join(each.experiment for each in week)}."
    lines = [f"GPU hours left: {hours_left(day.root):.2f} of {week_hours():g}.", best]
    if day.number < DAYS:
        lines.append(f"Tomorrow: day {day.number + 1}.")
    stored = store(day.root)
    synced = drive.push(day.root)  # last, with every minute that was counted above
    copy = "There is no copy on Drive." if not synced else f"Drive: {'; '.join(filter(None, (str(synced), stored)))}."
    return "\n".join([*lines, copy])


def _is_done(day: Day, line: Line) -> bool:
    return all(day.run(line.experiment, fold).finished for fold in (range(FOLDS) if line.folds else [None]))
