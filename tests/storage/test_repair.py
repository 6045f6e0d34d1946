"""A finished run whose files are damaged or gone comes back, and says how."""

import re
import shutil
from dataclasses import replace

import pytest

from sepkit.errors import SepkitError
from sepkit.evaluation.scoring import make_estimator
from sepkit.storage import Root
from sepkit.storage.checkpoints import load_checkpoint
from sepkit.storage.drive import pull, push
from sepkit.training.train import train


@pytest.fixture(scope="module")
def finished(make_root, mini_songs, tiny, tmp_path_factory):
    """(root, Drive's copy) of Base after three epochs; not to be changed."""
    drive, root = tmp_path_factory.mktemp("drive") / "copy", make_root()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPKIT_DRIVE", str(drive))
        train("Base", profile=replace(tiny, epochs=3), data=mini_songs, root=root, device="cpu")
    return root, drive


@pytest.fixture
def run(finished, tmp_path):
    return Root.open(shutil.copytree(finished[0].path, tmp_path / "root"), "demo").run("Base-s0")


@pytest.fixture
def drive(finished, tmp_path, monkeypatch):
    """The copy on Drive, in use."""
    copy = shutil.copytree(finished[1], tmp_path / "drive")
    monkeypatch.setenv("SEPKIT_DRIVE", str(copy))
    return copy


@pytest.fixture
def again(mini_songs, tiny):
    """What the message advises: the same call of `train`."""
    return lambda run: train("Base", profile=replace(tiny, epochs=3), data=mini_songs, root=run.root, device="cpu")


def weights(path):
    return {name: value.tolist() for name, value in load_checkpoint(path)["state_dict"].items()}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def past_best(run):
    """The checkpoints whose epoch is not the best one's."""
    best = run.status["best_epoch"]
    paths = (run.last, run.path / "previous.ckpt")
    return [path for path in paths if load_checkpoint(path)["epoch"] + 1 != best]


@pytest.mark.parametrize("damage", [cut, empty, gone])
def test_the_best_weights_come_back_from_drive_where_they_are_used(run, drive, damage, capsys):
    """S59: no training, no songs."""
    whole = run.best.read_bytes()
    for path in (run.last, run.path / "previous.ckpt", run.best):
        damage(path)
    assert make_estimator(run).model.sources == ("vocals",)
    assert run.best.read_bytes() == whole
    assert (
        f"best.ckpt was {'gone' if damage is gone else 'damaged'}; it is back from {drive}" in capsys.readouterr().out
    )


@pytest.mark.parametrize("damage", [cut, gone])
def test_the_best_weights_come_back_from_the_checkpoint_of_their_epoch(run, damage, capsys):
    """S59."""
    right, best = weights(run.best), run.status["best_epoch"]
    for path in past_best(run):
        path.unlink()
    kept = [path for path in (run.last, run.path / "previous.ckpt") if path.exists()]
    if not kept:  # the best epoch is older than both: as if it had been the last one
        shutil.copyfile(run.best, run.last)
    damage(run.best)
    make_estimator(run)
    assert weights(run.best) == right
    assert load_checkpoint(run.best)["epoch"] + 1 == best
    assert "it is back from" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [cut, gone])
def test_the_best_weights_come_back_by_training_again(run, again, damage, capsys):
    """S59: no whole checkpoint of the best epoch is left, here or on Drive."""
    right, history = weights(run.best), run.history()
    damage(run.best)
    for path in (run.last, run.path / "previous.ckpt"):
        path.write_bytes(b"")
    words = "Expected a whole checkpoint in .*best.ckpt.*train the run again" if damage is cut else "train it again"
    with pytest.raises(SepkitError, match=words):
        make_estimator(run)
    assert again(run).finished
    assert "no whole checkpoint of its best epoch" in capsys.readouterr().out
    assert weights(run.best) == right
    assert run.history()["valid_sdr"].equals(history["valid_sdr"])
    make_estimator(run)
    capsys.readouterr()
    again(run)
    assert capsys.readouterr().out == ""


def test_a_checkpoint_before_the_best_epoch_saves_epochs(run, again, capsys):
    right, best = weights(run.best), run.status["best_epoch"]
    run.best.unlink()
    again_from = [load_checkpoint(path)["epoch"] + 1 for path in (run.last, run.path / "previous.ckpt")]
    again(run)
    assert weights(run.best) == right
    trained = capsys.readouterr().out.count("Base-s0 epoch ")
    assert trained == (0 if best in again_from else 3 - max((n for n in again_from if n < best), default=0))


@pytest.mark.parametrize("name", ["config.json", "status.json", "history.csv"])
@pytest.mark.parametrize("damage", [cut, empty])
def test_a_damaged_file_comes_back_from_drive(run, drive, again, name, damage, capsys):
    right = (run.path / name).read_bytes()
    damage(run.path / name)
    assert again(run).finished
    assert (run.path / name).read_bytes() == right
    assert re.search(
        f"Base-s0: {name} was damaged; it is back from the copy on Drive|from Drive: ", capsys.readouterr().out
    )


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", "\x00\x00"])
@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_without_drive_training_again_writes_a_damaged_file_anew(run, again, name, content, capsys):
    right = weights(run.best)
    (run.path / name).write_text(content)
    assert again(run).finished
    assert f"{name} can't be read" in capsys.readouterr().out
    assert run.config["model"]["hidden_size"] == 16
    assert (run.status["epochs"], run.status["state"]) == (3, "finished")
    assert weights(run.best) == right
    make_estimator(run)


def test_the_whole_rows_of_a_history_that_is_cut_are_kept(run, again, capsys):
    table = run.history()
    file = run.path / "history.csv"
    file.write_bytes(file.read_bytes()[:-7])
    again(run)
    assert "history.csv was damaged; 2 whole epochs are kept" in capsys.readouterr().out
    assert run.history().equals(table[:2])


def test_a_damaged_last_checkpoint_hurts_no_finished_run(run, again, capsys):
    run.last.write_bytes(b"")
    again(run)
    make_estimator(run)
    assert capsys.readouterr().out == ""
    (run.path / "status.json").unlink()
    assert again(run).status["epochs"] == 3


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt", "config.json", "status.json", "history.csv"])
def test_a_damaged_file_does_not_replace_the_one_on_drive(run, drive, name):
    """A push between the damage and the repair."""
    right = (drive / "runs" / run.name / name).read_bytes()
    cut(run.path / name)
    push(run.root)
    assert (drive / "runs" / run.name / name).read_bytes() == right
    fresh = Root.open(run.root.path.with_name("fresh"), "demo")
    pull(fresh)
    assert (fresh.run(run.name).path / name).read_bytes() == right


def test_a_copy_of_another_training_is_not_taken(run, drive):
    """Its best epoch is another one."""
    run.write_status(**{**run.status, "best_epoch": 99})
    for path in (run.best, run.last, run.path / "previous.ckpt"):
        path.write_bytes(b"")
    with pytest.raises(SepkitError, match="Expected a whole checkpoint"):
        make_estimator(run)
    assert run.best.read_bytes() == b""
