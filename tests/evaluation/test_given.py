"""Networks that were trained elsewhere, umxhq among them: scored, compared, listened to, separated with, trained on."""

import shutil

import pytest
import torch
from demucs.demucs import Demucs

import sepkit
from sepkit.__main__ import main
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import UMXHQ
from sepkit.storage.checkpoints import load_model
from tests.models.published import write_demucs, write_openunmix


@pytest.fixture
def where(trained_root, mini_songs, tmp_path):
    shutil.copytree(trained_root.path, tmp_path / "root")
    return {"root": tmp_path / "root", "data": mini_songs, "device": "cpu"}


@pytest.fixture
def downloads(no_network):
    """Where torch puts what it downloads; the net is away."""
    (no_network / "checkpoints").mkdir()
    return no_network / "checkpoints"


def test_umxhq_is_a_reference_with_weights(where, downloads, tmp_path, capsys):
    song = next((where["data"] / "test").iterdir()) / "mixture.wav"
    for call in (
        lambda: sepkit.reference("umxhq", **where),
        lambda: sepkit.separate(song, run="umxhq", root=where["root"]),
    ):
        with pytest.raises(
            SepkitError, match=r"https://zenodo.org/\S+vocals-b62c91ce.pth.*by hand and put it at \S+pth"
        ):
            call()
    write_openunmix(downloads / "vocals-b62c91ce.pth", hidden_size=16, max_bin=1487, beside=False)
    files = sepkit.separate(song, run="umxhq", root=where["root"], out=tmp_path / "out")
    assert [file.name for file in files] == ["mixture.vocals.wav", "mixture.accompaniment.wav"]
    run = sepkit.reference("umxhq", n_jobs=1, **where)
    assert run.config["model"]["hidden_size"] == 16
    assert set(run.scores()["accompaniment"]) == {"residual"}
    assert main(["evaluate", "umxhq", "--root", str(where["root"]), "--data", str(where["data"])]) == 0
    assert UMXHQ in capsys.readouterr().out
    sepkit.evaluate("Base-s0", n_jobs=1, **where)
    assert sepkit.compare("Base", "umxhq", root=where["root"]).base == "umxhq"
    board = sepkit.scoreboard(where["root"]).set_index("Exp")
    assert list(board.index) == ["Base", "umxhq"]
    assert (board.loc["umxhq", "Backbone"], board.loc["umxhq", "seeds"], board.loc["umxhq", "Sig."]) == (
        "umxhq",
        "—",
        "—",
    )
    assert UMXHQ in sepkit.report(where["root"]).read_text(encoding="utf-8")
    assert [each.song for each in sepkit.excerpts(run, where["data"])] == ["V0 - Valid"]


def test_a_checkpoint_is_scored_under_its_name_and_again_where_it_changes(where, tmp_path, capsys):
    file = write_openunmix(tmp_path / "vocals.pth", hidden_size=16)
    place = ["--root", str(where["root"]), "--data", str(where["data"]), "--jobs", "1"]
    call = ["evaluate", "--weights", str(file), "--name", "my-umx", *place]
    assert [main(call), main(call)] == [0, 0]
    assert capsys.readouterr().out.count("score my-umx") == 1
    write_openunmix(file, hidden_size=8)
    assert main(call) == 0
    assert "the run's weights changed" in capsys.readouterr().out
    filtered = sepkit.evaluate(
        sepkit.given("filtered", weights=file, wiener=True, root=where["root"]), n_jobs=1, **where
    )
    plain = where["root"] / "runs" / "my-umx" / "scores.csv"
    assert not filtered["value"].equals(sepkit.storage.read_scores(plain)["value"])
    write_demucs(tmp_path / "net.th", Demucs, channels=4, depth=2)
    demucs = sepkit.given(weights=tmp_path / "net.th", root=where["root"])
    table = sepkit.evaluate(demucs, n_jobs=1, **where)
    assert (set(table["source"]), set(table["accompaniment"])) == ({"vocals", "accompaniment"}, {"modelled"})
    assert list(sepkit.scoreboard(where["root"])["Backbone"]) == ["umxhq", "umxhq", "demucs"]
    with pytest.raises(UsageError, match="estimates drums"):
        sepkit.given(weights=write_openunmix(tmp_path / "drums.pth", hidden_size=8), root=where["root"])
    with pytest.raises(UsageError, match="one of the two"):
        sepkit.given("both", weights=file, estimates=tmp_path, root=where["root"])


def test_training_starts_from_a_file_on_its_network(where, tiny, tmp_path):
    file = write_openunmix(tmp_path / "vocals.pth", hidden_size=16, n_fft=1024)
    run = sepkit.train("F", weights=file, profile=tiny, **where)
    assert (run.name, run.config["model"]["hidden_size"]) == ("F+vocals-s0", 16)
    before, after = torch.load(file, weights_only=True), load_model(run).state_dict()
    kept = {
        name: torch.equal(value, after[f"core.{name}"]) for name, value in before.items() if f"core.{name}" in after
    }
    assert not kept.pop("lstm.weight_hh_l2")  # the last layer is trained, as F trains it
    assert [name for name, same in kept.items() if not same and "_l2" not in name] == []
    assert sepkit.train("F", weights=file, profile=tiny, **where).status == run.status
