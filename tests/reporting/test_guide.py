"""What a day says before anything has run."""

from sepkit.reporting import guide


def test_a_day_whose_rows_are_not_picked_expects_nothing():
    columns = ["change", "plan", "literature"]
    assert list(guide.expectations(["C2", "G"]).index) == ["C2", "G"]
    nothing = guide.expectations(())
    assert list(nothing.columns) == columns
    assert nothing.empty
