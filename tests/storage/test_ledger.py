"""Every minute is booked once, those before a SIGKILL too; budget.csv is appended."""

import contextvars
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sepkit.errors import SepkitError, UsageError
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


def test_what_no_stage_books_the_process_s_clock_does_also_between_two_cells(root, often, monkeypatch):
    monkeypatch.setattr(ledger, "LEAST_S", 0.0)
    monkeypatch.setenv("SEPKIT_STARTED", str(time.time() - 5))  # when the set-up began
    monkeypatch.setattr(ledger, "process_started", lambda: time.time() - 60)
    cell = lambda call: contextvars.Context().run(call)  # noqa: E731  ipykernel gives every cell its own context

    def stage():
        with ledger.spending(root, run="C-s0", stage="evaluate", device="cpu"):
            time.sleep(0.2)

    start = time.perf_counter()
    cell(lambda: ledger.open_clock(root, "notebook"))
    for _ in range(2):
        time.sleep(0.1)
        cell(stage)
    threads = [threading.Thread(target=stage) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, lasted = spent(root), time.perf_counter() - start
    assert 5.19 <= seconds["shared", "notebook"] <= 5 + lasted - 0.6 + 0.02
    assert seconds["C-s0", "evaluate"] == pytest.approx(0.8, abs=0.05)
    ledger.open_clock(root, "notebook")  # the first cell, run again
    assert spent(root)["shared", "notebook"] < 5.5


def test_the_process_s_clock_makes_no_folder_and_needs_no_torch(tmp_path, monkeypatch):
    root = Root(tmp_path / "none")
    monkeypatch.setattr(ledger, "LEAST_S", 0.001)
    ledger.open_clock(root, "command")
    time.sleep(0.01)
    ledger.close_clock()
    assert not root.path.exists()
    root.path.mkdir()
    monkeypatch.delitem(sys.modules, "torch")
    ledger.open_clock(root, "command")
    time.sleep(0.01)
    ledger.close_clock()
    assert "torch" not in sys.modules and root.budget().empty


@pytest.mark.parametrize("given", ["0", "nan", "eight"])
def test_hours_that_are_none_are_refused(root, monkeypatch, given):
    monkeypatch.setenv("SEPKIT_HOURS", given)
    with pytest.raises(UsageError, match=f"Expected hours above 0, got {given}"):
        hours_left(root)


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


HEADER = "time,run,stage,epoch,minutes,gpu_min,device,vram_mib,id"
THREE_HOURS = "\n".join(
    [
        HEADER,
        *(
            f"2026-01-0{day}T10:00:00,Base-s0,train,{day},60.0000,60.0000,Tesla T4,4000,{day * 'ab':0<32}"
            for day in (1, 2, 3)
        ),
        "",
    ]
)
SAVED = {  # by spreadsheets of several countries
    "as written": THREE_HOURS.encode(),
    "semicolons and decimal commas": THREE_HOURS.replace(",", ";").replace(".", ",").encode(),
    "the same with a byte order mark": THREE_HOURS.replace(",", ";").replace(".", ",").encode("utf-8-sig"),
    "decimal commas in quotes": THREE_HOURS.replace("60.0000", '"60,0000"').encode(),
    "all in quotes": "\n".join('"' + line.replace(",", '";"') + '"' for line in THREE_HOURS.splitlines()).encode(),
    "UTF-16 with tabs": THREE_HOURS.replace(",", "\t").encode("utf-16"),
    "UTF-16 without a mark": THREE_HOURS.replace(",", ";").encode("utf-16-le"),
}


@pytest.mark.parametrize("how", SAVED)
def test_a_ledger_that_a_spreadsheet_saved_is_read_and_goes_on(root, how, capsys):
    (root.path / "budget.csv").write_bytes(SAVED[how])
    assert hours_left(root) == 5.0
    root.add_minutes(run="C-s0", stage="train", minutes=30.0, device="T4", gpu_attached=True)
    assert hours_left(root) == 4.5
    assert list(root.budget()["epoch"].dropna()) == [1, 2, 3]
    assert (root.path / "budget.csv").read_bytes().startswith(b"time,run,")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content, left, said",
    [
        (b"", 8.0, "it is empty"),
        (THREE_HOURS.replace("60.0000,60.0000,Tesla T4,4000,", "sixty,", 1).encode(), 6.0, "1 of 3 rows can't"),
        (THREE_HOURS.replace("60.0000", "nan", 1).encode(), 6.0, "1 of 3 rows can't be read"),
        (b"PK\x03\x04 a workbook\nunder this name\n", 8.0, "2 of 2 rows can't be read"),
    ],
    ids=["empty", "a row cut", "no number", "no table"],
)
def test_minutes_that_can_not_be_read_are_said_once_and_the_rest_counts(root, capsys, content, left, said):
    file = root.path / "budget.csv"
    file.write_bytes(content)
    assert [hours_left(root), hours_left(root)] == [left, left]
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert f"The ledger {file}: {said}" in out
    root.add_minutes(run="C-s0", stage="train", minutes=30.0, device="T4", gpu_attached=True)
    assert hours_left(root) == left - 0.5
    assert all(line in file.read_bytes() for line in content.splitlines())  # nothing is thrown away


def test_a_ledger_that_may_not_be_read_is_one_sentence(root, monkeypatch):
    (root.path / "budget.csv").write_text(THREE_HOURS)
    monkeypatch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(SepkitError, match=r"The ledger .*budget\.csv can't be read \(Permission denied\)"):
        hours_left(root)
