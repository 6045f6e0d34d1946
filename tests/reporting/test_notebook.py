"""What a day says before anything has run."""

from pathlib import Path

import torch

from sepkit import notebook
from sepkit.experiments import MENU
from sepkit.reporting.lessons import expected
from sepkit.storage import drive, write_text


def test_a_day_whose_rows_are_not_picked_expects_nothing():
    columns = ["change", "hypothesis", "plan", "literature"]
    assert list(notebook.expectations(["C2", "G"]).index) == ["C2", "G"]
    nothing = notebook.expectations(())
    assert list(nothing.columns) == columns
    assert nothing.empty


def test_an_outcome_speaks_of_the_method_once_there_are_seeds_to_speak_from(week, helpers):
    base = week.run("Base-s0")
    text = notebook.outcome(week.run("C-s0"), base)
    assert "one seed: no claim, since this compares two checkpoints" in text
    assert "The plan expects: higher SAR" in text


def test_several_runs_of_a_day_are_corrected_together(week):
    lines = notebook.outcome([week.run("C-s0"), week.run("D-s0")], week.run("Base-s0")).splitlines()
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
