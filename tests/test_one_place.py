"""One place per change: each test adds what a user would add in one file, and finds it in scores and report."""

from dataclasses import replace

import pytest

import sepkit
from sepkit.experiments import MENU, Experiment
from sepkit.profiles import PROFILES, Profile

NANO = {"batch_size": 2, "segment_s": 0.5, "steps_per_epoch": 1, "valid_segments": 1, "epochs": 1}


@pytest.fixture
def shown(mini_songs, root):
    """Trains and scores Base and one more experiment; its run, the scoreboard, and the report as text."""

    def make(experiment, profile="demo"):
        where = {"profile": profile, "data": mini_songs, "root": root, "device": "cpu"}
        for name in dict.fromkeys(("Base", experiment)):
            run = sepkit.train(name, **where)
            sepkit.evaluate(run, data=mini_songs, n_jobs=1)
        board = sepkit.scoreboard(root).set_index("Exp")
        return run, board, sepkit.report(root).read_text(encoding="utf-8")

    return make


def test_an_experiment(shown, tiny, monkeypatch):
    """One entry of the menu, with settings of its own under two profiles."""
    entry = Experiment(
        "Narrow",
        day=4,
        change="eight hidden units",
        hypothesis="Eight hidden units are enough.",
        extras="8 units",
        loss={"name": "waveform_l1"},
        model={"name": "openunmix-small", "hidden_size": 8},
        profiles={
            "demo": {"training": {"learning_rate": 5e-3, "epochs": 1}},
            "preview": {"training": {"epochs": 7}},
        },
    )
    monkeypatch.setitem(MENU, entry.name, entry)
    monkeypatch.setitem(PROFILES, "demo", replace(tiny, epochs=1, steps_per_epoch=1))
    run, board, report = shown("Narrow")
    assert (run.name, run.status["epochs"]) == ("Narrow-s0", 1)
    assert run.config["training"]["learning_rate"] == 5e-3
    assert sepkit.experiments.resolve(entry, PROFILES["preview"])["training"]["epochs"] == 7
    assert board.loc["Narrow", "Extras"] == "8 units"
    assert entry.hypothesis in report
    assert "Narrow" in list(sepkit.plan(pick=["Narrow"], root=run.root, device="cpu")["experiment"])


def test_a_profile(shown, monkeypatch):
    """One entry of the profiles: no module knows its name."""
    entry = Profile(
        "nano", songs="four songs of noise", reduced="nearly everything", **NANO, sample_rate=22050
    )
    monkeypatch.setitem(PROFILES, entry.name, entry)
    run, board, report = shown("Base", "nano")
    assert (run.config["profile"], run.config["training"]["segment_s"]) == ("nano", 0.5)
    assert "Base" in board.index
    assert "Profile nano: four songs of noise" in report
    assert sepkit.doctor(profile="nano", root=run.root).ok
    assert list(sepkit.plan(profile="nano", pick=["Base"], root=run.root, device="cpu")["experiment"]) == [
        "Base"
    ]
