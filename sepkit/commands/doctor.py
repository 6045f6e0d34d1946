"""`doctor`: is this machine, and are these songs, fit for work?"""

import os
import platform
import shutil
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sepkit.data.check import SHORT_S, Problem, check_folder
from sepkit.data.songs import find_songs
from sepkit.errors import SepkitError
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root, default_root

PACKAGES = (
    "torch", "torchaudio", "lightning", "torchmetrics", "openunmix", "demucs", "musdb", "museval", "numpy",
    "scipy", "pandas", "h5py", "soundfile", "librosa", "matplotlib", "ipywidgets", "papermill", "nbval",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What was found: `ok` is False where a problem blocks; `layout` is wav, stem.mp4 or preview."""

    ok: bool
    layout: str | None
    splits: dict[str, int]
    hours: float
    problems: list[Problem]
    environment: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fixed form that `doctor --json` prints; strict JSON."""
        return {
            "ok": self.ok,
            "layout": self.layout,
            "splits": self.splits,
            "hours": round(self.hours, 4),
            "problems": [problem.to_dict() for problem in self.problems],
            "environment": self.environment,
        }

    def __str__(self) -> str:
        lines = [f"{key}: {value}" for key, value in self.environment.items() if key != "versions"]
        lines.append(
            "versions: " + ", ".join(f"{k} {v}" for k, v in self.environment.get("versions", {}).items())
        )
        if self.layout:
            counts = ", ".join(f"{count} {split}" for split, count in self.splits.items())
            lines.append(f"songs: layout {self.layout}, {counts}, {self.hours:.2f} hours")
        else:
            lines.append("songs: none looked at (give --data, or use the demo profile, which makes its own)")
        for problem in self.problems:
            lines.append(f"{'BLOCKS' if problem.blocking else 'note'}: {problem}")
        lines.append("ok" if self.ok else "not ok: see the lines that begin with BLOCKS")
        return "\n".join(lines)


def doctor(
    data: Path | str | None = None,
    *,
    root: Path | str | Root | None = None,
    profile: str | None = None,
    n_jobs: int = -1,
) -> Report:
    """Looks at the environment and, where `data` (or SEPKIT_DATA) names a folder, at all its songs.

    A folder without songs is a blocking problem, not an exception.
    """
    data = data or os.environ.get("SEPKIT_DATA") or None
    splits = {"train": 0, "valid": 0, "test": 0}
    layout, hours, problems = None, 0.0, _environment_problems()
    path = (
        root.path
        if isinstance(root, Root)
        else Path(root).expanduser()
        if root
        else default_root(get_profile(profile))
    )
    if data is not None:
        try:
            folder = find_songs(data, Root(path).excluded())
        except SepkitError as error:
            fix = "give the folder that holds train/ and test/"
            problems.append(
                Problem("", str(data), "no songs", "songs in train/ and test/", str(error), fix, True)
            )
        else:
            hours, median_s, found = check_folder(folder, n_jobs)
            problems += found
            splits = folder.counts
            layout = "preview" if folder.layout == "stem.mp4" and median_s < SHORT_S else folder.layout
    ok = not any(problem.blocking for problem in problems)
    return Report(ok, layout, splits, hours, problems, environment(path, get_profile(profile)))


def environment(root: Path, profile: Profile) -> dict[str, Any]:
    """Versions, device and precision of training, cores, free disk, Drive, ffmpeg."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    drive = os.environ.get("SEPKIT_DRIVE")
    return {
        "python": platform.python_version(),
        "device": _device(),
        "precision": _precision(profile),
        "cores": os.cpu_count(),
        "root": str(root),
        "free_disk_gb": round(shutil.disk_usage(existing).free / 1e9, 1),
        "drive": drive if drive and Path(drive).exists() else None,
        "ffmpeg": shutil.which("ffmpeg"),
        "versions": versions,
    }


def _precision(profile: Profile) -> str:
    from sepkit.devices import pick_device, precision

    words = {"16-mixed": "float16 mixed, STFT in float32", "bf16-mixed": "bfloat16 mixed, STFT in float32"}
    return words.get(precision(pick_device(None), bfloat16=profile.bfloat16), "float32")


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _environment_problems() -> list[Problem]:
    problems = []
    for name in ("torch", "lightning", "openunmix", "h5py", "soundfile"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            fix = "pip install -r requirements.txt"
            problems.append(
                Problem("", "requirements.txt", "missing package", name, "not installed", fix, True)
            )
    return problems
