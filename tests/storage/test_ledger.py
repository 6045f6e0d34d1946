"""Every minute is booked once, those before a SIGKILL too; budget.csv is appended."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from sepkit.storage import WEEK_HOURS, Root, budget, hours_left, ledger


@pytest.fixture
def root(tmp_path):
    return Root.open(tmp_path, "demo")


@pytest.fixture
def often(monkeypatch):
    assert ledger.BOOK_EVERY_S < 60
    monkeypatch.setattr(ledger, "BOOK_EVERY_S", 0.05)


def spent(root):
    """{(run, stage): seconds}."""
    return 60 * root.budget().groupby(["run", "stage"])["minutes"].sum()


def test_a_stage_is_booked_in_small_rows_that_add_up(root, often):
    with ledger.spending(root, run="Base-s0", stage="train", device="cpu", epoch=3):
        start = time.perf_counter()
        while len(root.budget()) < 3:
            time.sleep(0.02)
        lasted = time.perf_counter() - start
    rows = root.budget()
    assert set(rows["epoch"]) == {3}
    assert spent(root)["Base-s0", "train"] >= lasted - 0.01
    time.sleep(0.15)
    assert len(root.budget()) == len(rows)
    assert budget(root)["minutes"].item() == pytest.approx(rows["minutes"].sum())


def test_inside_another_stage_only_the_inner_one_is_booked(root, often):
    start = time.perf_counter()
    with ledger.spending(root, run="C-s0", stage="evaluate", device="cpu"):
        time.sleep(0.1)
        with ledger.spending(root, stage="cache", device="cpu"):
            time.sleep(0.2)
        time.sleep(0.1)
    lasted, seconds = time.perf_counter() - start, spent(root)
    assert seconds["C-s0", "evaluate"] >= 0.19
    assert seconds["shared", "cache"] >= 0.19
    assert seconds.sum() <= lasted + 0.01


def test_an_error_leaves_the_minutes_booked_and_goes_on(root):
    with pytest.raises(KeyboardInterrupt), ledger.spending(root, run="A-s0", stage="train", device="cpu"):
        time.sleep(0.1)
        raise KeyboardInterrupt
    assert spent(root)["A-s0", "train"] >= 0.09


def test_a_full_disk_hides_no_error_and_stops_no_work(root, monkeypatch, capsys):
    def full(*arguments, **values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Root, "add_minutes", full)
    with (
        pytest.raises(KeyError, match="of the work"),
        ledger.spending(root, stage="train", device="cpu"),
        ledger.spending(root, stage="cache", device="cpu"),
    ):
        raise KeyError("of the work")
    assert "No space left on device" in capsys.readouterr().out
    monkeypatch.undo()
    with ledger.spending(root, stage="train", device="cpu"):
        pass
    assert list(root.budget()["stage"]) == ["train"]


@pytest.mark.parametrize("attached", [True, False])
def test_minutes_are_gpu_minutes_where_a_gpu_is_attached_also_for_work_on_the_cpu(root, monkeypatch, attached):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: attached)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 300 * 2**20)
    with ledger.spending(root, run="A-s0", stage="evaluate", device="cpu"):
        time.sleep(0.1)
    (row,) = root.budget().to_dict("records")
    assert row["gpu_min"] == (row["minutes"] if attached else 0)
    assert row["vram_mib"] == (300 if attached else 0)
    assert hours_left(root) == pytest.approx(WEEK_HOURS - row["gpu_min"] / 60)


def _spend_until_killed(root):
    with ledger.spending(root, run="Base-s0", stage="train", device="cpu", epoch=1):
        time.sleep(60)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_sigkill_loses_less_than_the_time_between_two_rows(root, often):
    worker = multiprocessing.get_context("fork").Process(target=_spend_until_killed, args=(root,))
    worker.start()
    start = time.perf_counter()
    while not len(root.budget()) or spent(root)["Base-s0", "train"] < 0.5:
        assert time.perf_counter() - start < 20, root.budget()
        time.sleep(0.02)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    lasted = time.perf_counter() - start
    assert worker.exitcode == -signal.SIGKILL
    assert 0.5 <= spent(root)["Base-s0", "train"] <= lasted + 0.1


def test_a_row_is_appended_without_reading_the_rows_before(root, monkeypatch):
    root.add_minutes(run="A-s0", stage="train", minutes=1.0, device="cpu", gpu_attached=False)
    before = (root.path / "budget.csv").read_bytes()
    for name in ("read_text", "read_bytes"):
        monkeypatch.setattr(Path, name, None)
    root.add_minutes(run="B, or not-s0", stage="train", minutes=2.0, device="cpu", gpu_attached=False)
    monkeypatch.undo()
    after = (root.path / "budget.csv").read_bytes()
    assert after.startswith(before)
    assert list(root.budget()["run"]) == ["A-s0", "B, or not-s0"]
