"""Two processes train as one does, end with one sentence, and go on as another number of them."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing import active_children

import joblib
import numpy as np
import pytest

from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import MENU
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
    with pytest.raises(UsageError, match=r"One run trains on one machine, got num_nodes 2; see docs/cluster.md"):
        train("Base", root=tmp_path / "root", num_nodes=2, **where)
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
    assert "Traceback" not in capfd.readouterr().err

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
