"""A run repeats bit for bit, goes on where it was, and stops with a sentence where it must."""

import importlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import soundfile as sf
import torch

from sepkit import models, parallel
from sepkit.data.batches import FixedClips, training_loader
from sepkit.errors import OutOfTime, SepkitError, UsageError
from sepkit.evaluation.metrics import sdr_global
from sepkit.experiments import MENU
from sepkit.storage import drive, hours_left, ledger, write_json
from sepkit.storage.checkpoints import load_model
from sepkit.training import epochs, losses
from sepkit.training.epochs import AtomicCheckpointIO
from sepkit.training.losses import make_loss
from sepkit.training.step import SeparationTask, clip_sdr

train_module = importlib.import_module("sepkit.training.train")  # the package may export a function so named
train = train_module.train
fit_module = importlib.import_module("sepkit.training.fit")


NARROW_MODELS = {
    "openunmix-small": {"hidden_size": 16},
    "openunmix-complex": {"hidden_size": 16},
    "tfc-tdf": {"n_fft": 1024, "hop_length": 256, "bins": 256, "features": 4, "growth": 4, "scales": 2},
}


class Killed(BaseException):
    """Ends a run as a kill does, as far as one process can."""


@pytest.fixture(scope="module")
def start(mini_songs, tiny):
    """Trains Base on the CPU in `root`; keywords replace those of `train`."""

    def call(root, experiment="Base", **options):
        with joblib.parallel_config("threading"):  # processes would import torch to cache three songs
            return train(experiment, **{"profile": tiny, "data": mini_songs, "device": "cpu", **options}, root=root)

    return call


@pytest.fixture(scope="module")
def straight(trained_root):
    """The run that all others are compared with: four epochs without a break; not to be changed."""
    return trained_root.run("Base-s0")


def load(path):
    """As a torch would that has seen neither sepkit nor Lightning, which register classes as safe."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        return torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(registered)


def epochs_booked(root):
    """The epochs whose minutes are in the ledger."""
    return sorted(set(root.budget()["epoch"].dropna()))


def same(one, other):
    """Equality to the last bit of nested dictionaries, lists and tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_same_run(run, other):
    for name in ("best.ckpt", "last.ckpt"):
        one, two = load(run.path / name), load(other.path / name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert same(one[part], two[part]), (name, part)
    columns = ["epoch", "train_loss", "valid_loss", "valid_sdr", "learning_rate"]
    assert run.history()[columns].equals(other.history()[columns])
    assert run.status["best_epoch"] == other.status["best_epoch"]
    assert run.finished


def end_in_epoch(monkeypatch, epoch, error=Killed):
    """The run ends with `error` in the first step of `epoch` (from 1)."""
    step = SeparationTask.training_step

    def training_step(self, batch, batch_idx):
        if self.current_epoch + 1 == epoch:
            raise error
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SeparationTask, "training_step", training_step)


def scripted_validation(monkeypatch, sdrs):
    """The criterion of each epoch, whatever the network does; the loss says the opposite."""

    def validation_step(self, batch, batch_idx):
        value = torch.tensor([sdrs[self.current_epoch]])
        self.valid_losses.append(value[0])
        self.valid_sdrs.append(value)

    monkeypatch.setattr(SeparationTask, "validation_step", validation_step)


def test_a_run_leaves_what_the_contract_says(straight, tiny):
    assert sorted(file.name for file in straight.path.iterdir()) == [
        ".lock",
        "best.ckpt",
        "config.json",
        "history.csv",
        "last.ckpt",
        "previous.ckpt",
        "status.json",
    ]
    history = straight.history()
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert np.isfinite(history[["train_loss", "valid_loss", "valid_sdr"]]).all(axis=None)
    cosine = tiny.learning_rate * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(history["learning_rate"], cosine)
    status = straight.status
    assert (status["state"], status["epochs"], status["stopped"]) == ("finished", 4, "all epochs done")
    assert status["best_epoch"] == int(history["valid_sdr"].argmax()) + 1
    assert status["best_sdr"] == pytest.approx(history["valid_sdr"].max(), abs=1e-3)
    assert 0 < history["cpu_seconds"].sum() / 60 == pytest.approx(status["cpu_min"], abs=1e-3)
    assert status["device"] == "cpu"
    assert status["gpu_min"] == 0 or torch.cuda.is_available()
    assert status["last_learning_rate"] == pytest.approx(cosine[-1])
    config = straight.config
    assert config["data"]["train"] == ["A0 - Train", "A1 - Train"]
    assert config["data"]["valid"] == ["V0 - Valid"]
    assert models.build(**config["model"])
    assert epochs_booked(straight.root) == [1, 2, 3, 4]


def test_checkpoints_hold_tensors_and_plain_values_alone(straight):
    """S31: they load with weights_only=True in a plain torch."""

    def leaves(value):
        if isinstance(value, dict):
            for key, child in value.items():
                yield key
                yield from leaves(child)
        elif isinstance(value, (list, tuple)):
            for child in value:
                yield from leaves(child)
        else:
            yield value

    for name in ("best.ckpt", "last.ckpt", "previous.ckpt"):
        kinds = {type(leaf) for leaf in leaves(load(straight.path / name))}
        assert kinds <= {str, int, float, bool, type(None), torch.Tensor}
    assert load(straight.path / "previous.ckpt")["epoch"] == 2


def test_the_best_checkpoint_is_that_of_the_highest_sdr(start, root, tiny, monkeypatch):
    scripted_validation(monkeypatch, [0.5, 0.7, 0.6, 0.7])
    run = start(root)
    assert load(run.best)["epoch"] == 1
    assert run.status["best_epoch"] == 2
    assert not load_model(run).training


def test_the_criterion_is_the_mean_sdr_of_the_vocals_over_clips(cache, straight, tiny):
    """The last epoch's figure, by another way: the model's own waveform and sepkit's metric."""
    model, sdrs = load_model(straight, "last"), []
    for clip in FixedClips(cache, seconds=tiny.segment_s, count=1, names=["V0 - Valid"]):
        with torch.no_grad():
            estimate = model(clip["mixture"][None])[0, 0]
        sdrs.append(sdr_global(estimate=estimate.numpy(), target=clip["sources"][0].numpy()))
    # the model pads a clip's end, where frames overlap by half
    assert straight.history()["valid_sdr"].iloc[-1] == pytest.approx(np.mean(sdrs), abs=1e-3)


def test_the_sdr_of_clips_is_bounded_and_skips_what_is_not_heard():
    tone = torch.sin(torch.arange(4000) / 10).expand(1, 2, -1)
    target = torch.stack([tone, 1e-2 * tone, 1e-4 * tone, 0 * tone, tone, tone])
    estimate = torch.stack([0.9 * tone, tone, tone, tone, tone, 0 * tone])
    sdr = clip_sdr(estimate=estimate, target=target, mixture=torch.stack([tone[0]] * 6))
    torch.testing.assert_close(sdr, torch.tensor([20.0, -10.0, 100.0, 0.0]))
    magnitudes = torch.rand(6, 1, 2, 5, 7)  # of a stft cache
    sdr = clip_sdr(estimate=0.9 * magnitudes, target=magnitudes, mixture=magnitudes[:, 0])
    torch.testing.assert_close(sdr, torch.full((6,), 20.0))


def test_validation_songs_without_a_voice_are_refused(start, root, tiny, monkeypatch):
    monkeypatch.setattr("sepkit.training.fit.FixedClips.__getitem__", lambda self, index: {
        "mixture": torch.ones(2, 11025), "sources": torch.stack([torch.zeros(2, 11025), torch.ones(2, 11025)]),
        "track": "calm",
    })  # fmt: skip
    with pytest.raises(SepkitError, match="No validation clip has a target that can be heard"):
        start(root)


def test_the_same_seed_gives_the_same_bits(start, straight, root):
    torch.manual_seed(99)  # the caller's state is nothing to a run
    assert_same_run(start(root), straight)


def test_another_seed_gives_another_run(start, straight, root, tiny):
    other = start(root, seed=1, profile=replace(tiny, epochs=1))
    assert other.name == "Base-s1"
    assert other.history()["train_loss"][0] != straight.history()["train_loss"][0]
    one, two = (load(run.last)["state_dict"]["model.core.fc1.weight"] for run in (other, straight))
    assert not torch.equal(one, two)


def test_the_callers_random_state_is_put_back(start, root, tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    threads = torch.get_num_threads()
    start(root, profile=replace(tiny, epochs=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_a_finished_run_is_returned_untouched(start, straight, tmp_path, capsys):
    before = {file: file.stat().st_mtime_ns for file in straight.root.path.rglob("*") if file.is_file()}
    capsys.readouterr()
    again = start(straight.root, data=tmp_path / "the songs may be gone")
    assert again == straight
    assert {file: file.stat().st_mtime_ns for file in straight.root.path.rglob("*") if file.is_file()} == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_under_the_same_name_are_refused(start, straight, root, tiny, finished):
    if not finished:
        shutil.copytree(straight.path, root.path / "runs" / "Base-s0")
        root.run("Base-s0").write_status(state="running")
    place = straight.root if finished else root
    with pytest.raises(SepkitError, match=r"Base-s0 under .* made with model\.hidden_size = 16, but 32 is asked for"):
        start(place, profile=replace(tiny, models={"openunmix-small": {"hidden_size": 32}}))


KILLED = """
import os, pickle, signal, sys, time
from sepkit.storage import ledger
from sepkit.training.step import SeparationTask
from sepkit.training.train import train

ledger.BOOK_EVERY_S = 0.05
step = SeparationTask.training_step

def training_step(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (2, 1):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

SeparationTask.training_step = training_step
profile, data, root = pickle.loads(bytes.fromhex(sys.argv[1]))
train("Base", profile=profile, data=data, root=root, device="cpu")
"""


@pytest.mark.long
@pytest.mark.long
def test_two_epochs_a_kill_and_two_more_are_four(start, straight, root, tiny, mini_songs):
    """S33, by kill -9 in the middle of the third epoch; the budget keeps what died."""
    argument = pickle.dumps((tiny, mini_songs, root.path)).hex()
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, argument],
        env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert answer.returncode == -signal.SIGKILL
    run = root.run("Base-s0")
    assert run.status["state"] == "running"
    assert list(run.history()["epoch"]) == [1, 2]
    spent = root.budget().groupby("epoch")["minutes"].sum()
    assert list(spent.index) == [1, 2, 3]
    assert spent[3] >= 0.2 / 60  # the third, which the kill ended
    assert_same_run(start(root), straight)
    assert epochs_booked(root) == [1, 2, 3, 4]


def test_a_curriculum_goes_on_from_any_epoch(start, make_root, tiny, monkeypatch):
    row = replace(MENU["Base"], curriculum=((0.5, 0.5),))
    whole = start(make_root(), row)
    assert whole.config["training"]["curriculum"] == [[2, 0.25]]
    for epoch in (2, 3, 4):
        root = make_root()
        with monkeypatch.context() as patch:
            end_in_epoch(patch, epoch)
            with pytest.raises(Killed):
                start(root, row)
        assert_same_run(start(root, row), whole)
    short = replace(tiny, segment_s=0.25, batch_size=4)  # what its first two epochs are
    first = start(make_root(), profile=short).history()["train_loss"][0]
    assert first == pytest.approx(whole.history()["train_loss"][0], rel=0.02)


def test_a_checkpoint_of_other_parameters_is_a_sentence(start, root, monkeypatch):
    """As of a run that was begun when openunmix's input mean was still trained."""
    with monkeypatch.context() as patch:
        end_in_epoch(patch, 2)
        with pytest.raises(Killed):
            start(root)
    run = root.run("Base-s0")
    checkpoint = load(run.last)
    checkpoint["optimizer_states"][0]["param_groups"][0]["params"].append(99)
    torch.save(checkpoint, run.last)
    with pytest.raises(SepkitError, match=r"^Expected a checkpoint that trains 28 tensors, found 29: another version"):
        start(root)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("curriculum", [(), ((0.5, 0.5),)])
def test_workers_draw_a_resumed_epochs_clips_from_its_first_batch_on(start, make_root, tiny, monkeypatch, curriculum):
    """Workers start drawing when the loader is opened, before Lightning tells it the epoch."""
    row = replace(MENU["Base"], curriculum=curriculum)
    whole, root = start(make_root(), row), make_root()
    loader = partial(training_loader, workers=2)
    monkeypatch.setattr("sepkit.training.fit.training_loader", lambda clips, workers, **of: loader(clips, **of))
    with monkeypatch.context() as patch:
        end_in_epoch(patch, 4)
        with pytest.raises(Killed):
            start(root, row)
    assert_same_run(start(root, row), whole)


def test_averaged_weights_are_validated_kept_and_resumed(start, root, make_root, tiny, cache, monkeypatch):
    row = replace(MENU["Base"], ema=0.9)
    whole = start(make_root(), row)
    with monkeypatch.context() as patch:
        end_in_epoch(patch, 3)
        with pytest.raises(Killed):
            start(root, row)
    run = start(root, row)
    assert_same_run(run, whole)
    one, two = load(run.last), load(whole.last)
    for part in ("current_model_state", "averaging_state"):
        assert same(one[part], two[part])
    assert not same(one["current_model_state"], one["state_dict"])
    model = load_model(run, "last")
    (clip,) = FixedClips(cache, seconds=tiny.segment_s, count=1, names=["V0 - Valid"])
    with torch.no_grad():
        estimate = model(clip["mixture"][None])[0, 0]
    sdr = sdr_global(estimate=estimate.numpy(), target=clip["sources"][0].numpy())
    assert run.history()["valid_sdr"].iloc[-1] == pytest.approx(sdr, abs=1e-3)


def test_the_average_of_two_steps(start, root, tiny, monkeypatch):
    """The first step's weights, then (after one step) 1 − 2/11 of the way to the second's."""
    weights, step = [], SeparationTask.training_step

    def training_step(self, batch, batch_idx):
        weights.append(self.model.core.fc1.weight.detach().clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SeparationTask, "training_step", training_step)
    run = start(root, replace(MENU["Base"], ema=0.9), profile=replace(tiny, epochs=1))
    name, last = "model.core.fc1.weight", load(run.last)
    first, second = weights[1], last["current_model_state"][name]
    torch.testing.assert_close(last["state_dict"][name], first + 9 / 11 * (second - first))


def test_a_run_that_dies_before_its_first_checkpoint_starts_again(start, straight, root, monkeypatch):
    with monkeypatch.context() as patch:
        end_in_epoch(patch, 1)
        with pytest.raises(Killed):
            start(root)
    assert not root.run("Base-s0").last.exists()
    assert_same_run(start(root), straight)


@pytest.mark.parametrize("when", ["before best", "before last", "between the renames"])
def test_a_death_while_an_epoch_is_written_down_repeats_that_epoch(start, straight, root, monkeypatch, when):
    save = AtomicCheckpointIO.save_checkpoint

    def die(self, checkpoint, path, storage_options=None):
        if checkpoint["epoch"] == 2 and (when == "before best" or path.name == "last.ckpt"):
            if when == "between the renames":
                path.replace(path.with_name("previous.ckpt"))
            raise Killed
        save(self, checkpoint, path, storage_options)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", die)
        with pytest.raises(Killed):
            start(root)
    assert list(root.run("Base-s0").history()["epoch"]) == [1, 2, 3]  # the third row is written again
    assert_same_run(start(root), straight)


def test_a_death_between_the_last_epoch_and_the_word_finished_trains_no_more(start, straight, root):
    shutil.copytree(straight.path, root.path / "runs" / "Base-s0")
    root.run("Base-s0").write_status(state="running")
    assert_same_run(start(root), straight)
    assert epochs_booked(root) == []


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_cut_off_checkpoint_falls_back_to_the_one_before(start, straight, root, capsys, keep):
    """S32: said in a line, and the run ends like any other."""
    run = root.run("Base-s0")
    shutil.copytree(straight.path, run.path)
    run.write_status(state="running")
    content = run.last.read_bytes()
    run.last.write_bytes(content[: int(len(content) * keep)])
    assert_same_run(start(root), straight)
    out = capsys.readouterr().out
    assert "last.ckpt is damaged" in out
    assert "going on from previous.ckpt, after epoch 3" in out
    assert "epoch 4/4" in out
    assert "epoch 3/4" not in out


def test_on_a_terminal_a_run_is_a_bar_of_its_steps_and_then_one_line(start, straight, root, capsys, monkeypatch):
    """A resumed run's bar begins where its checkpoint is."""
    run = root.run("Base-s0")
    shutil.copytree(straight.path, run.path)
    run.write_status(state="running")
    shutil.move(run.path / "previous.ckpt", run.last)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    start(root)
    out, err = capsys.readouterr()
    steps = straight.config["training"]["steps_per_epoch"]
    assert [line.split(":")[0] for line in out.splitlines()] == ["Base-s0 all epochs done"]
    shown = re.findall(rf"Base-s0: .*?(\d+)/{4 * steps} .*?\r", err)
    assert shown[-1] == str(4 * steps) and int(shown[1]) > 3 * steps
    assert re.search(r"epoch 4/4 train \d.* sdr -?\d+\.\d\d dB", err)


def test_early_stopping_waits_for_its_patience_and_says_so(start, root, tiny, monkeypatch):
    scripted_validation(monkeypatch, [-1.0, 0.5, 0.4, 0.5, 0.6, 0.7])
    run = start(root, replace(MENU["Base"], patience=2), profile=replace(tiny, epochs=6))
    assert len(run.history()) == 4  # the best in the second, then two without improvement
    status = run.status
    assert status["stopped"] == "early, after 2 epochs without improvement"
    assert (status["epochs"], status["best_epoch"]) == (4, 2)
    assert status["last_learning_rate"] == pytest.approx(run.history()["learning_rate"].iloc[-1])
    assert load(run.best)["epoch"] == 1
    # a kill between that stop and the word "finished": not one epoch more
    run.write_status(state="running")
    again = start(root, replace(MENU["Base"], patience=2), profile=replace(tiny, epochs=6))
    assert len(again.history()) == 4
    assert again.status["stopped"] == "early, after 2 epochs without improvement"
    assert again.status["best_epoch"] == 2


def test_patience_survives_a_restart(start, root, tiny, monkeypatch):
    scripted_validation(monkeypatch, [-1.0, 0.5, 0.4, 0.3, 0.6, 0.7])
    row, profile = replace(MENU["Base"], patience=2), replace(tiny, epochs=6)
    with monkeypatch.context() as patch:
        end_in_epoch(patch, 4)
        with pytest.raises(Killed):
            start(root, row, profile=profile)
    assert len(start(root, row, profile=profile).history()) == 4


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_songs_and_keeps_the_checkpoints(
    start, straight, root, tiny, monkeypatch, where, value
):
    """S26; and after the cause is gone the run goes on as if nothing had been."""
    finite = SeparationTask._finite

    def spoilt(self, loss, which, batch, step):
        bad = self.current_epoch == 2 and which == where
        return finite(self, loss * (value if bad else 1), which, batch, step)

    run = root.run("Base-s0")
    with monkeypatch.context() as patch:
        patch.setattr(SeparationTask, "_finite", spoilt)
        with pytest.raises(SepkitError, match=f"The {where} loss became {value} in epoch 3, step 1") as caught:
            start(root)
    assert ("A0 - Train" in str(caught.value) or "A1 - Train" in str(caught.value)) == (where == "training")
    assert ("V0 - Valid" in str(caught.value)) == (where == "validation")
    assert load(run.last)["epoch"] == 1
    assert not run.finished
    assert len(run.history()) == 2
    assert epochs_booked(root) == [1, 2, 3]  # the minutes of the third are spent all the same
    if where == "validation":
        assert_same_run(start(root), straight)


def test_one_step_on_silence_leaves_finite_weights(tiny):
    """S26, with the trainer's own step and optimiser."""
    torch.manual_seed(0)
    model = models.build("openunmix-small", hidden_size=16)
    settings = {"learning_rate": 1e-2, "weight_decay": 0.01, "epochs": 1}
    task = SeparationTask(model, make_loss("magnitude_l1"), [0], settings, seed=0)
    optimiser = task.configure_optimizers()["optimizer"]
    batch = {
        "mixture": torch.zeros(2, 2, 11025),
        "sources": torch.zeros(2, 2, 2, 11025),
        "track": ["silence", "silence"],
    }
    task.training_step(batch, 0).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.requires_grad)
    optimiser.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_learning_lowers_the_loss(start, root, tiny):
    run = start(root, profile=replace(tiny, steps_per_epoch=12, epochs=3, learning_rate=1e-2))
    losses = run.history()["train_loss"]  # these songs are noise: what is learned holds for them alone
    assert losses.iloc[-1] < 0.9 * losses.iloc[0]


NOWHERE = {
    "absent": lambda songs, path: path / "absent",
    "empty": lambda songs, path: path,
    "train itself": lambda songs, path: songs / "train",
    "one song": lambda songs, path: songs / "train" / "A0 - Train",
}


@pytest.mark.parametrize("place", NOWHERE.values(), ids=NOWHERE)
def test_no_songs_never_train_quietly(start, mini_songs, tmp_path, place):
    """S01: an error that names the path, before anything is written but the root."""
    (tmp_path / "songs").mkdir()
    path = place(mini_songs, tmp_path / "songs")
    with pytest.raises(SepkitError) as caught:
        start(tmp_path / "root", data=path)
    assert str(path) in str(caught.value)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_split_without_songs_does_not_train(start, make_mini, tmp_path, split):
    data = make_mini(tmp_path / "songs", **{"train": 1, "valid": 1, "test": 1, split: 0})
    with pytest.raises(SepkitError, match=f"no {split} songs: expected at least 1, found 0"):
        start(tmp_path / "root", data=data)


def test_a_broken_song_stops_the_run_by_name_until_it_is_excluded(start, mini_songs, tmp_path, tiny):
    """S03, S10: the count in the configuration drops by one."""
    data = shutil.copytree(mini_songs, tmp_path / "songs")
    (data / "train" / "A0 - Train" / "bass.wav").unlink()
    with pytest.raises(SepkitError, match=r"Training can't start: .*A0 - Train: bass\.wav: missing stem"):
        start(tmp_path / "root", data=data)
    assert not (tmp_path / "root" / "runs").exists()
    (tmp_path / "root" / "exclude.txt").write_text("A0 - Train\n")
    run = start(tmp_path / "root", data=data, profile=replace(tiny, epochs=1))
    assert run.config["data"]["train"] == ["A1 - Train"]


def test_a_song_with_nan_stops_the_run_by_name(start, mini_songs, tmp_path):
    data = shutil.copytree(mini_songs, tmp_path / "songs")
    file = data / "train" / "A1 - Train" / "other.wav"
    audio = sf.read(file)[0]
    audio[100] = np.nan
    sf.write(file, audio, 44100, subtype="FLOAT")
    with pytest.raises(SepkitError, match=r"A1 - Train: other\.wav: not finite"):
        start(tmp_path / "root", data=data)
    assert not (tmp_path / "root" / "runs").exists()


def test_wrong_calls_are_refused_before_anything_is_written(start, tmp_path, mini_songs):
    for options, says in (
        ({"experiment": "Bass"}, "no experiment 'Bass'"),
        ({"experiment": "Base", "profile": "dmeo"}, "no profile 'dmeo'"),
        ({"experiment": "Base", "device": "tpu"}, "tpu"),
    ):
        with pytest.raises(UsageError, match=says):
            train(**options, data=mini_songs, root=tmp_path / "root")
    assert not (tmp_path / "root").exists()
    with pytest.raises(UsageError, match="no fold 3"):
        start(tmp_path / "root", fold=3)


def test_a_fold_trains_without_the_songs_that_it_scores(start, root, tiny):
    run = start(root, fold=1, profile=replace(tiny, epochs=1))
    assert run.name == "Base-s0-f1"
    data = run.config["data"]
    parts = [data["train"], data["valid"], data["test"]]
    assert sorted(name for part in parts for name in part) == ["A0 - Train", "A1 - Train", "V0 - Valid"]
    assert [len(part) for part in parts] == [1, 1, 1]


@pytest.mark.parametrize("name", ["C2", "H"])
def test_a_run_starts_from_the_best_weights_of_another_experiment(start, root, tiny, name):
    small = replace(tiny, name="small", epochs=1, learning_rate=1e-12, models=NARROW_MODELS)  # not the demo's steps
    again = replace(MENU[name], name="again", start_from=name, learning_rate=1e-12, profiles={})
    run = start(root, again, profile=small)
    one, two = load_model(root.run(f"{name}-s0")).state_dict(), load_model(run).state_dict()
    weights = [key for key in one if "running" not in key and "num_batches" not in key]
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in weights)
    assert run.config["start_from"] == name


def test_a_start_from_another_architecture_is_refused_before_anything_is_trained(start, root, tiny):
    small = replace(tiny, models=NARROW_MODELS)
    for name, says in (("Base", r"tfc-tdf and Base's openunmix-small differ"), ("umxhq", "no experiment 'umxhq'")):
        with pytest.raises(UsageError, match=says):
            start(root, replace(MENU["H"], start_from=name), profile=small)
    wide = replace(MENU["Base"], name="wide", model={"name": "openunmix-small", "hidden_size": 32}, start_from="Base")
    with pytest.raises(
        UsageError, match=r"wide can't start from Base: .* is \(32,.* in the configuration and \(16,.* in Base"
    ):
        start(root, wide, profile=small)
    assert root.runs() == []


def test_the_lock_outlives_a_replaced_configuration(root, capsys):
    run = root.run("Base-s0")
    write_json(run.path / "config.json", {})
    waits = []

    def other():
        with run.alone():
            waits.append(time.perf_counter())

    with run.alone():
        write_json(run.path / "config.json", {})  # as a sync does: another file under the same name
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        freed = time.perf_counter()
    thread.join()
    assert waits[0] >= freed
    assert "being trained by another process; waiting" in capsys.readouterr().out
    assert drive.push(root, only=[f"runs/{run.name}"]) is None  # no Drive here
    assert f"runs/{run.name}/.lock" not in drive._files(root.path, None)


@pytest.mark.parametrize("fails", [OSError(38, "Function not implemented"), None], ids=["no locks", "no fcntl"])
def test_without_locks_training_goes_on(root, capsys, monkeypatch, fails):
    def flock(*_):
        raise fails

    fcntl = SimpleNamespace(flock=flock, LOCK_EX=1, LOCK_NB=2) if fails else None
    monkeypatch.setattr(parallel, "fcntl", fcntl)
    run = root.run("Base-s0")
    run.path.mkdir(parents=True)
    with run.alone():
        pass
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert f"can't be locked ({fails.strerror if fails else 'this system has no locks'})" in out


def test_a_new_loss_is_one_new_function(start, root, tiny, monkeypatch):
    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))

    @losses.loss()
    def waveform_mse(estimate, target, *, factor=1.0):
        return factor * (estimate.waveform - target).square().mean()

    own = replace(MENU["Base"], name="own", loss={"name": "waveform_mse", "factor": 4.0})
    run = start(root, own, profile=replace(tiny, epochs=1))
    assert run.config["loss"] == {"name": "waveform_mse", "factor": 4.0}
    assert run.history()["train_loss"].notna().all()


@pytest.fixture
def half_hours(monkeypatch):
    """Epochs that take half an hour each, with a GPU attached as far as the ledger can see."""
    clock = SimpleNamespace(now=1e9, strftime=time.strftime, process_time=time.process_time)
    clock.perf_counter = clock.time = lambda: clock.now
    step = SeparationTask.validation_step

    def validation_step(self, batch, batch_idx):
        clock.now += 1800
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SeparationTask, "validation_step", validation_step)
    for module in (ledger, fit_module, epochs):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(ledger, "gpu_now", lambda: (True, 0.0))
    monkeypatch.setenv("SEPKIT_STARTED", str(clock.now))
    return clock


def test_a_run_stops_before_the_hours_are_spent_and_goes_on_to_the_same_end(
    start, root, straight, half_hours, tmp_path, monkeypatch
):
    """Two epochs of half an hour fit into 1.2 hours, a third does not."""
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "drive"))
    said = r"was stopped after 2 epochs; .*1\.00 of the week's 1\.2 GPU hours are spent, and the next epoch takes 30\.0 min"
    with pytest.raises(OutOfTime, match=f"Base-s0 {said}.* Everything is saved and in the copy on Drive"):
        start(root, hours=1.2)
    run = root.run("Base-s0")
    assert (run.state, len(run.history()), run.status["state"]) == ("stopped", 2, "stopped")
    assert (tmp_path / "drive/runs/Base-s0/last.ckpt").read_bytes() == run.last.read_bytes()
    assert hours_left(root, hours=1.2) == pytest.approx(0.2)
    before = run.last.read_bytes()
    with pytest.raises(OutOfTime, match=r"Base-s0 does not go on: 1\.00 of the week's 1\.2 GPU hours are spent"):
        start(root, hours=1.2, data="no songs are looked for")
    assert run.last.read_bytes() == before
    monkeypatch.setenv("SEPKIT_HOURS", "3")
    assert_same_run(start(root), straight)
    assert start(root, hours=1.2) == run  # a finished one is returned whatever is left


def test_a_run_stops_before_the_session_ends_also_on_a_cpu(start, root, half_hours, monkeypatch):
    monkeypatch.setattr(ledger, "gpu_now", lambda: (False, 0.0))
    with pytest.raises(
        OutOfTime, match=r"after 3 epochs; .* this session has lasted 1\.50 of 1\.7 hours, .* 8\.00 of .* 8 GPU"
    ):
        start(root, session_hours=1.7)
    monkeypatch.setenv("SEPKIT_SESSION_HOURS", "1.4")
    with pytest.raises(OutOfTime, match=r"Base-s0 does not go on: this session has lasted 1\.50 of 1\.4 hours"):
        start(root)
    monkeypatch.setenv("SEPKIT_STARTED", str(half_hours.now))  # a new session
    assert start(root).finished


def test_hours_are_no_matter_without_a_gpu_but_are_said(start, root, tiny, capsys):
    root.add_minutes(run="C-s0", stage="train", minutes=600, device="T4", gpu_attached=True)
    assert start(root, profile=replace(tiny, epochs=1)).finished
    assert (
        "Base-s0: 2.00 GPU hours more than the week's are spent; without a GPU this run costs none"
        in capsys.readouterr().out
    )


def test_a_worker_is_told_when_its_session_began(root, tiny, mini_songs, monkeypatch):
    monkeypatch.setenv("SEPKIT_STARTED", "")
    where = {"profile": tiny, "data": mini_songs, "root": root, "session_hours": 1}
    with pytest.raises(OutOfTime, match=r"does not go on: this session has lasted 2\.00 of 1 hours"):
        train_module._train_quietly(time.time() - 7200, "Base", **where)
