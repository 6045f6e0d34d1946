"""A root as after a short week: known scores, an unfinished run, an undefined score, a budget."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sepkit.storage import Root, write_csv, write_json

SONGS = [f"Band {letter} - Song {number}" for number, letter in enumerate("ABCDEFGHIJKL", 1)]
BASE_DB = np.array([1.0, 1.6, 2.1, 2.7, 3.0, 3.4, 3.9, 4.4, 5.0, 5.7, 6.2, 7.0])
SPREAD = np.array([-0.31, 0.22, -0.13, 0.05, 0.34, -0.27, 0.11, -0.02, 0.17, -0.38, 0.29, -0.07])
METRICS = ("sdr_bsseval", "isr_bsseval", "sir_bsseval", "sar_bsseval", "sdr_global", "si_sdr", "silence_energy_db")
ABOVE_SDR = {
    "sdr_bsseval": 0.0,
    "isr_bsseval": 4.0,
    "sir_bsseval": 6.0,
    "sar_bsseval": 1.0,
    "sdr_global": -0.5,
    "si_sdr": -0.8,
    "silence_energy_db": -40.0,
}


def score_rows(
    run: str,
    vocals: np.ndarray,
    *,
    songs: list[str] | None = None,
    seed: int = 0,
    fold: int | None = None,
    protocol: str = "2stem",
    origin: str = "residual",
    undefined: str = "",
) -> pd.DataFrame:
    """scores.csv of a run whose sdr_bsseval of vocals is `vocals`; the accompaniment is 6 dB above."""
    sources = {"vocals": 0.0, "accompaniment": 6.0}
    if protocol == "4stem":
        sources = {"vocals": 0.0, "drums": 0.5, "bass": -0.5, "other": -1.0}
    rows = []
    for song, value in zip(songs or SONGS, vocals, strict=True):
        for source, above in sources.items():
            for metric in METRICS:
                gone = song == undefined and source == "vocals" and metric.endswith("bsseval")
                rows.append(
                    {
                        "run": run,
                        "experiment": run.split("-")[0],
                        "seed": seed,
                        "fold": fold,
                        "track": song,
                        "source": source,
                        "metric": metric,
                        "value": np.nan if gone else value + above + ABOVE_SDR[metric],
                        "protocol": protocol,
                        "frames": 0 if gone else 18,
                        "frames_dropped": 20 if gone else 2,
                        "status": "undefined: silent target" if gone else "ok",
                        "accompaniment": origin if source == "accompaniment" else None,
                    }
                )
    return pd.DataFrame(rows)


def add_run(
    root: Root,
    run: str,
    scores: pd.DataFrame | None,
    *,
    state: str = "finished",
    seed: int = 0,
    fold: int | None = None,
    loss: str = "magnitude_l1",
    device: str = "Tesla T4",
    minutes: float = 30.0,
) -> None:
    """A run folder: configuration, status, history and, where given, scores."""
    experiment = run.split("-")[0]
    folder = root.path / "runs" / run
    config = {"run": run, "experiment": experiment, "profile": "demo", "seed": seed, "fold": fold}
    epochs = 12
    if experiment in ("mixture", "oracle"):
        write_json(folder / "config.json", {key: config[key] for key in ("run", "experiment", "profile")})
        write_json(folder / "status.json", {"state": state})
    else:
        write_json(folder / "config.json", {**config, "model": {"name": "openunmix-small"}, "loss": {"name": loss}})
        steps = np.arange(epochs)
        # the loss is least in epoch 7, the SDR highest in epoch 9
        bend, scale = 0.008 * np.maximum(steps - 6, 0), 0.8 + (ord(experiment[0]) - 65) / 20
        history = pd.DataFrame(
            {
                "epoch": steps + 1,
                "train_loss": (0.10 * np.exp(-steps / 4) + 0.02) * scale,
                "valid_loss": (0.11 * np.exp(-steps / 4) + 0.028 + bend) * scale,
                "valid_sdr": 6 - 5 * np.exp(-steps / 4) - 0.3 * np.maximum(steps - 8, 0),
                "learning_rate": 3e-4 * (1 + np.cos(np.pi * steps / 20)) / 2,
                "seconds": minutes * 60 / epochs,
                "vram_mib": 2900,
            }
        )
        write_csv(folder / "history.csv", history)
        gpu = device != "cpu"
        status = {
            "state": state, "epochs": epochs, "best_epoch": 9, "stopped": "early, after 3 epochs without improvement",
            "last_learning_rate": 1.4e-4, "minutes": minutes, "gpu_min": minutes if gpu else 0.0,
            "vram_mib": 2900 if gpu else 0, "device": device, "parameters": 3086088,
        }  # fmt: skip
        write_json(folder / "status.json", status if state == "finished" else {"state": state, "device": device})
        for epoch in range(1, epochs + 1):
            root.add_minutes(
                run=run,
                stage="train",
                minutes=minutes / epochs,
                device=device,
                gpu_attached=gpu,
                epoch=epoch,
                vram_mib=2900,
            )
        root.add_minutes(run=run, stage="evaluate", minutes=4.0, device=device, gpu_attached=gpu)
    if scores is not None:
        write_csv(folder / "scores.csv", scores)


def make_week(path: Path) -> Root:
    """Base, C (1 dB better on every song), D (no clear difference), E (unfinished), the two references."""
    root = Root.open(path, "demo")
    add_run(root, "Base-s0", score_rows("Base-s0", BASE_DB))
    add_run(root, "C-s0", score_rows("C-s0", BASE_DB + 1 + SPREAD / 2), loss="phase_consistency", minutes=41.0)
    add_run(root, "D-s0", score_rows("D-s0", BASE_DB + SPREAD, undefined=SONGS[2]), minutes=33.0)
    add_run(root, "G-s0", score_rows("G-s0", BASE_DB - 2 + SPREAD, origin="modelled"), minutes=52.0)
    add_run(root, "E-s0", None, state="running", minutes=12.0)
    add_run(root, "mixture", score_rows("mixture", np.full(12, -5.0) + SPREAD))
    add_run(root, "oracle", score_rows("oracle", BASE_DB + 5))
    return root


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_week(tmp_path_factory.mktemp("made") / "root").path


@pytest.fixture(scope="session")
def week(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The week, shared by tests that change nothing that was measured."""
    return Root.open(shutil.copytree(made, tmp_path_factory.mktemp("week") / "root"), "demo")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Root:
    """The same for one test, which may change it."""
    return Root.open(shutil.copytree(made, tmp_path / "root"), "demo")


@pytest.fixture(scope="session")
def helpers():
    """What tests build with: importlib mode has no `import conftest`."""

    class Helpers:
        songs, base_db, spread = SONGS, BASE_DB, SPREAD
        rows = staticmethod(score_rows)
        add = staticmethod(add_run)

    return Helpers
