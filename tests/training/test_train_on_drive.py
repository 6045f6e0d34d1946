"""What is on Drive while a run is trained and scored, and which copy a run goes on from."""

import importlib
import json
import threading

import joblib
import pytest
import torch

from sepkit.evaluation import scoring
from sepkit.storage import Root, copying
from sepkit.storage.drive import pull, push
from sepkit.training.epochs import BestAndLast

train_module = importlib.import_module("sepkit.training.train")
fit_module = importlib.import_module("sepkit.training.fit")


class Killed(BaseException):
    """Ends a run as a kill does, as far as one process can."""


@pytest.fixture
def drive(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "drive"))
    return tmp_path / "drive"


@pytest.fixture
def start(mini_songs, tiny, monkeypatch):
    """Trains Base on the CPU in `root`, killed after `until` epochs."""

    def call(root, until=9):
        real = BestAndLast.on_train_epoch_end

        def end(keeper, trainer, module):
            real(keeper, trainer, module)
            if trainer.current_epoch + 1 == until:
                raise Killed

        with monkeypatch.context() as patched, joblib.parallel_config("threading"):
            patched.setattr(BestAndLast, "on_train_epoch_end", end)
            return train_module.train("Base", profile=tiny, data=mini_songs, device="cpu", root=root)

    return call


def weights(folder):
    return torch.load(folder / "runs/Base-s0/last.ckpt", weights_only=True)["state_dict"]


def state(folder):
    return json.loads((folder / "runs/Base-s0/status.json").read_text())["state"]


def test_an_older_root_goes_on_from_the_copy_that_is_further(make_root, drive, start, trained_root, capsys):
    """S65: to epoch 1 here, to 3 elsewhere, then here again; the end is that of an undisturbed run."""
    here, elsewhere = make_root(), make_root()
    for root, until in ((here, 1), (elsewhere, 3)):
        with pytest.raises(Killed):
            start(root, until)
    capsys.readouterr()
    start(here)
    said = capsys.readouterr().out
    assert "from Drive" in said
    assert "epoch 4/4" in said
    assert "epoch 2/4" not in said
    straight = weights(trained_root.path)
    for folder in (here.path, drive):
        assert state(folder) == "finished"
        assert all(torch.equal(straight[name], tensor) for name, tensor in weights(folder).items())
    epochs = Root(drive).budget()["epoch"].dropna()
    assert sorted(set(epochs)) == [1, 2, 3, 4]


def test_finished_is_on_drive_before_it_is_said_and_scores_as_they_come(
    make_root, drive, start, mini_songs, monkeypatch, capsys
):
    root, held = make_root(), []
    real = print

    def say(*words, **options):
        if "all epochs done" in str(words[0]):
            held.append(state(drive))
        real(*words, **options)

    monkeypatch.setattr(fit_module, "print", say, raising=False)
    run = start(root)
    assert held == ["finished"]
    assert len(list(drive.glob("cache/*/*.h5"))) == len(list(root.path.glob("cache/*/*.h5"))) > 0
    pushed, push_ = [], scoring.drive.push
    journal = drive / "runs/Base-s0/scores.part.jsonl"

    def pushing(*arguments, **options):
        synced = push_(*arguments, **options)
        pushed.append(journal.exists())
        return synced

    monkeypatch.setattr(scoring.drive, "push", pushing)
    table = scoring.evaluate(run, data=mini_songs, device="cpu", n_jobs=1)
    assert pushed[0]  # the song's scores, before the tables are written
    assert not journal.exists()
    assert (drive / "runs/Base-s0/scores.csv").read_bytes() == run.scores_path.read_bytes()
    assert "evaluate test" in set(Root(drive).budget()["stage"])
    monkeypatch.setattr(scoring, "score_songs", None)  # a fresh runtime scores nothing again
    fresh = Root.open(root.path.with_name("fresh"), "demo")
    pull(fresh, only="cache")
    again = scoring.evaluate(fresh.run("Base-s0"), data=mini_songs, device="cpu", n_jobs=1)
    assert again.equals(table)
    capsys.readouterr()


def test_a_hanging_drive_blocks_no_epoch(make_root, drive, start, trained_root, monkeypatch, capsys):
    """It costs one time limit, and each epoch says that it is not on Drive."""
    root, never = make_root(), threading.Event()
    push(root, only="budget.csv")
    monkeypatch.setattr(copying, "ANSWER_S", 0.2)
    within, waits = copying.within, []

    def hang(seconds, call, *arguments, mount="Drive"):
        waits.append(call)
        return within(seconds, never.wait, mount=mount)

    monkeypatch.setattr(copying, "within", hang)
    try:
        start(root)
    finally:
        never.set()
        for thread in copying._stuck.pop("Drive", []):
            thread.join()
    said = capsys.readouterr().out
    assert said.count("Drive does not answer") >= 4
    assert "all epochs done" in said
    straight = weights(trained_root.path)
    assert all(torch.equal(straight[name], tensor) for name, tensor in weights(root.path).items())
    monkeypatch.undo()
    assert push(root, drive).safe
    assert state(drive) == "finished"
