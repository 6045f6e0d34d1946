"""GPU minutes that were spent, and those that a plan would take."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from sepkit.commands.plan import text
from sepkit.errors import UsageError
from sepkit.experiments import MENU
from sepkit.profiles import PROFILES
from sepkit.storage import Root, budget, hours_left, write_csv, write_json
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
    assert list(table["experiment"]) == ["Base", "F", "C+D", "A", "B", "Best"]
    assert set(table["basis"]) == {"estimate for a T4"}
    assert table["within"].all()
    assert table["total_h"].iloc[-1] <= 8.0
    assert table["minutes"].sum() / 60 == pytest.approx(table["total_h"].iloc[-1], abs=0.02)
    assert list(table["plan_min"].fillna(0)) == [35, 45, 40, 80, 0, 0]
    steps = dict(zip(table["experiment"], table["steps"], strict=True))
    assert steps == {name: MENU[name].epochs * 300 for name in steps}
    base = table.iloc[0]
    # 56 validation segments are 7 batches an epoch, each a third of a training step
    assert base["train_min"] == pytest.approx(20 * (300 + 7 / 3) * MENU["Base"].t4_step_s / 60, abs=0.06)
    assert base["train_min"] <= 35  # the plan's word for 20 epochs
    assert base["score_min"] == 6.4  # 50 test songs and 14 validation songs, 6 s each
    assert table["score_min"][1] == 5.0


def test_seeds_and_folds_are_counted(t4, root):
    table = plan(profile="full", pick=["C"], seeds=[0, 1], folds=[None, 0, 1, 2], root=root).set_index("experiment")
    assert list(table["runs"]) == [2, 6, 2, 6]
    assert table["train_min"]["C folds"] == pytest.approx(3 * table["train_min"]["C"], abs=0.11)
    assert table["score_min"]["C folds"] == 19.8  # two seeds, 33 songs a fold
    assert table["minutes"]["C"] == pytest.approx(table["train_min"]["C"] + table["score_min"]["C"])


def test_the_table_says_where_its_figures_come_from_in_80_columns(t4, root):
    history(root, "Base-s0", [90.0] * 3, vram_mib=5200)
    said = text(plan(profile="full", pick=["D-pitch", "A"], folds=[None, 0], root=root)).splitlines()
    assert max(map(len, said[:7])) < 80
    assert "plan_min" in said[0] and "35.0" in said[1] and "80.0" in said[5] and "—" in said[2]
    assert "seconds a step, measured in Base-s0: Base 0.30, Base folds 0.30" in said
    assert any("1.3 GB of GPU memory" in line for line in said)
    assert said[-1] == "GPU memory measured, MiB: Base 5200"


def test_what_is_spent_and_what_is_finished_decide_the_rest_of_the_week(t4, root):
    """Seven hours are gone, Base, F and C+D are finished: A does not fit any more, C does."""
    for run, best_sdr in {"Base-s0": 4.0, "F-s0": 6.0, "C+D-s0": 4.1}.items():
        finish(root, run, best_sdr, start_from="umxhq" if run == "F-s0" else None)  # F's weights know the folds' songs
    spend(root, "A-s0", 420)
    table = plan(profile="full", root=root)
    assert list(table["experiment"]) == ["Base", "F", "C", "D-pitch", "D-time", "B", "C+D folds", "Best"]
    assert list(table["experiment"][table["within"]]) == ["Base", "F", "C", "D-pitch"]
    assert table["total_h"].iloc[0] == 7.0  # what is finished costs nothing more


def finish(root, name, best_sdr, **config):
    run = root.run(name)
    history(root, name, [1.0])
    write_json(run.path / "config.json", {"experiment": name.split("-s")[0], "fold": None, **config})
    run.write_status(state="finished", epochs=1, best_sdr=best_sdr)
    write_csv(run.scores_path, pd.DataFrame({"value": [1.0]}))


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


def history(root, run, seconds, **columns):
    table = pd.DataFrame({"epoch": range(1, len(seconds) + 1), "seconds": seconds, "ranks": 1, **columns})
    write_csv(root.run(run).path / "history.csv", table)


def test_a_run_that_is_there_gives_its_own_step_time(t4, root, monkeypatch):
    history(root, "Base-s0", [300.0, 90.0, 90.0])  # the first epoch also warms up
    table = plan(profile="full", pick=["C"], root=root)
    assert list(table["basis"]) == ["measured in Base-s0", "estimate for a T4"]
    assert list(table["step_s"]) == [0.3, MENU["C"].t4_step_s]
    assert table["train_min"][0] == 30.0
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
    assert list(table["train_min"]) == [0.1, 0.1]


def test_measuring_a_step_leaves_the_callers_randomness_alone(tiny):
    state = torch.get_rng_state()
    seconds = step_seconds(MENU["B"], replace(tiny, segment_s=0.2), device="cpu")
    assert 0 < seconds < 60
    assert torch.equal(torch.get_rng_state(), state)


def test_the_profiles_all_plan(t4, root, monkeypatch):
    monkeypatch.setattr(module, "step_seconds", lambda *_: 1.0)
    for profile in PROFILES.values():
        assert len(plan(profile=profile, pick=list(MENU), root=root)) == len(MENU)
