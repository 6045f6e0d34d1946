"""What a day says before anything has run."""

from sepkit import notebook
from sepkit.experiments import MENU
from sepkit.reporting.lessons import expected


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
