"""Two roots and one copy on Drive: nothing is lost, whoever syncs first, and nothing falls back."""

import contextlib
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from sepkit.storage import Root, copying
from sepkit.storage.drive import pull, push
from tests.storage.sync_files import content, epochs_on, spend, train


@pytest.fixture
def first(tmp_path):
    return Root.open(tmp_path / "first")


@pytest.fixture
def second(tmp_path):
    return Root.open(tmp_path / "second")


@pytest.fixture
def drive(tmp_path):
    return tmp_path / "drive"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(copying.time, "sleep", lambda seconds: None)


def kept_in(folder):
    """{path below kept/<time>/: text} of what lost."""
    return {
        str(Path(*Path(name).parts[2:])): text for name, text in content(folder).items() if name.startswith("kept/")
    }


def minutes(folder):
    return float(Root(folder).budget()["gpu_min"].sum())


def test_two_ledgers_become_the_union_of_their_rows(first, second, drive):
    for number in range(3):
        for root in (first, second):
            spend(root, 10.0, run=f"R{number}-s0")
            assert push(root, drive).safe
    assert minutes(drive) == 60
    pull(first, drive)
    pull(first, drive)
    assert minutes(first.path) == 60
    assert len(first.budget()) == 6


def test_a_row_that_comes_between_is_not_lost(first, second, drive, monkeypatch):
    """Another runtime's write, after ours, does not hold our row: it is written again."""
    spend(first)
    push(first, drive)
    before = (drive / "budget.csv").read_bytes()
    spend(first, 2.0)
    append, times = __import__("sepkit.storage.sync", fromlist=["append_lines"]).append_lines, []

    def overwritten(path, header, lines):
        append(path, header, lines)
        times.append(path)
        if len(times) == 1:
            path.write_bytes(before)

    monkeypatch.setattr("sepkit.storage.sync.append_lines", overwritten)
    assert push(first, drive).safe
    assert minutes(drive) == 3


def test_the_older_root_goes_on_from_the_further_copy(first, second, drive):
    """S65: a laptop to epoch 2, Colab to 5, the laptop again."""
    train(first, 2)
    push(first, drive)
    pull(second, drive)
    train(second, 5)
    push(second, drive)
    assert push(first, drive).copied == []  # a beginning of what is there: nothing is lost, nothing falls back
    assert epochs_on(drive) == (5, 5)
    assert pull(first, drive).kept == []
    assert epochs_on(first.path) == (5, 5)
    assert content(first.path) == content(second.path)


def test_a_finished_run_is_replaced_neither_on_drive_nor_half(first, second, drive):
    train(first, 3, state="finished")
    push(first, drive)
    train(second, 4, word="b")
    result = push(second, drive)
    assert "another copy of this run (3 epochs, finished), as far along as the one here (4 epochs" in str(result)
    assert content(drive) == content(first.path)
    place = pull(second, drive).kept
    assert place == [str(next((second.path / "kept").iterdir()))]
    assert "b epoch 4" in kept_in(second.path)["runs/Base-s0/last.ckpt"].decode()
    assert {name: text for name, text in content(second.path).items() if name.startswith("runs")} == content(drive)


def test_a_further_run_takes_the_place_and_the_other_is_kept_on_drive(first, second, drive):
    train(first, 2)
    push(first, drive)
    train(second, 3, word="b")
    result = push(second, drive)
    assert result.safe
    assert "two copies differed, the one that lost is kept in" in str(result)
    assert epochs_on(drive) == (3, 3)
    assert "a epoch 2" in kept_in(drive)["runs/Base-s0/last.ckpt"].decode()
    assert push(second, drive).copied == []


def test_of_two_copies_as_far_along_both_stay(first, second, drive):
    train(first, 2)
    push(first, drive)
    before = content(drive)
    train(second, 2, word="b")
    result = push(second, drive)
    assert not result.safe
    assert "as far along as the one here" in str(result)
    assert content(drive) == before


def test_scores_of_one_run_from_two_runtimes_meet(first, second, drive):
    train(first, 2, state="finished")
    push(first, drive)
    pull(second, drive)
    (first.path / "runs/Base-s0/scores.csv").write_text("test")
    (second.path / "runs/Base-s0/valid_scores.csv").write_text("valid")
    for root in (first, second, first):
        pull(root, drive)
        assert push(root, drive).safe
    assert content(first.path) == content(second.path) == content(drive)
    assert len(content(drive)) == 8


def test_the_journal_of_scores_goes_when_the_scores_are_there(first, second, drive):
    folder = train(first, 2, state="finished")
    (folder / "scores.part.jsonl").write_text("one song")
    push(first, drive)
    (folder / "scores.part.jsonl").unlink()
    (folder / "scores.csv").write_text("all songs")
    assert push(first, drive).deleted == ["runs/Base-s0/scores.part.jsonl"]
    pull(second, drive)
    assert content(second.path) == content(first.path)


def test_a_deletion_is_one_in_both_places(first, second, drive):
    train(first, 2)
    train(first, 2, run="F-s0")
    (first.path / "results").mkdir()
    (first.path / "results/F-s0.json").write_text("{}")
    spend(first)
    push(first, drive)
    pull(second, drive)
    shutil.rmtree(first.path / "runs/F-s0")
    (first.path / "results/F-s0.json").unlink()
    assert pull(first, drive).copied == []
    push(first, drive)
    assert not (drive / "runs/F-s0/last.ckpt").exists()
    assert content(drive) == content(first.path)
    result = pull(second, drive)  # deleted by another: put aside here, not destroyed
    assert len(result.kept) == 1
    assert {"runs/F-s0/last.ckpt", "results/F-s0.json"} <= kept_in(second.path).keys()
    assert not list((second.path / "runs/F-s0").glob("[!.]*"))
    push(second, drive)
    assert content(drive) == content(first.path)


@pytest.mark.parametrize("emptied", ["fresh", "all but dot files"])
def test_an_empty_root_deletes_nothing(first, drive, emptied):
    train(first, 2)
    spend(first)
    push(first, drive)
    before = content(drive)
    for path in first.path.iterdir():
        if not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif emptied == "fresh":
            path.unlink()
    push(first, drive)
    assert content(drive) == before
    pull(first, drive)
    assert content(first.path) == before


def test_what_a_person_wrote_on_drive_comes_back(first, drive):
    (first.path / "exclude.txt").write_text("Song A\n")
    push(first, drive)
    (drive / "exclude.txt").write_text("Song A\nSong B\n")
    assert push(first, drive).copied == []
    pull(first, drive)
    assert first.excluded() == ("Song A", "Song B")
    (first.path / "exclude.txt").write_text("Song C\n")
    (drive / "exclude.txt").write_text("Song D\n")
    os.utime(drive / "exclude.txt", (time.time() + 9,) * 2)
    assert pull(first, drive).kept
    assert first.excluded() == ("Song D",)
    assert kept_in(first.path) == {"exclude.txt": b"Song C\n"}


def test_the_newer_scoreboard_and_report_stay(first, second, drive):
    for root, word, age in ((first, "fifteen rows", 0), (second, "one row", 86400)):
        for name in ("scoreboard.csv", "report/milestone2.html"):
            (root.path / name).parent.mkdir(exist_ok=True)
            (root.path / name).write_text(word)
            os.utime(root.path / name, (time.time() - age,) * 2)
        pull(root, drive)
        push(root, drive)
    assert set(content(drive).values()) == {b"fifteen rows"}


def test_a_run_that_is_trained_here_is_left_alone(first, second, drive):
    train(first, 2)
    push(first, drive)
    train(second, 1)
    with second.run("Base-s0").alone():
        assert pull(second, drive).copied == []
    assert pull(second, drive).safe
    assert epochs_on(second.path) == (2, 2)


def test_a_spreadsheets_ledger_is_the_same_ledger(first, drive):
    """Saved with semicolons and decimal commas, in UTF-16, on either side."""
    for number in range(3):
        spend(first, 1.5)
        push(first, drive)
        file = (drive if number else first.path) / "budget.csv"
        text = file.read_text().replace(",", ";").replace(".", ",")
        file.write_text(text, encoding="utf-16" if number == 2 else "utf-8")
        spend(first, 2.0)
        pull(first, drive)
        assert push(first, drive).safe
        assert minutes(first.path) == minutes(drive) == 3.5 * (number + 1)


@pytest.mark.parametrize("shown", [b"", b"a epoch 3 "], ids=["empty", "shorter"])
def test_a_file_that_is_late_on_drive_is_never_taken(first, second, drive, shown):
    """S40: names come before contents."""
    train(first, 3)
    push(first, drive)
    last = drive / "runs/Base-s0/last.ckpt"
    whole, when = last.read_bytes(), last.stat()
    last.write_bytes(shown)
    os.utime(last, ns=(when.st_atime_ns, when.st_mtime_ns))
    result = pull(second, drive)
    assert not result.safe
    assert "not whole on Drive yet" in str(result)
    assert content(second.path) == {}
    last.write_bytes(whole)
    assert pull(second, drive).safe
    assert content(second.path) == content(first.path)


def test_nothing_is_pushed_over_what_can_not_be_read(first, second, drive):
    train(first, 3)
    spend(first)
    push(first, drive)
    for name in ("budget.csv", "runs/Base-s0/history.csv"):
        (drive / name).write_bytes(b"")
    before = content(drive)
    train(second, 1, word="b")
    spend(second)
    assert len(push(second, drive).failed) == 6
    assert content(drive) == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_a_kill_between_two_renames_leaves_what_training_could_have_left(first, second, drive, monkeypatch, step, up):
    train(first, 2)
    push(first, drive)
    pull(second, drive)
    train(first, 3, state="finished")
    if not up:
        push(first, drive)
    replace, renamed = Path.replace, []

    def killed(path, target):
        if "Base-s0" in str(target):
            if len(renamed) == step:
                raise Killed
            renamed.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with contextlib.suppress(Killed):
        push(first, drive) if up else pull(second, drive)
    monkeypatch.undo()
    monkeypatch.setattr(copying.time, "sleep", lambda seconds: None)
    place = Root.open(drive.with_name("fresh")) if up else second
    if up:
        assert pull(place, drive).safe  # a runtime that knows nothing takes it
    rows, last = epochs_on(place.path)
    state = json.loads((place.path / "runs/Base-s0/status.json").read_text())["state"]
    assert (rows, last, state) in {
        (2, 2, "running"),
        (3, 2, "running"),
        (3, 0, "running"),
        (3, 3, "running"),
        (3, 3, "finished"),
    }
    assert last or "epoch 2" in (place.path / "runs/Base-s0/previous.ckpt").read_text()
    assert push(first, drive).safe
    assert pull(place, drive).safe
    assert content(place.path) == content(first.path) == content(drive)


def work_and_push(root, drive, run):
    for epoch in range(1, 6):
        train(root, epoch, run=run)
        spend(root, run=run)
        assert push(root, drive, only=(f"runs/{run}", "budget.csv")).safe


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("roots", [1, 2])
def test_two_processes_at_once_lose_nothing(tmp_path, drive, roots):
    """Two runtimes, or two trainings side by side under one root."""
    fork = multiprocessing.get_context("fork")
    places = [Root.open(tmp_path / f"root{number % roots}") for number in range(2)]
    workers = [fork.Process(target=work_and_push, args=(root, drive, f"R{n}-s0")) for n, root in enumerate(places)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert minutes(drive) == 10
    assert [epochs_on(drive, f"R{number}-s0") for number in range(2)] == [(5, 5)] * 2
    assert not list(drive.rglob("*.part"))
