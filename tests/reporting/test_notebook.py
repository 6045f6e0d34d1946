"""What a day says before anything has run."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from sepkit import notebook
from sepkit.experiments import MENU
from sepkit.reporting.lessons import expected
from sepkit.storage import Root, drive, ledger, write_csv, write_json, write_text


def test_a_day_whose_rows_are_not_picked_expects_nothing():
    columns = ["change", "hypothesis", "plan", "literature"]
    assert list(notebook.expectations(["C2", "G"]).index) == ["C2", "G"]
    nothing = notebook.expectations(())
    assert list(nothing.columns) == columns
    assert nothing.empty


def test_an_outcome_speaks_of_the_method_once_there_are_seeds_to_speak_from(week, helpers):
    base = week.run("Base-s0")
    outcome = notebook.outcome(week.run("C-s0"), base)
    assert "one seed: no claim, since this compares two checkpoints" in repr(outcome)
    assert outcome.table.loc["C-s0", "plan"] == "higher SAR"


def test_several_runs_of_a_day_are_corrected_together(week):
    lines = notebook.outcome([week.run("C-s0"), week.run("D-s0")], week.run("Base-s0")).lines
    assert lines[0].startswith("✓ C-s0 is 1.00 dB better") and "after Holm" in lines[0]
    assert lines[1].startswith("n.s. D-s0 against Base-s0: no difference shown")


def test_what_the_plan_does_not_expect_is_said():
    assert expected(MENU["G"]).startswith("The plan has no expectation for this experiment. The literature:")
    assert "experiment (the fair test of C's hypothesis" in expected(MENU["C2"])
    assert expected(MENU["C"]).startswith("The plan expects: higher SAR.")


def test_published_weights_come_back_from_drive(monkeypatch, tmp_path):
    """A fresh runtime has no folder of torch's; what was downloaded once is not downloaded again."""
    monkeypatch.setenv("TORCH_HOME", "to be restored")
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path / "first"))
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "drive"))
    day = notebook.begin(2, profile="demo")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    assert folder.is_relative_to(day.root.path)
    write_text(folder / "vocals-b62c91ce.pth", "weights")
    drive.push(day.root)
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path / "second"))
    notebook.begin(2, profile="demo")
    again = Path(torch.hub.get_dir()) / "checkpoints/vocals-b62c91ce.pth"
    assert again.is_relative_to(tmp_path / "second") and again.read_text() == "weights"


@pytest.fixture
def full(tmp_path):
    return Root.open(tmp_path, "full")


def finish(root, name):
    run = root.run_of(name)
    write_json(run.path / "config.json", {"experiment": name, "fold": None})
    write_csv(run.path / "history.csv", pd.DataFrame({"seconds": [60.0]}))
    run.write_status(state="finished", epochs=1, best_sdr=1.0)


def test_a_day_and_what_now_follow_the_hours_that_are_left(full, capsys):
    """The plan's week at first; short of time, after Base and F: C and D, as `plan` says."""
    day = notebook.begin(3, ["C", "C2", "D-pitch", "D-time", "C+D"], profile="full", root=full)
    assert "the default week of 8 GPU hours: Base, F, C+D, A, B, Best; give" in capsys.readouterr().out
    assert (day.rows, day.folds) == (("C+D",), None)
    for name in ("Base", "F"):
        finish(full, name)
    assert "Best next run: C+D, C's loss" in notebook.what_now(day)
    full.add_minutes(run="shared", stage="notebook", minutes=370, device="T4", gpu_attached=True)
    assert f"Best next run: C, {MENU['C'].change} (day 3), about 30.2 minutes" in notebook.what_now(day)
    day = notebook.begin(3, ["C", "C2", "D-pitch", "D-time", "C+D"], profile="full", root=full)
    assert day.rows == ("C", "D-pitch", "D-time")
    full.add_minutes(run="shared", stage="notebook", minutes=100, device="T4", gpu_attached=True)
    assert "allow none of the week's other experiments: C, D-pitch" in notebook.what_now(day)
    assert notebook.begin(2, ["UMX", "F"], profile="full", root=full).rows == ("F",)  # finished: it can be scored


def test_a_run_without_time_is_left_out_of_its_day(full, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "gpu_now", lambda: (True, 0.0))
    full.add_minutes(run="A-s0", stage="train", minutes=485, device="T4", gpu_attached=True)
    finish(full, "B")
    day = notebook.begin(5, ["B", "E"], profile="full", root=full, pick=["B", "E"])
    assert (day.rows, day.folds) == (("B",), None)
    assert "E is left out: 8.08 of the week's 8 GPU hours are spent; evaluate and report" in capsys.readouterr().out
    monkeypatch.setenv("SEPKIT_HOURS", "10")
    assert notebook.begin(5, ["B", "E"], profile="full", root=full, pick=["B", "E"]).rows == ("B", "E")


def test_the_demo_runs_all_and_folds_of_base(tmp_path, capsys):
    day = notebook.begin(5, ["B", "E"], profile="demo", root=tmp_path)
    assert (day.rows, day.folds) == (("B", "E"), "Base")
