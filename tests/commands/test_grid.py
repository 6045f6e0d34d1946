"""Experiments × seeds × folds: one table, scores out of fold, and a kill that costs nothing but time."""

import contextlib
import fcntl
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from sepkit.commands.grid import grid, out_of_fold
from sepkit.errors import UsageError
from sepkit.evaluation.statistics import compare_scores
from sepkit.experiments import MENU
from sepkit.storage import write_json
from sepkit.storage.checkpoints import load_checkpoint
from sepkit.training.plan import equal_epochs
from sepkit.training.train import train, train_many

FOLDS = (0, 1, 2)


@pytest.fixture
def where(mini_songs, root, tiny):
    return {"profile": replace(tiny, epochs=1), "data": mini_songs, "root": root, "device": "cpu"}


@pytest.fixture(scope="module")
def done(mini_songs, make_root, tiny):
    """Where Base and E are trained and scored, whole and in three folds; what `grid` printed and returned."""
    where = {"profile": replace(tiny, epochs=1), "data": mini_songs, "root": make_root(), "device": "cpu"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        table = grid(["Base", "E"], folds=[None, *FOLDS], n_jobs=1, **where)
    return where, table, printed.getvalue().splitlines()


def test_a_grid_is_a_row_a_run_and_one_for_all_folds(done, capsys):
    where, table, lines = done
    runs = [f"{name}-s0{fold}" for name in ("Base", "E") for fold in ("", "-f0", "-f1", "-f2")]
    assert list(table["run"]) == [*runs, "Base-s0 folds", "E-s0 folds"]
    assert list(table["songs"]) == list(table["epochs"]) == [1] * 8 + [3, 3]
    trained = [line.split()[:3] for line in lines if line.startswith("train")]
    assert trained == [["train", f"{number}/8", run] for number, run in enumerate(runs, 1)]
    assert len([line for line in lines if line.startswith("score")]) == 4  # a song each, for both experiments
    folds = [where["root"].run(f"Base-s0-f{fold}").scores() for fold in FOLDS]
    values = [scores.query("metric == 'sdr_global' and source == 'vocals'")["value"].item() for scores in folds]
    assert table["sdr_global"][8] == pytest.approx(sorted(values)[1])
    again = grid(["Base", "E"], folds=[None, *FOLDS], n_jobs=1, **where)
    assert again.equals(table)
    assert "score" not in capsys.readouterr().out


def test_wrong_calls_are_refused(where):
    for call in ({"experiments": ["Bass"]}, {"experiments": []}, {"experiments": ["Base"], "seeds": []}):
        with pytest.raises(UsageError):
            grid(**call, **where)
    assert not list(where["root"].path.glob("runs/*"))


@pytest.mark.parametrize("name", ["F", "B-wiener"])
def test_a_fold_starts_from_the_run_of_the_same_fold(where, root, name):
    """No run starts from weights that have seen the songs that it is scored on."""
    runs = train_many([name], folds=FOLDS, n_jobs=1, **where)
    assert [run.name for run in runs] == [f"{name}-s0-f{fold}" for fold in FOLDS]
    tests = [run.config["data"]["test"] for run in runs]
    assert sorted(song for songs in tests for song in songs) == ["A0 - Train", "A1 - Train", "V0 - Valid"]
    for fold, run in enumerate(runs):
        start = root.run_of(run.config["start_from"] or run.config["weights_of"], fold=fold)
        assert start.finished
        assert start.config["data"]["test"] == tests[fold]


def test_scores_out_of_fold_are_one_table_that_compares(done):
    tables = [out_of_fold(name, n_jobs=1, **done[0]) for name in ("Base", "E")]
    for table in tables:
        songs = table.query("metric == 'sdr_global' and source == 'vocals'")
        assert sorted(songs["track"]) == ["A0 - Train", "A1 - Train", "V0 - Valid"]
        assert sorted(songs["fold"]) == list(FOLDS)
    comparison = compare_scores(tables[1], tables[0], metric="sdr_global")
    assert (comparison.n, comparison.run, comparison.base) == (3, "E", "Base")


def test_a_line_names_weights_that_come_from_training_on_the_songs_of_a_fold(where, root, monkeypatch, capsys):
    run = train("Base", fold=0, **where)
    write_json(run.path / "config.json", {**run.config, "start_from": "umxhq"})
    monkeypatch.setattr("sepkit.training.train.train_many", lambda *rows, **options: [run])
    out_of_fold("Base", n_jobs=1, **where)
    assert "umxhq's weights come from training on these songs" in capsys.readouterr().out


def test_a_run_that_another_process_trains_is_waited_for(where, root, capsys):
    run = train("Base", **where)
    file = (run.path / ".lock").open("a")
    fcntl.flock(file, fcntl.LOCK_EX)
    threading.Timer(0.3, file.close).start()
    start = time.perf_counter()
    with run.alone():
        assert time.perf_counter() - start > 0.2
    with run.alone():
        pass
    out = capsys.readouterr().out
    assert out.count("Base-s0 is being trained by another process; waiting for it") == 1


KILLED = """
import pickle, sys
from sepkit.commands.grid import grid
grid(["Base", "E"], n_jobs=2, **pickle.loads(bytes.fromhex(sys.argv[1])))
"""


@pytest.mark.long
def test_a_killed_grid_leaves_no_worker_behind_and_resumes(where, root, make_root, tiny):
    """kill -9 of the caller alone, while two workers train; then the same call."""
    where["profile"] = replace(tiny, epochs=4, steps_per_epoch=8)
    caller = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", KILLED, pickle.dumps({**where, "root": root.path}).hex()],
        env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )
    runs = [root.run(f"{name}-s0") for name in ("Base", "E")]
    while not all(run.last.exists() for run in runs):
        assert caller.poll() is None
        time.sleep(0.02)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    assert not all(run.finished for run in runs)
    time.sleep(1.5)
    kept = [(run.path / "history.csv").stat().st_mtime_ns for run in runs]
    time.sleep(0.5)
    assert [(run.path / "history.csv").stat().st_mtime_ns for run in runs] == kept
    table = grid(["Base", "E"], n_jobs=1, **where)
    assert list(table["run"]) == ["Base-s0", "E-s0"]
    whole = train_many(["Base", "E"], n_jobs=1, **{**where, "root": make_root()})
    for run, other in zip(runs, whole, strict=True):
        assert run.history()["valid_sdr"].equals(other.history()["valid_sdr"])
        one, two = (load_checkpoint(it.best)["state_dict"] for it in (run, other))
        assert all((one[key] == two[key]).all() for key in one)


def test_equal_minutes_give_each_experiment_whole_epochs_that_fit(where, root):
    wide = replace(MENU["Base"], name="wide", model={"name": "openunmix-small", "hidden_size": 256})
    table = equal_epochs(["Base", wide, "E"], minutes=0.1, **where).set_index("experiment")
    assert list(table.index) == ["Base", "wide", "E"]
    assert table["epochs"]["wide"] < table["epochs"]["Base"]
    assert (table["epochs"] >= 1).all()
    assert (table["epochs"] * table["epoch_s"] <= 6.5).all()
    assert ((table["epochs"] + 1) * table["epoch_s"] > 5.5).all()
    assert sorted(path.name for path in root.path.iterdir()) == ["budget.csv", "cache"]
    assert set(root.budget()["stage"]) <= {"plan", "cache"}
    for minutes in (0, -1, float("nan"), 1e-5):
        with pytest.raises(UsageError, match="minutes"):
            equal_epochs(["Base"], minutes=minutes, **where)
