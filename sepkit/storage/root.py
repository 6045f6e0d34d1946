"""The root folder and its runs: what lies where, and how it is read.

cache/<kind>-<fingerprint>/<song>.h5 (`sepkit.data`), songs/ (those that are made or downloaded),
runs/<run>/ (`Run`), budget.csv, exclude.txt, and what reporting writes: scoreboard.*, results/, report/.
"""

import os
import platform
import subprocess
import time
import uuid
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit import parallel
from sepkit.errors import SepkitError, UsageError
from sepkit.profiles import ProfileLike, get_profile
from sepkit.storage.files import append_lines, digest, read_json, read_names, write_json
from sepkit.storage.scores import read_scored
from sepkit.storage.spreadsheets import as_line, make_plain, read_ledger

# what Drive keeps of a root: all but the songs
SYNCED = (
    "runs/*/*", "budget.csv", "exclude.txt", "easy_and_hard.json", "predictions.json", "plan.csv", "scoreboard.*",
    "results/*", "results/*/*/*", "report/*", "report/figures/*", "torch/hub/checkpoints/*.pth", "cache/*/*",
)  # fmt: skip
BUDGET_COLUMNS = ["time", "run", "stage", "epoch", "minutes", "gpu_min", "device", "vram_mib", "id"]
BUDGET_HEADER = ",".join(BUDGET_COLUMNS).encode()
LOCK = ".lock"  # held by the process that trains a run, until it ends; no sync copies or replaces it
# packages whose versions `doctor` shows and a run's status.json keeps
VERSIONED = (
    "torch", "torchaudio", "lightning", "torchmetrics", "openunmix", "demucs", "musdb", "museval", "numpy",
    "scipy", "pandas", "h5py", "soundfile", "librosa", "matplotlib", "ipywidgets", "papermill", "nbval",
)  # fmt: skip


def run_name(experiment: str, seed: int, fold: int | None = None) -> str:
    return f"{experiment}-s{seed}" + (f"-f{fold}" if fold is not None else "")


def roots_folder() -> Path:
    """The folder of roots, one a profile: SEPKIT_ROOT, or ~/sepkit-root."""
    return Path(os.environ.get("SEPKIT_ROOT") or "~/sepkit-root").expanduser()


@dataclass(frozen=True)
class Root:
    """The folder that holds everything that sepkit writes; one profile a root."""

    path: Path

    @classmethod
    def at(cls, root: "RootLike" = None, profile: ProfileLike = None) -> "Root":
        """The root at `root`, which need not exist; None: <SEPKIT_ROOT or ~/sepkit-root>/<profile>.

        Raises UsageError for a relative SEPKIT_ROOT (a notebook runs in another folder than the shell) and for one that
        is itself a root, as what --root names.
        """
        if isinstance(root, Root):
            return root
        if root:
            return cls(Path(root).expanduser().resolve())
        roots, name = roots_folder(), get_profile(profile).name
        if not roots.is_absolute():
            raise UsageError(f"Expected SEPKIT_ROOT to be a whole path, got {roots}; set it to {roots.absolute()}.")
        if (roots / "runs").is_dir():
            raise UsageError(
                f"Expected SEPKIT_ROOT={roots} to hold one root a profile, but it has runs of its own; move its content to {roots / name}, or give it as --root."
            )
        return cls((roots / name).resolve())

    @classmethod
    def open(cls, root: "RootLike" = None, profile: ProfileLike = None) -> "Root":
        """The root as in `at`, made where it is absent."""
        opened, mount = cls.at(root, profile), os.environ.get("SEPKIT_MOUNT")
        if mount and opened.path.is_relative_to(mount) and not os.path.ismount(mount):  # it would be a local folder
            raise SepkitError(f"{opened.path} lies on Drive, which is not mounted; mount it, or give a local --root.")
        try:
            opened.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"The folder for results {opened.path} can't be made ({error.strerror})"
            if opened.path.is_file():
                reason = f"Expected a folder for results at {opened.path}, found a file"
            raise SepkitError(f"{reason}; give another --root.") from error
        return opened

    def run(self, name: str) -> "Run":
        return Run(self, name)

    def run_of(self, experiment: str, seed: int = 0, fold: int | None = None) -> "Run":
        return self.run(run_name(experiment, seed, fold))

    def runs(self) -> list["Run"]:
        """All runs with a configuration, by name."""
        return [Run(self, file.parent.name) for file in sorted(self.path.glob("runs/*/config.json"))]

    def scored_runs(self, experiment: str | None = None, *, folds: bool = False) -> list["Run"]:
        """The runs that count: finished and scored, of `experiment` or of all; of the usual split, or of folds."""
        scored = [run for run in self.runs() if run.scored and folds == (run.config.get("fold") is not None)]
        return [run for run in scored if experiment in (None, run.config.get("experiment"))]

    def excluded(self) -> tuple[str, ...]:
        """The lines of exclude.txt, whose songs no stage uses; `sepkit.data.songs.named` finds these."""
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
        gpus: int = 1,
    ) -> None:
        """Appends one row to budget.csv; the minutes are GPU minutes, of each of `gpus`, wherever a GPU is attached.

        Its id, unlike any other, tells it from rows of another runtime when two ledgers become one.
        """
        when, gpu_min = time.strftime("%Y-%m-%dT%H:%M:%S"), gpus * minutes if gpu_attached else 0
        row = [when, run, stage, epoch, f"{minutes:.4f}", f"{gpu_min:.4f}", device, f"{vram_mib:.0f}", uuid.uuid4().hex]
        self.path.mkdir(parents=True, exist_ok=True)
        make_plain(self.path / "budget.csv", BUDGET_HEADER)
        append_lines(self.path / "budget.csv", BUDGET_HEADER, [as_line(row)])

    def budget(self) -> pd.DataFrame:
        """Every minute spent so far, in rows of at most a minute: those of a run and stage add up."""
        from sepkit.storage.ledger import book_now  # which imports this module

        book_now(self)
        table = pd.DataFrame(read_ledger(self.path / "budget.csv"), columns=BUDGET_COLUMNS)
        numbers = ["epoch", "minutes", "gpu_min", "vram_mib"]
        return table.assign(**table[numbers].apply(pd.to_numeric).astype(float))


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

    def weights(self) -> str | None:
        """A fingerprint of the best weights, hexadecimal; None for a reference, or where there are none."""
        return digest(self.best) if self.best.exists() else None

    @property
    def scores_path(self) -> Path:
        return self.path / "scores.csv"

    @property
    def config(self) -> dict[str, Any]:
        file = self.path / "config.json"
        if not file.exists():
            raise SepkitError(f"There is no run {self.name!r} under {self.root.path}; train it first.")
        return read_json(file, "the configuration of a run")

    @property
    def status(self) -> dict[str, Any]:
        file = self.path / "status.json"
        return read_json(file, "the status of a run") if file.exists() else {"state": "absent"}

    def write_status(self, **values: Any) -> None:
        write_json(self.path / "status.json", {**values, "versions": versions(), "git_revision": git_revision()})

    def alone(self) -> AbstractContextManager[None]:
        """Waits, with a line, while another process trains this run, whose folder is made where it is missing."""
        self.path.mkdir(parents=True, exist_ok=True)
        return parallel.locked(self.path / LOCK, f"{self.name} is being trained")

    @property
    def state(self) -> str:
        """absent, running, finished, failed, or stopped: no process of this machine trains what was begun."""
        state = self.status["state"]
        return "stopped" if state == "running" and parallel.held(self.path / LOCK) is False else state

    @property
    def standing(self) -> str:
        """The state of a run that is not finished, in words."""
        if self.state != "stopped":
            return f"is {self.state}, not finished"
        epochs = len(self.history()) if (self.path / "history.csv").exists() else 0
        return f"was stopped after {epochs} epoch{'s'[: epochs != 1]}; the same call goes on"

    @property
    def finished(self) -> bool:
        return self.status["state"] == "finished"

    @property
    def scored(self) -> bool:
        """Finished, with scores of test songs (perhaps only the first ones, after a kill)."""
        return self.finished and self.scores_path.exists()

    def history(self) -> pd.DataFrame:
        """One row an epoch: losses, learning rate, seconds, peak GPU memory."""
        path = self._made("history.csv", "has no finished epoch", "train")
        with suppress(ValueError):
            table = pd.read_csv(path)
            if {"epoch", "seconds"} & {*table}:
                return table
        raise SepkitError(f"Expected a row an epoch in {path}, but it can't be read; train {self.name} to mend it.")

    def scores(self) -> pd.DataFrame:
        """scores.csv and its windows as a table; see `read_scores` and `with_windows`."""
        return read_scored(self._made("scores.csv", "is not scored", "evaluate"))

    def _made(self, file: str, lack: str, verb: str) -> Path:
        if not (self.path / file).exists():
            raise SepkitError(f"{self.name} {lack} yet ({self.path / file} is absent); {verb} it first.")
        return self.path / file


RootLike = Path | str | Root | None  # of calls: a root, its folder, or None for the default
DataLike = Path | str | None  # of calls: a folder of songs, or None for SEPKIT_DATA, else the profile's own songs


def versions() -> dict[str, str]:
    """Python's version and those of the packages of VERSIONED that are installed."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def git_revision() -> str | None:
    """The revision of the code in use; None outside a git checkout."""
    call = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(call, capture_output=True, text=True, timeout=10, check=False).stdout.strip() or None
    return None
