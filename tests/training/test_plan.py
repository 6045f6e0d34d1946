"""GPU minutes that were spent, and those that a plan would take."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from sepkit.errors import UsageError
from sepkit.experiments import MENU, default_week
from sepkit.profiles import PROFILES
from sepkit.storage import Root, budget, hours_left, write_csv
from sepkit.training import plan as module
from sepkit.training.plan import plan, step_seconds


@pytest.fixture
def root(tmp_path):
    return Root.open(tmp_path / "root", "full")


@pytest.fixture
def t4(monkeypatch):
    """As on a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def spend(root, run, minutes, *, stage="train", gpu=True, **values):
    root.add_minutes(run=run, stage=stage, minutes=minutes, device="T4", gpu_attached=gpu, **values)


def test_nothing_is_spent_at_first(root):
    assert budget(root).empty
    assert hours_left(root) == 8.0


def test_minutes_add_up_by_run_and_stage_those_of_dead_runs_included(root):
    for epoch, minutes in enumerate((10.0, 11.0), 1):
        spend(root, "Base-s0", minutes, epoch=epoch, vram_mib=1000 + epoch)
    spend(root, "C-s0", 6.0, epoch=1)
    root.run("C-s0").write_status(state="running")  # died: it has minutes and nothing else
    spend(root, "Base-s0", 3.0, stage="evaluate test")
    spend(root, "Base-s0", 30.0, stage="evaluate test", gpu=False)
    table = budget(root)
    assert list(zip(table["run"], table["stage"], table["minutes"], table["gpu_min"], strict=True)) == [
        ("Base-s0", "train", 21.0, 21.0),
        ("C-s0", "train", 6.0, 6.0),
        ("Base-s0", "evaluate test", 33.0, 3.0),  # a minute counts where a GPU is attached
    ]
    assert list(table["vram_mib"]) == [1002, 0, 0]
    assert hours_left(root) == pytest.approx(8 - 30 / 60)


def test_the_default_week_of_the_full_profile_takes_at_most_eight_hours(t4, root):
    table = plan(profile="full", root=root)
    assert list(table["experiment"]) == default_week() == ["Base", "F", "C+D", "A"]
    assert set(table["basis"]) == {"estimate for a T4"}
    assert table["within"].all()
    assert table["total_h"].iloc[-1] <= 8.0
    assert table["minutes"].sum() / 60 == pytest.approx(table["total_h"].iloc[-1], abs=0.02)
    steps = dict(zip(table["experiment"], table["steps"], strict=True))
    assert steps == {name: MENU[name].epochs * 300 for name in steps}
    base = table.iloc[0]
    assert base["minutes"] == pytest.approx(6000 * MENU["Base"].t4_step_s / 60)
    assert base["minutes"] <= 35  # the plan's word for 20 epochs


def test_a_pick_begins_with_base_and_holds_a_row_once(t4, root):
    assert list(plan(profile="full", pick=["C", "F", "Base", "C"], root=root)["experiment"]) == ["Base", "C", "F"]
    with pytest.raises(UsageError, match="'Z'"):
        plan(profile="full", pick=["Z"], root=root)


def test_rows_beyond_the_hours_are_left_out_and_smaller_ones_still_fit(t4, root):
    whole = plan(profile="full", pick=["A", "F"], root=root).set_index("experiment")["minutes"]
    hours = (whole["Base"] + whole["F"]) / 60 + 0.01
    table = plan(profile="full", pick=["A", "F"], hours=hours, root=root)
    assert list(table["within"]) == [True, False, True]
    assert table["total_h"].iloc[-1] <= hours
    assert not plan(profile="full", hours=0.01, root=root)["within"].any()


@pytest.mark.parametrize("hours", [0, -1, math.nan])
def test_hours_that_are_none_are_refused(hours, root):
    with pytest.raises(UsageError, match="hours above 0"):
        plan(profile="full", hours=hours, root=root)


def history(root, run, seconds):
    table = pd.DataFrame({"epoch": range(1, len(seconds) + 1), "seconds": seconds})
    write_csv(root.run(run).path / "history.csv", table)


def test_a_run_that_is_there_gives_its_own_step_time(t4, root, monkeypatch):
    history(root, "Base-s0", [300.0, 90.0, 90.0])  # the first epoch also warms up
    table = plan(profile="full", pick=["C"], root=root)
    assert list(table["basis"]) == ["measured in Base-s0", "estimate for a T4"]
    assert list(table["step_s"]) == [0.3, MENU["C"].t4_step_s]
    assert table["minutes"][0] == 30.0
    monkeypatch.setenv("SEPKIT_ROOT", str(root.path.parent))
    root.path.rename(root.path.with_name("full"))
    assert plan(profile="full")["basis"][0] == "measured in Base-s0"


def test_planning_makes_no_folder(t4, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path / "later"))
    plan(profile="full")
    assert not (tmp_path / "later").exists()


def test_without_a_history_a_step_is_measured_here(root, tiny, monkeypatch):
    monkeypatch.setattr(module, "step_seconds", lambda *_: 0.5)
    table = plan(profile=tiny, pick=["C"], root=root, device="cpu")
    assert set(table["basis"]) == {"measured now on cpu"}
    assert list(table["steps"]) == [8, 8]
    assert list(table["minutes"]) == [0.1, 0.1]


def test_measuring_a_step_leaves_the_callers_randomness_alone(tiny):
    state = torch.get_rng_state()
    seconds = step_seconds(MENU["B"], replace(tiny, segment_s=0.2), device="cpu")
    assert 0 < seconds < 60
    assert torch.equal(torch.get_rng_state(), state)


def test_the_profiles_all_plan(t4, root, monkeypatch):
    monkeypatch.setattr(module, "step_seconds", lambda *_: 1.0)
    for profile in PROFILES.values():
        assert len(plan(profile=profile, pick=list(MENU), root=root)) == len(MENU)
