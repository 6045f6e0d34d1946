"""One place per change: each test adds what a user would add in one file, and finds it in scores and report."""

import math
import shutil

import numpy as np
import pytest

import sepkit
import sepkit.models
from sepkit.evaluation import metrics
from sepkit.experiments import MENU, Experiment
from sepkit.profiles import PROFILES, Profile
from sepkit.storage import Root
from sepkit.training import losses

NANO = {"batch_size": 2, "segment_s": 0.5, "steps_per_epoch": 1, "valid_segments": 1, "epochs": 1}


@pytest.fixture
def shown(mini_songs, scored_root, tmp_path):
    """Trains and scores Base and one more experiment; its run, the scoreboard, and the report as text.

    Under the demo profile Base is there already.
    """

    def make(experiment, profile="demo"):
        root = Root.open(tmp_path / "root", profile)
        for part in ("cache", "runs") if profile == "demo" else ("cache",):
            shutil.copytree(scored_root.path / part, root.path / part)
        where = {"profile": profile, "data": mini_songs, "root": root, "device": "cpu"}
        for name in dict.fromkeys(("Base", experiment)):
            run = sepkit.train(name, **where)
            sepkit.evaluate(run, data=mini_songs, n_jobs=1)
        board = sepkit.scoreboard(root).set_index("Exp")
        return run, board, sepkit.report(root).read_text(encoding="utf-8")

    return make


@pytest.fixture
def demo(tiny, monkeypatch):
    """The demo profile is `tiny`."""
    monkeypatch.setitem(PROFILES, "demo", tiny)


def entry_of(**settings):
    return Experiment("Mine", day=4, change="a test", hypothesis="It helps.", epochs=1, **settings)


def test_an_experiment(shown, demo, monkeypatch):
    """One entry of the menu, with settings of its own under two profiles."""
    entry = Experiment(
        "Narrow",
        day=4,
        change="eight hidden units",
        hypothesis="Eight hidden units are enough.",
        extras="8 units",
        loss={"name": "waveform_l1"},
        model={"name": "openunmix-small", "hidden_size": 8},
        profiles={"demo": {"training": {"learning_rate": 5e-3, "epochs": 1}}, "preview": {"training": {"epochs": 7}}},
    )
    monkeypatch.setitem(MENU, entry.name, entry)
    run, board, report = shown("Narrow")
    assert (run.name, run.status["epochs"]) == ("Narrow-s0", 1)
    assert run.config["training"]["learning_rate"] == 5e-3
    assert sepkit.experiments.resolve(entry, PROFILES["preview"])["training"]["epochs"] == 7
    assert board.loc["Narrow", "Extras"] == "8 units"
    assert entry.hypothesis in report
    assert "Narrow" in list(sepkit.plan(pick=["Narrow"], root=run.root, device="cpu")["experiment"])


def test_a_profile(shown, monkeypatch):
    """One entry of the profiles: no module knows its name."""
    entry = Profile("nano", songs="four songs of noise", reduced="nearly everything", **NANO, sample_rate=22050)
    monkeypatch.setitem(PROFILES, entry.name, entry)
    run, board, report = shown("Base", "nano")
    assert (run.config["profile"], run.config["training"]["segment_s"]) == ("nano", 0.5)
    assert "Base" in board.index
    assert "Profile nano: four songs of noise" in report
    assert sepkit.doctor(profile="nano", root=run.root).ok
    assert list(sepkit.plan(profile="nano", pick=["Base"], root=run.root, device="cpu")["experiment"]) == ["Base"]


NETWORK = '''
"""Two gains a channel, learnt."""
import torch
from torch import nn

from sepkit.models import Network

class Model(nn.Module, Network):
    """(batch, channel, time) -> (batch, source, channel, time)."""

    stft = None

    def __init__(self, sources=("vocals", "accompaniment"), sample_rate=44100):
        super().__init__()
        self.sources, self.sample_rate = tuple(sources), sample_rate
        self.gains = nn.Parameter(torch.full((len(self.sources), 2, 1), 0.5))

    def forward(self, mixture):
        return mixture[:, None] * self.gains
'''


def test_a_network(shown, demo, monkeypatch, tmp_path):
    """One file with a class Model, here in a folder of its own."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "two_gains.py").write_text(NETWORK)
    monkeypatch.setattr(sepkit.models, "__path__", [*sepkit.models.__path__, str(tmp_path / "models")])
    entry = entry_of(model={"name": "two-gains"}, loss={"name": "waveform_l1"}, backbone="Two gains")
    monkeypatch.setitem(MENU, "Mine", entry)
    run, board, report = shown("Mine")
    assert run.config["model"]["name"] == "two-gains"
    assert run.status["parameters"] == 4
    assert board.loc["Mine", "Backbone"] == "Two gains"
    assert np.isfinite(board.loc["Mine", "SI-SDR (si_sdr)"])
    assert "Two gains" in report


def test_a_loss(shown, demo, monkeypatch):
    """One function under `@loss`."""
    monkeypatch.setitem(losses.LOSSES, "waveform_mse", None)  # goes with the test

    @losses.loss()
    def waveform_mse(estimate, target):
        return (estimate.waveform - target).square().mean()

    monkeypatch.setitem(MENU, "Mine", entry_of(loss={"name": "waveform_mse"}, extras="squared error"))
    run, board, report = shown("Mine")
    assert run.config["loss"] == {"name": "waveform_mse"}
    assert 0 < run.history()["valid_loss"].iloc[-1] < 0.05**2 * 3  # the stems' noise is 0.05
    assert board.loc["Mine", "Extras"] == "squared error"
    assert "squared error" in report


@pytest.fixture
def level_error_db(monkeypatch):
    """A metric that a user adds; it goes with the test."""
    monkeypatch.setitem(metrics.METRICS, "level_error_db", None)

    @metrics.metric(lower_is_better=True)
    def level_error_db(estimate, target):
        """How far the estimate's level is from the target's, in dB."""
        return abs(10 * math.log10((estimate**2).sum() / (target.signal**2).sum()))

    yield level_error_db
    metrics.LOWER_IS_BETTER.discard("level_error_db")


def test_a_metric(level_error_db, demo, mini_songs, trained_root, tmp_path):
    """One function under `@metric`."""
    target = np.ones((2, 1000))
    assert level_error_db(estimate=0.5 * target, target=target) == pytest.approx(20 * math.log10(2))
    root = Root.open(shutil.copytree(trained_root.path, tmp_path / "root"), "demo")
    run = root.run("Base-s0")
    scores = sepkit.evaluate(run, data=mini_songs, n_jobs=1)
    found = scores[scores["metric"] == "level_error_db"]
    assert set(found["source"]) == {"vocals", "accompaniment"}
    assert (found["value"] > 0).all()
    assert "level_error_db" in sepkit.report(root).read_text(encoding="utf-8")
    mixture = sepkit.reference("mixture", profile="demo", data=mini_songs, root=root, n_jobs=1)
    test = sepkit.compare(mixture, run, metric="level_error_db")
    louder = mixture.scores().query("metric == 'level_error_db' and source == 'vocals'")["value"].iloc[0]
    own = found.set_index("source").loc["vocals", "value"]
    assert test.median_difference == pytest.approx(louder - own, abs=1e-3)
