"""Work on a dask cluster gives the bytes of work on this machine, also where a worker is killed."""

import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sepkit import parallel
from sepkit.commands.grid import grid
from sepkit.errors import SepkitError
from sepkit.evaluation.scoring import evaluate_many
from sepkit.parallel import on_cluster
from sepkit.storage import Root

FILES, RUNS = ("scores.csv", "frames.csv"), ("Base-s0", "mixture", "oracle")


@pytest.fixture(scope="module")
def cluster():
    """Two workers, processes with two threads each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def where(mini_songs, tiny):
    return {"profile": tiny, "data": mini_songs, "device": "cpu"}


def written(root, *runs):
    return [(root.run(run).path / name).read_bytes() for run in runs for name in FILES]


@pytest.mark.long
def test_a_grid_on_a_cluster_writes_the_same_scores(cluster, where, make_root, scored_root, monkeypatch):
    root = make_root()
    monkeypatch.setenv("SEPKIT_CLUSTER", cluster.scheduler_address)
    table = grid(["Base"], seeds=[0, 1], root=root, **where)
    assert list(table["run"]) == ["Base-s0", "Base-s1"]
    assert written(root, "Base-s0") == written(scored_root, "Base-s0")
    history = ["epoch", "train_loss", "valid_loss", "valid_sdr"]
    assert root.run("Base-s0").history()[history].equals(scored_root.run("Base-s0").history()[history])
    assert set(root.budget()["run"]) >= {"Base-s0", "Base-s1"}  # workers book their minutes


def kill_a_worker(cluster, when):
    """From a thread: kill -9 of a worker at work, once `when()` is true; the thread, and the list of those killed."""
    killed: list[int] = []

    def kill():
        from distributed import Client

        with Client(cluster.scheduler_address, set_as_default=False) as client:
            while not when():
                time.sleep(0.02)
            while not (busy := [name for name, tasks in client.processing().items() if tasks]):
                time.sleep(0.02)
            (pid,) = client.run(os.getpid, workers=busy[:1]).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread, killed


@pytest.mark.long
def test_a_killed_worker_costs_no_run_and_no_score(cluster, where, make_root, make_mini, tmp_path):
    """Once while it trains, once while it scores."""
    where["data"] = make_mini(tmp_path / "songs", test=8, rest_s=1.2)
    where["profile"] = replace(where["profile"], epochs=4, steps_per_epoch=8)
    here, away = Root.open(tmp_path / "here", "demo"), Root.open(tmp_path / "away", "demo")
    names, runs = ["Base", "E"], ["Base-s0", "E-s0"]
    grid(names, root=here, n_jobs=1, **where)
    trains = lambda: any(away.run(run).last.exists() for run in runs)  # noqa: E731
    scores = lambda: any(away.run(run).path.joinpath("scores.part.jsonl").exists() for run in runs)  # noqa: E731
    threads = [kill_a_worker(cluster, when) for when in (trains, scores)]
    grid(names, root=away, cluster=cluster.scheduler_address, **where)
    for thread, killed in threads:
        thread.join(timeout=60)
        assert len(killed) == 1
    assert written(away, *runs) == written(here, *runs)


@pytest.mark.long
def test_a_worker_that_does_not_see_the_same_folder_is_refused(cluster, tmp_path):
    address = cluster.scheduler_address
    with on_cluster(address, tmp_path, None) as away:
        assert away and not list(tmp_path.iterdir())
    said = r"The worker tcp\S+ does not see the same /proc/self/task \(\d+ of \d+ entries are not there\); all workers need"
    folder = Path("/proc/self/task")  # each process has its own
    with pytest.raises(SepkitError, match=said), on_cluster(address, folder):
        pass


def test_a_cluster_of_threads_writes_the_same_scores(where, scored_root, tmp_path):
    distributed = pytest.importorskip("distributed")
    shutil.copytree(scored_root.path, tmp_path / "root")
    root = Root.open(tmp_path / "root")
    for run in RUNS:
        for file in FILES:
            (root.run(run).path / file).unlink()
    with distributed.LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as local:
        evaluate_many(RUNS, root=root, data=where["data"], device="cpu", cluster=local.scheduler_address)
    assert written(root, *RUNS) == written(scored_root, *RUNS)


def test_without_dask_or_a_cluster_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr(parallel, "CLUSTER_S", 1)
    said = r"No dask cluster with a worker answers at tcp://127\.0\.0\.1:9 \(.*\); start it first"
    with pytest.raises(SepkitError, match=said), on_cluster("tcp://127.0.0.1:9"):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    said = r"needs dask, which is not here: pip install 'dask\[distributed\]'"
    with pytest.raises(SepkitError, match=said), on_cluster("tcp://127.0.0.1:9"):
        pass
