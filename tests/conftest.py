"""MINI sets of songs, a profile that trains in a second, and no settings from outside."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import find_songs, musdb_validation_names
from sepkit.profiles import PROFILES
from sepkit.storage import Root, ledger

for key in [key for key in os.environ if key.startswith("SEPKIT_")]:
    del os.environ[key]
torch.set_num_threads(1)

SOURCES = ("vocals", "drums", "bass", "other")


def write_song(folder, seconds=3.0, rate=44100, seed=0, rest_s=0.0):
    """One MINI song: noise at 0.05, the mixture the exact sum; the vocals rest in the first `rest_s`."""
    rng = np.random.default_rng(seed)
    shape = (round(seconds * rate), 2)
    stems = {source: np.rint(rng.normal(0, 0.05 * 32768, shape)).astype(np.int16) for source in SOURCES}
    stems["vocals"][: round(rest_s * rate)] = 0
    folder.mkdir(parents=True)
    for source, samples in {**stems, "mixture": sum(stems.values())}.items():
        sf.write(folder / f"{source}.wav", samples, rate, subtype="PCM_16")
    return folder


def write_mini(folder, train=2, valid=1, test=1, *, seconds=3.0, rate=44100, rest_s=0.0, musdb_names=False) -> Path:
    """A MINI set; its validation songs stand in validation.txt, or bear names from musdb's own list."""
    chosen = sorted(musdb_validation_names())[:valid] if musdb_names else [f"V{i} - Valid" for i in range(valid)]
    songs = [("train", f"A{i} - Train") for i in range(train)] + [("train", name) for name in chosen]
    songs += [("test", f"T{i} - Test") for i in range(test)]
    for number, (subset, name) in enumerate(songs):
        write_song(folder / subset / name, seconds, rate, number, rest_s)
    if not musdb_names:
        (folder / "validation.txt").write_text("\n".join(chosen) + "\n")
    return folder


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The process's clock counts from the test on, and ends with it."""
    monkeypatch.setattr(ledger, "process_started", time.time)
    yield
    ledger.close_clock()


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """torch's folder of downloads, empty; the net is away."""

    def refuse(*args, **kwargs):
        raise OSError("HTTP Error 403: Forbidden")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


@pytest.fixture(scope="session")
def make_song():
    return write_song


@pytest.fixture(scope="session")
def make_mini():
    return write_mini


@pytest.fixture(scope="session")
def mini_songs(tmp_path_factory):
    """2 training, 1 validation and 1 test song, whose vocals rest in the first 1.2 s; not to be changed."""
    return write_mini(tmp_path_factory.mktemp("mini") / "songs", rest_s=1.2)


@pytest.fixture(scope="session")
def _built(mini_songs, tmp_path_factory):
    root = Root.open(tmp_path_factory.mktemp("built"), "demo")
    build_cache(find_songs(mini_songs), root, CacheSettings(sample_rate=22050), n_jobs=1)
    return root.path / "cache"


@pytest.fixture(scope="session")
def make_root(_built, tmp_path_factory):
    """Makes roots that hold the 22.05 kHz cache of `mini_songs` and nothing else."""

    def make() -> Root:
        path = tmp_path_factory.mktemp("root")
        shutil.copytree(_built, path / "cache")
        return Root.open(path, "demo")

    return make


@pytest.fixture
def root(make_root):
    return make_root()


@pytest.fixture
def cache(mini_songs, root):
    """That cache, opened: float32 slices of the four songs."""
    opened = build_cache(find_songs(mini_songs), root, CacheSettings(sample_rate=22050))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def tiny():
    """The demo profile, cut down to four epochs of a tenth of a second each."""
    return replace(
        PROFILES["demo"],
        segment_s=0.5,
        batch_size=2,
        steps_per_epoch=2,
        valid_segments=1,
        epochs=4,
        patience=None,
        models={
            name: {**settings, "hidden_size": 16} if "hidden_size" in settings else settings
            for name, settings in PROFILES["demo"].models.items()
        },
    )


@pytest.fixture(scope="session")
def trained_root(make_root, mini_songs, tiny):
    """A root with Base as `tiny` trains it, not scored; not to be changed."""
    from sepkit.training.train import train

    root = make_root()
    train("Base", profile=tiny, data=mini_songs, root=root, device="cpu")
    return root


@pytest.fixture(scope="session")
def scored_root(trained_root, mini_songs, tmp_path_factory):
    """The same with the scores of Base and of both references; not to be changed."""
    from sepkit.evaluation.scoring import evaluate_many

    path = tmp_path_factory.mktemp("scored") / "root"
    shutil.copytree(trained_root.path, path)
    root = Root.open(path, "demo")
    runs = [root.run("Base-s0"), "mixture", "oracle"]
    evaluate_many(runs, root=root, data=mini_songs, device="cpu", n_jobs=1)
    return root
