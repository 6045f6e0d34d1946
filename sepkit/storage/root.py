"""The root folder and its runs: what lies where, and how it is read.

cache/<kind>-<fingerprint>/<song>.h5 (`sepkit.data`), songs/ (those that are made or downloaded),
runs/<run>/ (`Run`), budget.csv, exclude.txt, and what reporting writes: scoreboard.*, results/, report/.
"""

import csv
import io
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.profiles import Profile, get_profile
from sepkit.storage.files import read_json, read_names, write_json

# what Drive keeps of a root: all but the songs
SYNCED = (
    "runs/*/*", "budget.csv", "exclude.txt", "scoreboard.*", "results/*", "results/*/*/*", "report/*",
    "report/figures/*", "cache/*/*",
)  # fmt: skip
BUDGET_COLUMNS = ("time", "run", "stage", "epoch", "minutes", "gpu_min", "device", "vram_mib")
SCORE_DECIMALS = 6  # of a dB in scores.csv; beyond them a sum's order decides
# packages whose versions `doctor` shows and a run's status.json keeps
VERSIONED = (
    "torch", "torchaudio", "lightning", "torchmetrics", "openunmix", "demucs", "musdb", "museval", "numpy",
    "scipy", "pandas", "h5py", "soundfile", "librosa", "matplotlib", "ipywidgets", "papermill", "nbval",
)  # fmt: skip


def read_scores(path: Path) -> pd.DataFrame:
    """scores.csv, every value as it was written; undefined ones are NaN with a reason in `status`."""
    empty = {name: [""] for name in ("value", "fold", "accompaniment")}  # a song may be called "NA"
    kinds: Any = {"track": str, "run": str, "accompaniment": object, "value": float}
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    return table.round({"value": SCORE_DECIMALS})  # pandas before 3 changes some last digits


def default_root(profile: Profile) -> Path:
    return Path(os.environ.get("SEPKIT_ROOT") or Path.home() / "sepkit-root" / profile.name)


def run_name(experiment: str, seed: int, fold: int | None = None) -> str:
    return f"{experiment}-s{seed}" + (f"-f{fold}" if fold is not None else "")


@dataclass(frozen=True)
class Root:
    """The folder that holds everything that sepkit writes; one profile a root."""

    path: Path

    @classmethod
    def open(cls, root: "Path | str | Root | None", profile: Profile | str | None = None) -> "Root":
        """The root at `root` (or SEPKIT_ROOT, or ~/sepkit-root/<profile>), made where it is absent."""
        if isinstance(root, Root):
            return root
        path = (Path(root).expanduser() if root else default_root(get_profile(profile))).resolve()
        if path.exists() and not path.is_dir():
            raise SepkitError(f"Expected a folder for results at {path}, found a file; give another --root.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SepkitError(
                f"The folder for results {path} can't be made ({error.strerror}); give another --root."
            ) from error
        return cls(path)

    def run(self, name: str) -> "Run":
        return Run(self, name)

    def run_of(self, experiment: str, seed: int = 0, fold: int | None = None) -> "Run":
        """The run of an experiment's seed and fold."""
        return self.run(run_name(experiment, seed, fold))

    def runs(self) -> list["Run"]:
        """All runs with a configuration, by name."""
        return [Run(self, file.parent.name) for file in sorted(self.path.glob("runs/*/config.json"))]

    def scored_runs(self, experiment: str | None = None, *, folds: bool = False) -> list["Run"]:
        """The runs that count: finished and scored, of `experiment` or of all; of the usual split, or of folds."""
        return [
            run
            for run in self.runs()
            if run.scored
            and experiment in (None, run.config.get("experiment"))
            and folds == (run.config.get("fold") is not None)
        ]

    def excluded(self) -> tuple[str, ...]:
        """Names in exclude.txt: songs that no stage uses (one a line, # comments)."""
        return read_names(self.path / "exclude.txt")

    def add_minutes(
        self,
        *,
        run: str,
        stage: str,
        minutes: float,
        device: str,
        gpu_attached: bool,
        epoch: int | None = None,
        vram_mib: float = 0.0,
    ) -> None:
        """Appends one row to budget.csv; the minutes are GPU minutes wherever a GPU is attached."""
        row = (
            time.strftime("%Y-%m-%dT%H:%M:%S"), run, stage, "" if epoch is None else epoch, f"{minutes:.4f}",
            f"{minutes if gpu_attached else 0:.4f}", device, f"{vram_mib:.0f}",
        )  # fmt: skip
        self.path.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        with (self.path / "budget.csv").open("a+b") as file:
            if not file.seek(0, os.SEEK_END):
                csv.writer(text).writerow(BUDGET_COLUMNS)
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill in the middle of a row
                    text.write("\n")
            csv.writer(text).writerow(row)
            file.write(text.getvalue().encode())  # one write: processes append side by side

    def budget(self) -> pd.DataFrame:
        """Every minute spent so far, in rows of at most a minute: those of a run and stage add up."""
        file = self.path / "budget.csv"
        if not file.exists():
            return pd.DataFrame(columns=list(BUDGET_COLUMNS))
        table = pd.read_csv(file, names=list(BUDGET_COLUMNS), header=None, dtype=str, on_bad_lines="skip")
        numbers = ["epoch", "minutes", "gpu_min", "vram_mib"]
        table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
        # drops headers (two runs that began together write two) and rows that a kill cut short
        return table.dropna(subset=numbers[1:]).reset_index(drop=True)


@dataclass(frozen=True)
class Run:
    """One trained (or reference) run: a folder under runs/."""

    root: Root
    name: str

    @property
    def path(self) -> Path:
        return self.root.path / "runs" / self.name

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def scores_path(self) -> Path:
        return self.path / "scores.csv"

    @property
    def config(self) -> dict[str, Any]:
        if not (self.path / "config.json").exists():
            raise SepkitError(f"There is no run {self.name!r} under {self.root.path}; train it first.")
        return read_json(self.path / "config.json", "the configuration of a run")

    @property
    def status(self) -> dict[str, Any]:
        file = self.path / "status.json"
        return read_json(file, "the status of a run") if file.exists() else {"state": "absent"}

    def write_status(self, **values: Any) -> None:
        facts = {"versions": versions(), "git_revision": git_revision()}
        write_json(self.path / "status.json", {**values, **facts})

    @property
    def finished(self) -> bool:
        return self.status["state"] == "finished"

    @property
    def scored(self) -> bool:
        """Finished, with scores of test songs (perhaps only the first ones, after a kill)."""
        return self.finished and self.scores_path.exists()

    def history(self) -> pd.DataFrame:
        """One row an epoch: losses, learning rate, seconds, peak GPU memory."""
        file = self.path / "history.csv"
        if not file.exists():
            raise SepkitError(f"{self.name} has no finished epoch yet ({file} is absent); train it first.")
        return pd.read_csv(file)

    def scores(self) -> pd.DataFrame:
        """scores.csv as a table; see `read_scores`."""
        if not self.scores_path.exists():
            raise SepkitError(f"{self.name} is not scored yet ({self.scores_path} is absent); evaluate it first.")
        return read_scores(self.scores_path)


def versions() -> dict[str, str]:
    """Python's version and those of the packages of VERSIONED that are installed."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_revision() -> str | None:
    """The revision of the code in use; None outside a git checkout."""
    call = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        answer = subprocess.run(call, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
