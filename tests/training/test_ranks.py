"""Two processes train as one does, end with one sentence, and go on as another number of them."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import active_children

import joblib
import numpy as np
import pytest

from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import MENU
from sepkit.storage import Root
from sepkit.storage.checkpoints import load_checkpoint
from sepkit.training.step import SeparationTask
from sepkit.training.train import train, train_many

# of losses and of the SDR in dB: sums in another order, 1e-6 in an epoch, grow with the steps
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def threads():
    with joblib.parallel_config("threading"):  # processes would import torch to cache five songs
        yield


@pytest.fixture(scope="module")
def where(make_mini, tiny, tmp_path_factory):
    """Three validation songs, which two ranks can't share equally; no dropout, whose draws are each rank's own."""
    models = {"openunmix-small": {**tiny.models["openunmix-small"], "dropout": 0.0}}
    profile = replace(tiny, batch_size=4, epochs=2, models={**tiny.models, **models})
    songs = make_mini(tmp_path_factory.mktemp("songs") / "songs", valid=3, rest_s=1.2)
    return {"profile": profile, "data": songs, "device": "cpu"}


def difference(run, other):
    columns = ["train_loss", "valid_loss", "valid_sdr", "learning_rate"]
    one, two = (load_checkpoint(it.last)["state_dict"] for it in (run, other))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-3, err_msg=name)
    assert run.finished and run.status["best_epoch"] == other.status["best_epoch"]
    return np.abs(run.history()[columns] - other.history()[columns]).max(axis=None)


class Killed(BaseException):
    """Ends a process as a kill does."""


def stop_in_epoch_2(self, batch, batch_idx, own=SeparationTask.training_step):
    if self.current_epoch == 1:
        raise Killed
    return own(self, batch, batch_idx)


@pytest.mark.long
def test_two_processes_give_the_metrics_of_one_and_go_on_with_its_run(where, tmp_path, monkeypatch, capfd):
    before = dict(os.environ)
    alone = train("Base", root=tmp_path / "1", **where)
    (run,) = train_many(["Base"], root=tmp_path / "2", devices=2, strategy="ddp_spawn", **where)
    out, err = capfd.readouterr()
    assert dict(os.environ) == before and out.count("epoch 2/2") == 2 and not err
    found = difference(run, alone)
    print(f"largest difference {found:.1e}")
    assert found < TOLERANCE
    assert list(run.history()["ranks"]) == [2, 2] and run.status["ranks"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(SeparationTask, "training_step", stop_in_epoch_2)
        with pytest.raises(Killed):
            train("Base", root=tmp_path / "3", **where)
    run = train("Base", root=tmp_path / "3", devices=2, **where)
    assert "Base-s0: begun on 1 device(s), goes on with 2" in capfd.readouterr().out
    assert list(run.history()["ranks"]) == [1, 2]
    assert difference(run, alone) < TOLERANCE
    assert train("Base", root=tmp_path / "3", devices=2, **where) == run  # a finished one starts no process


def test_what_devices_can_not_share_is_refused_before_any_work(where, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="Base has batches of 4 clips, which 3 devices can't share equally"):
        train("Base", root=tmp_path / "root", devices=3, **where)
    row = replace(MENU["Base"], name="own", curriculum=((0.5, 0.8),))
    with pytest.raises(UsageError, match="own has batches of 5 clips, which 2 devices"):
        train_many(["Base", row], root=tmp_path / "root", devices=2, **where)
    with pytest.raises(UsageError, match=r"0 devices were asked for, .*; give 1 to 1"):
        train("Base", root=tmp_path / "root", devices=0, **where)
    with pytest.raises(UsageError, match=r"a strategy of auto, ddp_spawn, .*, got 'fsdp'"):
        train("Base", root=tmp_path / "root", devices=2, strategy="fsdp", **where)
    with pytest.raises(UsageError, match="Expected num_nodes of 1 or more, got 0"):
        train("Base", root=tmp_path / "root", num_nodes=0, **where)
    for given in ({}, {"MASTER_ADDR": "host", "MASTER_PORT": "port"}, {"MASTER_ADDR": "host", "NODE_RANK": "2"}):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            with pytest.raises(UsageError, match=r"^2 nodes were asked for; set MASTER_ADDR .*NODE_RANK, below 2: see"):
                train("Base", root=tmp_path / "root", num_nodes=2, **where)
    for name, value in {"MASTER_ADDR": "host", "MASTER_PORT": "29500", "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="Base has batches of 4 clips, which 6 devices can't share equally"):
        train("Base", root=tmp_path / "root", devices=2, num_nodes=3, **where)
    monkeypatch.setenv("NODE_RANK", "first")
    with pytest.raises(UsageError, match="Expected NODE_RANK to be a number from 0, got 'first'"):
        train("Base", root=tmp_path / "root", num_nodes=2, **where)
    monkeypatch.delenv("NODE_RANK")
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        patch.setattr("torch.cuda.device_count", lambda: 1)
        with pytest.raises(UsageError, match="2 devices were asked for, but torch finds 1 here"):
            train("Base", root=tmp_path / "root", devices=2, **{**where, "device": "cuda"})
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(UsageError, match=r"A notebook trains on one device; for more, run `!python -m sepkit train"):
        train("Base", root=tmp_path / "root", devices=2, **where)
    assert not list(tmp_path.glob("root/*"))


SPOILT = """
from sepkit.errors import SepkitError
from sepkit.training.step import SeparationTask

class Spoilt(SeparationTask):
    def judge(self, batch):
        if self.global_rank == 1:
            raise SepkitError("a song of this rank is spoilt")
        return super().judge(batch)
"""


@pytest.mark.long
def test_an_error_of_a_rank_and_its_kill_are_a_sentence(where, tmp_path, monkeypatch, capfd):
    (tmp_path / "spoilt.py").write_text(SPOILT)
    monkeypatch.syspath_prepend(tmp_path)
    from spoilt import Spoilt

    with monkeypatch.context() as patch:
        patch.setattr("sepkit.training.fit.SeparationTask", Spoilt)
        with pytest.raises(SepkitError, match=r"^a song of this rank is spoilt$"):
            train("Base", root=tmp_path / "root", devices=2, **where)
    err = capfd.readouterr().err
    assert "Traceback" not in err, err

    others = {child.pid for child in active_children()}  # that earlier tests left

    def kill():
        while len(ranks := [child.pid for child in active_children() if child.pid not in others]) < 2:
            time.sleep(0.1)
        os.kill(ranks[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(
        SepkitError, match=r"Base-s0: rank . ended \(process . terminated with signal SIGKILL\); the same call"
    ):
        train("Base", root=tmp_path / "root", devices=2, **where)


NODE = """
import pickle, sys
import joblib
from sepkit.errors import SepkitError
from sepkit.training.train import train_many

with open(sys.argv[1], "rb") as file, joblib.parallel_config("threading"):
    try:
        runs = train_many(["Base", "E"], num_nodes=2, **pickle.load(file))
        print([run.status["ranks"] for run in runs if run.finished])
    except SepkitError as error:
        print(error)
"""


@contextmanager
def two_nodes(tmp_path, **where):
    """Two processes that take each other for machines; what they say comes into 0.txt and 1.txt."""
    (tmp_path / "where").write_bytes(pickle.dumps({"root": tmp_path / "nodes", **where}))
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", NODE, str(tmp_path / "where")]
    nodes = []
    for rank in (0, 1):
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)}
        with (tmp_path / f"{rank}.txt").open("w") as file:
            nodes.append(subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT))
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()
            node.wait()


def said_by(node, rank, tmp_path):
    """All lines of a node, once it has ended."""
    node.wait(120)
    return (tmp_path / f"{rank}.txt").read_text().splitlines()


def wait_for(epochs, run, nodes):
    while not (run.path / "history.csv").exists() or len(run.history()) < epochs:
        assert nodes[0].poll() is None
        time.sleep(0.1)


@pytest.mark.long
def test_two_machines_give_the_metrics_of_one_and_only_node_0_writes(where, tmp_path):
    alone = train_many(["Base", "E"], root=tmp_path / "1", **where)
    with two_nodes(tmp_path, **where) as nodes:
        said = [said_by(node, rank, tmp_path) for rank, node in enumerate(nodes)]
    assert [node.returncode for node in nodes] == [0, 0] and said[0][-1] == said[1][-1] == "[2, 2]", said
    assert len([line for line in said[0] if "epoch 2/2" in line]) == 2
    assert not [line for line in said[1] if "epoch 1" in line or "Warning" in line]
    for run, other in zip(alone, (Root.at(tmp_path / "nodes").run(run.name) for run in alone), strict=True):
        assert difference(other, run) < TOLERANCE
        assert len(other.history()) == 2


@pytest.mark.long
def test_a_machine_that_is_killed_is_a_sentence_on_the_other_and_the_same_call_goes_on(where, tmp_path):
    where = {**where, "profile": replace(where["profile"], epochs=50)}
    run = Root.at(tmp_path / "nodes").run("Base-s0")
    with two_nodes(tmp_path, **where) as nodes:
        wait_for(2, run, nodes)
        nodes[1].kill()
        last = said_by(nodes[0], 0, tmp_path)[-1]
    assert last.startswith("Base-s0: rank 0 ended (") and last.endswith("; the same call goes on, on all nodes."), last
    done = len(run.history())
    with two_nodes(tmp_path, **where) as nodes:
        wait_for(done + 2, run, nodes)
        nodes[0].kill()
        last = said_by(nodes[1], 1, tmp_path)[-1]
    assert last.startswith("Base-s0: rank 0 ended (") and last.endswith("; the same call goes on, on all nodes."), last
    assert list(run.history()["epoch"]) == list(range(1, len(run.history()) + 1))
