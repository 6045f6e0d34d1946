"""What a day says before anything has run."""

from sepkit import notebook


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
