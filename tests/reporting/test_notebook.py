"""What a day says before anything has run."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from sepkit import notebook
from sepkit.errors import UsageError
from sepkit.experiments import MENU
from sepkit.storage import Root, drive, ledger, read_json, write_csv, write_json, write_text


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


def test_the_statistics_are_one_click_away_and_whole_without_html(week):
    outcome = notebook.outcome(week.run("C-s0"), week.run("Base-s0"))
    page, text = outcome._repr_html_(), repr(outcome)
    shown, hidden = page.split("<details>")
    assert "+1.00" in shown and "Wilcoxon" not in shown
    assert "Wilcoxon signed-rank, two-sided" in hidden and "rank-biserial correlation" in hidden
    assert "+1.00" in text and "C-s0 is 1.00 dB better than Base-s0" in text
    assert len(re.sub("<[^>]*>", " ", shown).split()) < 60


def test_a_prediction_comes_back_beside_the_gain_and_is_not_changed_after_it(week):
    day = notebook.Day(3, notebook.get_profile("demo"), week, None, 0, ("C", "G"))
    base, scored = week.run("Base-s0"), week.run("C-s0")
    scores = scored.scores_path.rename(week.path / "aside.csv")
    assert day.predict({"C": 0.3, "H": None}, "phase matters") == "Your predictions: C +0.3 dB, H —"
    scores.rename(scored.scores_path)
    assert day.predict({"C": 1.0, "H": "2"}) == "Your predictions: C +0.3 dB, H +2.0 dB"
    assert read_json(week.path / "predictions.json", "")["C"] == {"gain_db": 0.3, "why": "phase matters"}
    assert notebook.outcome(scored, base).table.loc["C-s0", "you"] == "+0.3"
    with pytest.raises(UsageError, match="a number of dB for H, or None, got 'much'"):
        day.predict({"H": "much"})
    assert day.predict({"H": ""}) == "Your predictions: H +2.0 dB"  # a run of all cells keeps what was written


def test_minutes_stand_beside_the_plans_and_what_was_predicted_stays(full, monkeypatch):
    day = notebook.begin(1, ["Base"], profile="full", root=full)
    before = notebook.plan_and_measured(day)
    assert list(before["plan, GPU min"]) == ["35.0", "45.0", "40.0", "80.0", "480.0"]  # Base, F, C+D, A, whole week
    assert (before.loc["Base", "plan, GB"], before.loc["Base", "measured, GB"]) == ("1.3", "—")
    assert before.loc["Base", "predicted, CPU min"] == "20.2"
    for minutes, vram in ((10.0, 900.0), (15.0, 1024.0)):
        full.add_minutes(run="Base-s0", stage="train", minutes=minutes, device="T4", gpu_attached=True, vram_mib=vram)
    full.add_minutes(run="Base-s0", stage="evaluate test", minutes=99.0, device="T4", gpu_attached=True)
    finish(full, "Base")
    after = notebook.plan_and_measured(day)
    assert after.loc["whole week", "measured, GPU min"] == "124.0"
    assert after.loc["Base"].to_dict() == {
        "plan, GPU min": "35.0", "predicted, GPU min": "20.2", "measured, GPU min": "25.0", "plan, GB": "1.3",
        "measured, GB": "1.1",
    }  # fmt: skip
    assert list(notebook.plan_and_measured(notebook.begin(3, ["C+D"], profile="full", root=full)).index) == [
        "Base",
        "C+D",
    ]


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("songs", ["none", "given", "another root"])
def test_nobody_trains_on_synthetic_songs_without_being_told(gpu, songs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "pick_device", lambda _: "cuda" if gpu else "cpu")
    data = tmp_path if songs == "given" else None
    if songs == "another root":
        write_text(tmp_path / "full/cache/wave-0/manifest.json", "{}")
    notebook.begin(1, ["Base"], profile="demo", root=tmp_path / "demo", data=data)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE")]
    assert len(notes) == (gpu or songs != "none")
    for note in notes:
        assert ("a GPU" in note, "songs in" in note) == (gpu, songs != "none")
        assert ("on synthetic songs" in note) == (songs != "given") and "choose preview or full" in note
    notebook.begin(1, ["Base"], profile="preview", root=tmp_path / "preview", data=data)
    assert "NOTE" not in capsys.readouterr().out


def test_a_form_gives_empty_strings_and_one_string_of_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path))
    day = notebook.begin(3, ["C", "D-pitch"], profile="", data="", root="", pick=" C ,F,")
    assert (day.profile.name, day.root.path, day.data) == ("demo", tmp_path / "demo", None)
    assert (day.rows, day.pick) == (("C",), ("C", "F"))
    assert notebook.begin(3, ["C"], pick="").pick is None


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
    write_csv(run.path / "history.csv", pd.DataFrame({"epoch": [1], "seconds": [60.0], "ranks": [1]}))
    run.write_status(state="finished", epochs=1, best_sdr=1.0)


def test_a_day_and_what_now_follow_the_hours_that_are_left(full, capsys):
    """The plan's week at first; short of time, after Base and F: C and D, as `plan` says."""
    day = notebook.begin(3, ["C", "C2", "D-pitch", "D-time", "C+D"], profile="full", root=full)
    assert "the default week of 8 GPU hours: Base, F, C+D, A, B, Best; give" in capsys.readouterr().out
    assert (day.rows, day.folds) == (("C+D",), None)
    for name in ("Base", "F"):
        finish(full, name)
    assert "Best next run: C+D, C's loss" in notebook.what_now(day)
    assert "Best next run: A, " in notebook.what_now(notebook.begin(3, profile="full", root=full, pick="A, C+D"))
    full.add_minutes(run="shared", stage="notebook", minutes=370, device="T4", gpu_attached=True)
    assert f"Best next run: C, {MENU['C'].change} (day 3), about 30.2 minutes" in notebook.what_now(day)
    picked = notebook.begin(3, ["C", "C+D"], profile="full", root=full, pick="A, C+D")
    assert picked.rows == ("C+D",) and "Best next run: C+D, " in notebook.what_now(picked)
    day = notebook.begin(3, ["C", "C2", "D-pitch", "D-time", "C+D"], profile="full", root=full)
    assert day.rows == ("C", "D-pitch", "D-time")
    full.add_minutes(run="shared", stage="notebook", minutes=100, device="T4", gpu_attached=True)
    assert "allow none of the week's experiments: C, D-pitch" in notebook.what_now(day)
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


def test_the_demo_leaves_out_what_its_profile_says_and_runs_folds_of_base(tmp_path, capsys):
    day = notebook.begin(5, ["B", "E"], profile="demo", root=tmp_path)
    assert (day.rows, day.folds) == (("B",), "Base")
    assert "\nProfile demo leaves out E for speed; name them in `pick` to train them.\n" in capsys.readouterr().out
    assert notebook.begin(5, ["B", "E"], profile="demo", root=tmp_path, pick="E").rows == ("E",)
    assert "leaves out" not in capsys.readouterr().out
