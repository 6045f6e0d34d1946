"""Checkpoints load anywhere or are called damaged; weights that do not fit are told briefly."""

import numpy as np
import pytest
import torch

from sepkit import models
from sepkit.errors import SepkitError
from sepkit.experiments import MENU
from sepkit.experiments.settings import resolve
from sepkit.models.weights import load_weights
from sepkit.profiles import PROFILES
from sepkit.storage import Root, write_json
from sepkit.storage.checkpoints import load_checkpoint, load_model, newest
from sepkit.training.epochs import AtomicCheckpointIO

SETTINGS = {"name": "openunmix-small", "hidden_size": 16}


@pytest.fixture
def run(tmp_path):
    """A run of two checkpoints: previous.ckpt after epoch 1, last.ckpt after epoch 2."""
    run = Root.open(tmp_path, "demo").run("Base-s0")
    write_json(run.path / "config.json", {"model": SETTINGS})
    for epoch in range(2):
        AtomicCheckpointIO().save_checkpoint(checkpoint(epoch), run.last)
    return run


def checkpoint(epoch=0, **settings):
    torch.manual_seed(epoch)
    model = models.build(**{**SETTINGS, **settings})
    return {"epoch": epoch, "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}


DAMAGES = {
    "half": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros of the right size": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(5000),
    "text": lambda content: b"<html>Quota exceeded</html>",
    "a pickle": lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before_with_a_line(run, capsys, damage):
    """S32."""
    run.last.write_bytes(damage(run.last.read_bytes()))
    size = run.last.stat().st_size
    with pytest.raises(SepkitError, match=rf"a whole checkpoint in .*last\.ckpt, found {size} bytes"):
        load_checkpoint(run.last)
    assert newest(run) == run.path / "previous.ckpt"
    line = (
        f"Base-s0: last.ckpt is damaged ({size} bytes that do not load); going on from previous.ckpt, after epoch 1\n"
    )
    assert capsys.readouterr().out == line


def test_what_is_not_a_checkpoint_of_ours_is_refused(run):
    for content in (torch.zeros(3), {"weights": torch.zeros(3)}, [1, 2]):
        torch.save(content, run.last)
        with pytest.raises(SepkitError, match="a whole checkpoint"):
            load_checkpoint(run.last)


def test_the_newest_whole_checkpoint_is_taken_without_a_word(run, capsys):
    assert newest(run) == run.last
    run.last.rename(run.path / "previous.ckpt")  # a kill between the two renames leaves this
    assert newest(run) == run.path / "previous.ckpt"
    (run.path / "previous.ckpt").unlink()
    assert newest(run) is None
    assert capsys.readouterr().out == ""


def test_if_both_are_damaged_that_is_said_too(run, capsys):
    run.last.write_bytes(b"")
    (run.path / "previous.ckpt").write_bytes(b"")
    assert newest(run) is None
    assert "starting again at epoch 1" in capsys.readouterr().out


def test_saving_keeps_the_last_two_and_nothing_half_written(run, monkeypatch):
    AtomicCheckpointIO().save_checkpoint(checkpoint(2), run.last)
    assert load_checkpoint(run.last)["epoch"] == 2
    assert load_checkpoint(run.path / "previous.ckpt")["epoch"] == 1

    def disk_full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint(checkpoint(3), run.last)
    assert load_checkpoint(run.last)["epoch"] == 2
    assert sorted(file.name for file in run.path.iterdir()) == ["config.json", "last.ckpt", "previous.ckpt"]


def test_a_checkpoint_with_something_else_than_plain_values_is_refused(run):
    """S31: what torch refuses, sepkit names."""
    torch.save({**checkpoint(), "score": np.float64(1)}, run.last)
    with pytest.raises(SepkitError, match="UnpicklingError"):
        load_checkpoint(run.last)


def test_a_model_is_built_from_the_configuration_and_the_checkpoint(run):
    model = load_model(run, "last")
    assert not model.training
    for key, value in checkpoint(1)["state_dict"].items():
        assert torch.equal(model.state_dict()[key.removeprefix("model.")], value)
    with pytest.raises(SepkitError, match=r"no best\.ckpt yet under .*; train it first"):
        load_model(run)


def test_a_network_that_normalises_over_time_separates_in_clips_of_its_training(tmp_path):
    root, runs = Root.open(tmp_path, "demo"), {}
    for row in ("H", "Base"):
        config = resolve(MENU[row], PROFILES["demo"])
        runs[row] = root.run(row)
        write_json(runs[row].path / "config.json", config)
        weights = models.build(**config["model"]).state_dict()
        AtomicCheckpointIO().save_checkpoint({"state_dict": weights}, runs[row].best)
    assert load_model(runs["H"]).chunk_s == PROFILES["demo"].segment_s
    assert load_model(runs["Base"]).chunk_s is None


def test_weights_of_another_size_are_told_briefly(run):
    """S30: what the configuration says, what the file says, and how many differences there are."""
    AtomicCheckpointIO().save_checkpoint(checkpoint(hidden_size=64), run.best)
    with pytest.raises(SepkitError) as caught:
        load_model(run)
    message = str(caught.value)
    assert "core.bn1.bias is (16,) in the configuration and (64,) in the file" in message
    assert "best.ckpt" in message
    assert "differences in all" in message
    assert len(message) < 500


def test_weights_of_another_architecture_are_told_and_not_half_loaded():
    model = models.build(**SETTINGS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {**before, "core.fc9.weight": torch.zeros(3)}
    del state["core.fc1.weight"]
    with pytest.raises(
        SepkitError, match=r"core\.fc1\.weight is not in the file; core\.fc9\.weight is not in the network"
    ):
        load_weights(model, state, "a file")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
