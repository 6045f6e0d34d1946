"""A week of 8 GPU hours on a simulated clock: what trains, what stops, what goes on in another session.

Epochs take what `plan` expects, or longer by a factor; nothing is computed.  `pytest -s` prints the weeks.
"""

from types import SimpleNamespace

import pandas as pd
import pytest

from sepkit.experiments import MENU, resolve
from sepkit.profiles import PROFILES
from sepkit.storage import Root, hours_left, ledger, write_csv, write_json
from sepkit.training import epochs
from sepkit.training import fit as fit_module
from sepkit.training.epochs import InTime
from sepkit.training.plan import plan, week_lines
from sepkit.training.train import no_time_for

FULL, START = PROFILES["full"], 1e9


class Week:
    """Trains, scores and idles by turning a clock; a GPU is attached all the time."""

    def __init__(self, root, clock, slower):
        self.root, self.clock, self.slower, self.rows = root, clock, slower, []

    def spend(self, run, stage, seconds):
        self.clock.now += seconds
        self.root.add_minutes(run=run, stage=stage, minutes=seconds / 60, device="T4", gpu_attached=True)

    def train(self, name):
        """As `train` does: refuses, goes on from the last epoch, stops after one; gives what was said, or None."""
        run, epochs = self.root.run_of(name), resolve(MENU[name], FULL)["training"]["epochs"]
        cost = plan(profile=FULL, pick=[name], root=Root(self.root.path / "none"), device="cpu").iloc[-1]
        epoch_s = self.slower * 60 * cost["train_min"] / epochs
        write_json(run.path / "config.json", {"experiment": name, "fold": None})
        in_time, reason = InTime(run, {}), no_time_for(run, epochs)
        done = len(run.history()) if (run.path / "history.csv").exists() else 0
        alone = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
        trainer = SimpleNamespace(
            should_stop=False, max_epochs=epochs, is_global_zero=True, world_size=1, strategy=alone
        )
        while not reason and done < epochs:
            trainer.current_epoch = done
            in_time.on_train_epoch_start(trainer, None)
            self.spend(run.name, "train", epoch_s)
            done += 1
            pd.DataFrame({"seconds": [epoch_s] * done, "ranks": 1}).to_csv(run.path / "history.csv")
            in_time.on_train_epoch_end(trainer, None)
            reason = in_time.reason
        run.write_status(state="stopped" if reason else "finished", epochs=done, best_sdr=done / 10, device="T4")
        if not reason and not run.scores_path.exists():
            self.spend(run.name, "evaluate test", 60 * cost["score_min"])
            write_csv(run.scores_path, pd.DataFrame({"value": [1.0]}))
        said = reason.split(";")[0] if reason else f"{run.status['state']}, {done} epochs"
        self.rows.append((f"{(self.clock.now - START) / 3600:.2f}", name, done, f"{hours_left(self.root):.2f}", said))
        return reason

    def waits(self, line):
        return line.within and not self.root.run_of(line.experiment).finished


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=START)
    clock.time = clock.perf_counter = lambda: clock.now
    for module in (ledger, fit_module, epochs):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(ledger, "gpu_now", lambda: (True, 0.0))
    monkeypatch.setattr("sepkit.training.train.device_name", lambda device: "T4")
    monkeypatch.setenv("SEPKIT_STARTED", str(START))
    return lambda slower: Week(Root.open(tmp_path, FULL), clock, slower)


def simulate(week, monkeypatch, *, session_h, idle_h=0.25):
    """Sessions until the week is done or its hours are spent; each begins with an idle quarter of an hour."""
    monkeypatch.setenv("SEPKIT_SESSION_HOURS", str(session_h))
    for _ in range(20):
        began = week.clock.now
        monkeypatch.setenv("SEPKIT_STARTED", str(began))
        week.rows.append((f"{(began - START) / 3600:.2f}", "a session begins", "", f"{hours_left(week.root):.2f}", ""))
        week.spend("shared", "notebook", 3600 * idle_h)
        while line := next((line for line in week_lines(FULL, week.root) if week.waits(line)), None):
            assert not line.folds
            if reason := week.train(line.experiment):
                break
        # scoring a run whose last epoch just fitted is all that may follow
        assert week.clock.now - began <= 3600 * session_h + 400
        if line is None or "GPU hours are spent" in reason:
            break
        week.clock.now += 12 * 3600
    print(f"\nepochs {week.slower:g} times as long as planned, sessions of {session_h:g} h, {idle_h:g} h of each idle")
    print(pd.DataFrame(week.rows, columns=["at, h", "what", "epochs", "hours left", "said"]).to_string(index=False))
    return {row[1]: row[2] for row in week.rows if row[2] != ""}


def test_a_session_ends_a_run_after_an_epoch_and_the_next_goes_on(simulated, monkeypatch):
    week = simulated(1.0)
    done = simulate(week, monkeypatch, session_h=2)
    planned = plan(profile=FULL, root=Root(week.root.path / "none"), device="cpu")["total_h"].iloc[-1]
    assert done == {"Base": 20, "F": 10, "C+D": 15, "A": 15, "B": 20, "Best": 20}
    stops = [row for row in week.rows if row[4].startswith("this session")]
    assert len(stops) >= 2 and {row[1] for row in stops} >= {"A"}
    assert hours_left(week.root) == pytest.approx(8 - 3 * 0.25 - planned, abs=0.02)


def test_the_hours_stop_a_run_whose_epochs_take_longer_than_planned_and_more_hours_go_on(simulated, monkeypatch):
    week = simulated(2.4)
    done = simulate(week, monkeypatch, session_h=12)
    assert (done["Base"], done["F"], done["C+D"]) == (20, 10, 15)
    assert 5 < done["A"] < 15 and week.rows[-1][1] == "A" and "GPU hours are spent" in week.rows[-1][4]
    epoch_h = week.root.run_of("A").history()["seconds"].iloc[-1] / 3600
    assert 0 < hours_left(week.root) <= epoch_h  # the next one would have passed them
    monkeypatch.setenv("SEPKIT_HOURS", "9.5")
    assert simulate(week, monkeypatch, session_h=12)["A"] == 15
    assert hours_left(week.root) >= 0
