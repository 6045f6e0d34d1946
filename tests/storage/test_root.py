"""Files are complete or absent; the root, its runs, its exclusion list and its budget."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from sepkit import parallel
from sepkit.errors import SepkitError, UsageError
from sepkit.profiles import PROFILES, get_profile
from sepkit.storage import Root, read_json, remove_leftovers, write_csv, write_json, write_text, writing
from sepkit.storage.files import part_of
from sepkit.storage.root import BUDGET_COLUMNS, LOCK


def spend(root, run="Base-s0", **values):
    row = {"stage": "train", "minutes": 1.5, "device": "cpu", "gpu_attached": False, **values}
    root.add_minutes(run=run, **row)


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "folder" / "file.txt"
    write_text(file, "old")
    with writing(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
        assert part.parent == file.parent
        assert part.name.startswith(".")
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    file = tmp_path / "file.txt"
    write_text(file, "old")
    with pytest.raises(type(error)), writing(file) as part:
        part.write_text("half")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def _write_and_die(file):
    with writing(file) as part:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_leaves_the_old_file_and_the_next_writer_sweeps(tmp_path):
    file = tmp_path / "file.txt"
    write_text(file, "old")
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert file.read_text() == "old"
    (leftover,) = tmp_path.glob(".*")
    ours, elsewhere = part_of(file), tmp_path / ".other.txt.another_host.1.0.part"
    old = tmp_path / ".old.txt.another_host.1.0.part"
    for each in (ours, elsewhere, old):
        each.touch()
    os.utime(old, (time.time() - 3700,) * 2)
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.glob(".*")) == sorted([ours, elsewhere])
    assert not leftover.exists()


@pytest.mark.parametrize(("number", "kept"), [(22, True), (38, True), (95, True), (5, False), (28, False)])
def test_a_folder_that_knows_no_fsync_keeps_files(tmp_path, monkeypatch, number, kept):
    def refuse(_):
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    if kept:
        write_text(tmp_path / "a.txt", "text")
    else:
        with pytest.raises(OSError, match="refused"):
            write_text(tmp_path / "a.txt", "text")
    assert [file.name for file in tmp_path.iterdir()] == kept * ["a.txt"]


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json", "a test") == {"ü": [1, None]}
    (tmp_path / "b.json").write_text("{")
    for name in ("b.json", "absent.json"):
        with pytest.raises(SepkitError, match=f"Expected a test in .*{name}, but it can't be read"):
            read_json(tmp_path / name, "a test")


SCORES = (
    "run,experiment,seed,fold,track,source,metric,value,protocol,frames,status\n"
    "Base-s0,Base,0,,NA,vocals,sdr_bsseval,4.5,2stem,3,ok\n"
    "Base-s0,Base,0,,B,vocals,sdr_bsseval,,2stem,0,undefined: silent\n"
)


@pytest.mark.parametrize(
    "content",
    [
        SCORES.replace(",", ";").encode(),
        SCORES.replace(",", ";").replace(".", ",").encode(),
        SCORES.encode("utf-16"),
        SCORES.encode()[:-12],
        SCORES.encode()[:120],
        SCORES.splitlines()[0].encode(),
        SCORES.replace("4.5", "four").encode(),
        b"PK\x03\x04",
        b"",
    ],
)
def test_scores_that_evaluate_did_not_write_are_named_in_a_sentence(tmp_path, content):
    run = Root.open(tmp_path, "demo").run("Base-s0")
    run.path.mkdir(parents=True)
    run.scores_path.write_text(SCORES)
    assert list(run.scores()["track"]) == ["NA", "B"] and run.scores()["value"].isna().sum() == 1
    run.scores_path.write_bytes(b"\xef\xbb\xbf" + SCORES.encode())
    assert len(run.scores()) == 2
    run.scores_path.write_bytes(content)
    with pytest.raises(SepkitError, match=r"Expected scores in .*scores\.csv, but it can't be read .*evaluate the run"):
        run.scores()


@pytest.mark.parametrize("content", ["", "epoch;train_loss;valid_loss;seconds\n1;0,5;0,4;3\n"])
def test_a_history_that_training_did_not_write_is_named_in_a_sentence(tmp_path, content):
    run = Root.open(tmp_path, "demo").run("Base-s0")
    write_text(run.path / "history.csv", content)
    with pytest.raises(SepkitError, match=r"Expected a row an epoch in .*history\.csv"):
        run.history()


def test_the_root_is_the_one_given_then_the_environments_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Root.open(None, "demo").path == (tmp_path / "home" / "sepkit-root" / "demo").resolve()
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path / "env"))
    assert Root.open(None, "preview").path == (tmp_path / "env" / "preview").resolve()
    assert Root.open(None, "demo").path == (tmp_path / "env" / "demo").resolve()
    given = Root.open(tmp_path / "given", "demo")
    assert given.path == (tmp_path / "given").resolve()
    assert given.path.is_dir()
    assert Root.open(given) is given


def test_a_relative_sepkit_root_is_refused(monkeypatch):
    """A notebook runs in another folder than the shell, so it would mean two places."""
    monkeypatch.setenv("SEPKIT_ROOT", "results")
    with pytest.raises(UsageError, match=rf"whole path, got results; set it to {Path('results').absolute()}"):
        Root.at(None, "demo")


def test_a_sepkit_root_that_is_itself_a_root_is_refused(tmp_path, monkeypatch):
    """As it was before each profile had a root of its own: its runs would seem lost."""
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path))
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match=rf"move its content to {tmp_path / 'demo'}, or give it as --root"):
        Root.open(None, "demo")


def test_a_root_on_a_lost_drive_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_MOUNT", str(tmp_path / "drive"))
    with pytest.raises(SepkitError, match="lies on Drive, which is not mounted; mount it, or give a local --root"):
        Root.open(tmp_path / "drive/MyDrive/root", "demo")
    assert not (tmp_path / "drive").exists()
    assert Root.open(tmp_path / "local", "demo").path.is_dir()


def test_a_root_that_can_not_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SepkitError, match="found a file; give another --root"):
        Root.open(tmp_path / "file", "demo")
    with pytest.raises(SepkitError, match=r"file/below can't be made .*give another --root"):
        Root.open(tmp_path / "file" / "below", "demo")


def test_the_exclusion_list(tmp_path):
    root = Root.open(tmp_path, "demo")
    assert root.excluded() == ()
    (tmp_path / "exclude.txt").write_bytes("\ufeff# bleed\r\nA - B\r\n\r\n C - D  # wrong stem \r\n".encode())
    assert root.excluded() == ("# bleed", "A - B", "C - D  # wrong stem")


def test_the_budget_adds_up_and_counts_gpu_minutes_where_a_gpu_is_attached(tmp_path):
    root = Root.open(tmp_path, "demo")
    assert list(root.budget().columns) == list(BUDGET_COLUMNS)
    assert root.budget()["gpu_min"].sum() == 0
    spend(root, epoch=1)
    spend(root, run="12", stage="evaluate", gpu_attached=True, device="T4", vram_mib=512.4)
    budget = root.budget()
    assert list(budget["run"]) == ["Base-s0", "12"]
    assert list(budget["minutes"]) == [1.5, 1.5]
    assert list(budget["gpu_min"]) == [0.0, 1.5]
    assert list(budget["vram_mib"]) == [0, 512]
    assert budget["epoch"][0] == 1
    assert pd.isna(budget["epoch"][1])


@pytest.mark.parametrize("keep", [5, 30, 45])
def test_a_row_that_a_kill_cut_short_costs_only_itself(tmp_path, keep):
    root = Root.open(tmp_path, "demo")
    spend(root, minutes=1.0)
    whole = (tmp_path / "budget.csv").read_bytes()
    spend(root, minutes=2.0)
    (tmp_path / "budget.csv").write_bytes((tmp_path / "budget.csv").read_bytes()[: len(whole) + keep])
    assert list(root.budget()["minutes"]) == [1.0]
    spend(root, minutes=4.0)
    assert list(root.budget()["minutes"]) == [1.0, 4.0]


def _spend_often(path, count):
    for _ in range(count):
        spend(Root(path), minutes=1.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_runs_side_by_side_share_the_budget(tmp_path):
    workers = [multiprocessing.get_context("fork").Process(target=_spend_often, args=(tmp_path, 20)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert list(Root(tmp_path).budget()["minutes"]) == [1.0] * 80


def test_runs_are_those_with_a_configuration(tmp_path):
    root = Root.open(tmp_path, "demo")
    assert root.runs() == []
    for name in ("C-s0", "Base-s0"):
        write_json(root.run(name).path / "config.json", {"run": name})
    (tmp_path / "runs" / "stray").mkdir()
    assert [run.name for run in root.runs()] == ["Base-s0", "C-s0"]
    assert root.run("Base-s0").config == {"run": "Base-s0"}


def test_what_is_absent_says_which_call_makes_it(tmp_path):
    run = Root.open(tmp_path, "demo").run("Base-s0")
    assert run.status == {"state": "absent"}
    assert not run.finished
    with pytest.raises(SepkitError, match=r"no run 'Base-s0' under .*; train it first"):
        _ = run.config
    with pytest.raises(SepkitError, match=r"history\.csv is absent\); train it first"):
        run.history()
    with pytest.raises(SepkitError, match=r"scores\.csv is absent\); evaluate it first"):
        run.scores()


def test_status_and_tables_come_back_as_written(tmp_path):
    run = Root.open(tmp_path, "demo").run("Base-s0")
    run.write_status(state="finished", epochs=3)
    assert run.finished
    assert run.status["epochs"] == 3
    assert {"python", "torch", "numpy"} <= run.status["versions"].keys()
    assert "git_revision" in run.status
    write_csv(run.path / "history.csv", pd.DataFrame({"epoch": [1, 2], "valid_loss": [0.1 + 0.2, 1e-17]}))
    # pandas before 3 reads a float one unit in the last place beside
    assert list(run.history()["valid_loss"]) == pytest.approx([0.1 + 0.2, 1e-17], rel=1e-15, abs=0)
    rows = {**dict.fromkeys(SCORES.splitlines()[0].split(","), "x"), "track": ["007", "NA"], "value": [None, 2.0]}
    write_csv(run.scores_path, pd.DataFrame(rows))
    assert run.scores()["track"][0] == "007"
    assert run.scores()["value"].isna().tolist() == [True, False]


def test_the_profile_is_the_one_given_then_the_environments_then_demo(monkeypatch):
    assert get_profile().name == "demo"
    monkeypatch.setenv("SEPKIT_PROFILE", "preview")
    assert get_profile().name == "preview"
    assert get_profile("full").name == "full"
    assert get_profile(PROFILES["full"]) is PROFILES["full"]
    for wrong in ("Demo", "fulll"):
        with pytest.raises(UsageError, match=f"no profile '{wrong}'; expected one of demo, preview, full"):
            get_profile(wrong)
    monkeypatch.setenv("SEPKIT_PROFILE", "dem")
    with pytest.raises(UsageError, match="'dem'"):
        get_profile()


def test_the_full_profile_changes_nothing_of_the_plan():
    full = PROFILES["full"]
    assert (full.sample_rate, full.segment_s, full.epochs, full.learning_rate) == (44100, 6.0, None, None)
    assert (full.models, full.remix, full.as_planned) == ({}, 0.0, True)
    assert set(PROFILES) == {"demo", "preview", "full", "full-32k"}


def test_a_run_that_nobody_trains_is_stopped_not_running(tmp_path):
    run = Root(tmp_path).run("Base-s0")
    assert (run.state, run.standing) == ("absent", "is absent, not finished")
    run.write_status(state="running")
    with run.alone():
        assert (run.state, run.standing) == ("running", "is running, not finished")
    assert run.state == "stopped"  # as after a kill: the lock ended with its process
    assert run.standing == "was stopped after 0 epochs; the same call goes on"
    (run.path / LOCK).unlink()  # as on a fresh machine: Drive keeps no locks
    write_csv(run.path / "history.csv", pd.DataFrame({"epoch": [1, 2, 3]}))
    assert run.standing == "was stopped after 3 epochs; the same call goes on"
    run.write_status(state="failed")
    assert run.standing == "is failed, not finished"


def test_where_locks_can_not_tell_a_run_counts_as_running(tmp_path, monkeypatch):
    run = Root(tmp_path).run("Base-s0")
    run.write_status(state="running")
    (run.path / LOCK).touch()
    monkeypatch.setattr(parallel, "fcntl", None)
    assert run.state == "running"
