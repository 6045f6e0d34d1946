"""Other settings make a run of another name, which every command knows; loggers write beside history.csv."""

import json
import re
import shutil

import pandas as pd
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

import sepkit
from sepkit.__main__ import main
from sepkit.commands.grid import grid
from sepkit.errors import UsageError
from sepkit.experiments import MENU, entry_of, get_experiment, resolve
from sepkit.profiles import PROFILES
from sepkit.storage import Root
from sepkit.training import epochs, fit
from sepkit.training.asked import make_logger, with_changes
from sepkit.training.train import train, train_many

DEMO = PROFILES["demo"]
CSV = "lightning.pytorch.loggers:CSVLogger"


def changed(given, name="Base", profile=DEMO):
    return with_changes(MENU[name], given, profile)


def test_a_change_is_one_setting_and_a_name_of_its_own():
    base = resolve(MENU["Base"], DEMO)
    entry = changed(["training.batch_size=4"])
    settings = resolve(entry, DEMO)
    assert (entry.name, settings["experiment"]) == ("Base+batch_size=4", "Base+batch_size=4")
    assert settings["training"] == {**base["training"], "batch_size": 4}
    assert (settings["model"], settings["loss"]) == (base["model"], base["loss"])
    assert MENU["Base"].changes == {} and resolve(MENU["Base"], DEMO) == base
    assert changed(None) is MENU["Base"] and changed([]) is MENU["Base"]


def test_names_are_the_same_for_the_same_changes_and_safe_for_files():
    assert changed({"training.epochs": 3, "model.hidden_size": 64}).name == "Base+model.hidden_size=64+epochs=3"
    assert changed(["model.hidden_size=64", "training.epochs=3"]).name == "Base+model.hidden_size=64+epochs=3"
    one, two = (changed({"training.curriculum": [[1, length]]}).name for length in (0.5, 0.25))
    assert one != two
    for name in (one, two, changed({"loss.weights": [0.5] * 40}).name):
        assert re.fullmatch(r"[\w.+=~-]{1,120}", name, re.ASCII)


def test_every_leaf_can_be_changed_and_what_network_loss_and_augmentation_take():
    given = {
        "training.augment.tempo": 0.1, "training.segment_s": 1, "training.ema": 0.99, "training.stems": True,
        "training.sampling": "vocals", "model.n_fft": 2048, "loss.alpha": "flat", "loss.weights": [2.0],
    }  # fmt: skip
    settings = resolve(changed(given), DEMO)
    assert settings["training"]["augment"] == {"tempo": 0.1}
    assert (settings["training"]["segment_s"], settings["training"]["ema"]) == (1.0, 0.99)
    assert (settings["model"]["n_fft"], settings["loss"]["weights"]) == (2048, [2.0])
    assert (
        resolve(changed({"training.augment.tempo": 0.05}, "C+D"), DEMO)["training"]["augment"]["pitch_semitones"] == 2
    )


def test_another_network_or_loss_begins_with_its_own_settings():
    settings = resolve(changed({"model.name": "tfc-tdf", "loss.name": "waveform_l1"}), DEMO)
    assert settings["model"] == {**resolve(MENU["H"], DEMO)["model"]}
    assert settings["loss"] == {"name": "waveform_l1"}


def test_changes_add_up():
    entry = with_changes(changed({"training.epochs": 3}), {"training.batch_size": 4}, DEMO)
    assert entry.name == "Base+epochs=3+batch_size=4"
    training = resolve(entry, DEMO)["training"]
    assert (training["epochs"], training["batch_size"]) == (3, 4)


def test_shorter_clips_shorten_the_curriculum_too():
    settings = resolve(changed({"training.segment_s": 1.0, "training.epochs": 4}, "E"), DEMO)
    assert settings["training"]["curriculum"] == [[1, 0.5]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("training.batchsize=4", "Base has no setting 'training.batchsize'; expected training.batch_size or"),
        ("batch_size=4", "Base has no setting 'batch_size'; expected training.batch_size."),
        ("profile=full", "Base has no setting 'profile'; expected "),
        ("training.batch_size", "Expected a setting and its value, as training.batch_size=4, got 'training.batch_size'"),
        ("training.batch_size=four", "Expected training.batch_size to be a whole number above 0, got 'four'."),
        ("training.batch_size=4.5", "Expected training.batch_size to be a whole number above 0, got 4.5."),
        ("training.batch_size=true", "Expected training.batch_size to be a whole number above 0, got True."),
        ("training.batch_size=0", "Expected training.batch_size to be a whole number above 0, got 0."),
        ("training.learning_rate=NaN", "Expected training.learning_rate to be a number above 0, got nan."),
        ("training.remix=-1", "Expected training.remix to be a number, 0 or more, got -1.0."),
        ("training.stems=1", "Expected training.stems to be true or false, got 1."),
        ("training.sampling=often", "Expected training.sampling to be balanced or uniform or vocals, got 'often'."),
        ("training.curriculum=[3]", "Expected training.curriculum to be a list of pairs, [epochs, seconds], got [3]."),
        ("training.augment.tempo=2", "Expected tempo from 0 to 0.5, got 2.0."),
        ("model.hidden_size=null", "Expected model.hidden_size to be a whole number, got None."),
        ("model.mask_bound=tanh", "There is no mask bound 'tanh'"),
        ("model.name=nothing", "There is no model 'nothing'"),
        ("loss.alpha=cubic", "There is no frequency weight 'cubic'"),
        ("loss.name=waveform", "There is no loss 'waveform'; expected one of magnitude_l1"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_one_sentence_before_any_work(given, said, root, capsys):
    assert main(["train", "Base", "--set", given, "--root", str(root.path), "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (root.path / "runs").exists()


def test_what_is_not_trained_has_no_training_to_change():
    with pytest.raises(UsageError, match=r"B-wiener is not trained, so training\.epochs changes nothing; change B"):
        changed({"training.epochs": 2}, "B-wiener")


def test_a_changed_run_is_known_by_name_everywhere(scored_root, mini_songs, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(PROFILES, "demo", tiny)
    root = Root.open(shutil.copytree(scored_root.path, tmp_path / "root"), "demo")
    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu"}
    before = root.run("Base-s0").weights()
    table = grid(["Base"], seeds=[0, 1], changes=["training.batch_size=1"], n_jobs=1, **where)
    assert list(table["run"]) == ["Base+batch_size=1-s0", "Base+batch_size=1-s1"]
    assert root.run("Base-s0").weights() == before
    run = train("Base", changes={"training.batch_size": 1}, **where)  # finished: as it is
    assert run.config["training"]["batch_size"] == 1
    assert entry_of(run.config).called == "Base"
    name = "Base+batch_size=1"
    assert main(["evaluate", name, "--root", str(root.path), "--data", str(mini_songs), "--jobs", "1"]) == 0
    assert sepkit.compare(name, "Base", root=root, metric="sdr_global").run == name
    board = sepkit.scoreboard(root).set_index("Exp")
    assert list(board.loc[name, ["Backbone", "Extras", "runs"]]) == ["Open-Unmix-small", "batch_size=1", 2]
    report = sepkit.report(root).read_text(encoding="utf-8")
    assert "--experiments Base --seeds 0,1 --set training.batch_size=1" in report
    assert sepkit.export(name, tmp_path / "out", root=root).is_dir()
    with pytest.raises(UsageError, match="There is no experiment"):
        get_experiment("Base+batch_size=2")


def test_a_changed_run_goes_on_with_the_same_changes(root, mini_songs, tiny, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu", "changes": ["training.epochs=3"]}
    with monkeypatch.context() as patch:
        patch.setattr(epochs.Recorder, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train("Base", **where)
    run = train("Base", **where)
    assert (run.name, len(run.history()), run.finished) == ("Base+epochs=3-s0", 3, True)


def logged(root, run, version=0):
    return pd.read_csv(root.path / "logs" / run / f"version_{version}" / "metrics.csv").set_index("step")


def test_a_logger_has_the_figures_of_history_and_a_run_that_goes_on_all_of_them(root, mini_songs, tiny, monkeypatch):
    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu", "logger": CSV}
    push = fit.drive.push

    def stop(*args, **options):
        if len(root.run("Base-s0").history()) == 2:
            raise KeyboardInterrupt
        return push(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit.drive, "push", stop)
        with pytest.raises(KeyboardInterrupt):
            train("Base", **where)
    assert list(logged(root, "Base-s0").index) == [1, 2]  # kept although the run ended early
    run = train("Base", **where)
    history = run.history().set_index("epoch")
    found = logged(root, "Base-s0", 1)
    assert list(found.index) == [1, 2, 3, 4]
    for name in ("train_loss", "valid_loss", "valid_sdr", "learning_rate"):
        assert found[name].to_numpy() == pytest.approx(history[name].to_numpy())
    assert "hidden_size" in (root.path / "logs" / "Base-s0" / "version_1" / "hparams.yaml").read_text()
    assert {file.name for file in run.path.iterdir()} == {
        ".lock", "best.ckpt", "config.json", "history.csv", "last.ckpt", "previous.ckpt", "status.json",
    }  # fmt: skip
    assert "logger" not in json.dumps(run.config)  # no setting: with or without, it is the same run


def test_without_a_logger_nothing_is_written(trained_root):
    assert not (trained_root.path / "logs").exists()


@pytest.mark.parametrize(
    ("logger", "said"),
    [
        ("tensorbord", "There is no logger 'tensorbord'; expected tensorboard, or package.module:Class."),
        ("pathlib:Path", "Expected pathlib:Path to be a class of Lightning's loggers"),
        ("lightning.pytorch.loggers:Nothing", "Nothing"),
    ],
)
def test_a_wrong_logger_is_one_sentence_before_any_work(logger, said, root, mini_songs, tiny):
    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu", "logger": logger}
    for call in (lambda: train("Base", **where), lambda: train_many(["Base"], n_jobs=1, **where)):
        with pytest.raises(UsageError, match=re.escape(said)):
            call()
    assert not (root.path / "runs").exists()


def test_tensorboard_that_is_not_installed_is_one_sentence(root, monkeypatch):
    def absent(*_, **__):
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr(TensorBoardLogger, "__init__", absent)
    with pytest.raises(UsageError, match="which is not here; pip install tensorboard"):
        make_logger("tensorboard", root.run("Base-s0"))
