"""Runs that nothing here trained: references, and what was made elsewhere. They are scored and compared as others are."""

from pathlib import Path
from typing import Any

from sepkit.errors import UsageError
from sepkit.experiments import MENU, REFERENCES
from sepkit.models import refuse_contaminated
from sepkit.profiles import PROTOCOLS, ProfileLike, get_profile
from sepkit.storage import Root, RootLike, Run, write_json

NOTHING: dict[str, Any] = {
    "epochs": 0, "minutes": 0.0, "gpu_min": 0.0, "vram_mib": 0, "device": "cpu", "parameters": 0
}  # fmt: skip
KINDS = ("estimates",)  # what a configuration says of what was made elsewhere


def given(
    name: str | None = None,
    *,
    estimates: Path | str,
    protocol: str = "2stem",
    root: RootLike = None,
    profile: ProfileLike = None,
) -> Run:
    """A finished run for what another program made; score it with `sepkit.evaluate`.

    estimates: a folder of audio files, test/<song>/vocals.wav as musdb writes them, or <song>/vocals.wav; files that
    change are scored again. name: of the run, which is an experiment of that name; None is the folder's. protocol: 2stem,
    or 4stem for files of all four stems.

    Raises UsageError where there is no such folder, or the name belongs to something else.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}.")
    folder = Path(estimates).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds test/ or the songs' folders.")
    return _make(Root.open(root, profile).run(name or folder.name), profile, protocol, estimates=str(folder))


def reference(run: Run, profile: ProfileLike) -> Run:
    """`run`, finished, where its name is that of a reference."""
    if run.name in REFERENCES and not run.finished:
        _write(run, profile)
    return run


def _make(run: Run, profile: ProfileLike, protocol: str, **facts: Any) -> Run:
    refuse_contaminated(run.name)
    if run.name in MENU or run.name in REFERENCES or run.name.startswith(".") or Path(run.name).name != run.name:
        raise UsageError(f"{run.name!r} can't be the name of what was made elsewhere; give another --name.")
    if (run.path / "config.json").exists() and not any(kind in run.config for kind in KINDS):
        raise UsageError(f"{run.name} under {run.root.path} was trained here; give another --name.")
    _write(run, profile, protocol=protocol, **facts)
    return run


def _write(run: Run, profile: ProfileLike, **facts: Any) -> None:
    named = {"run": run.name, "experiment": run.name, "profile": get_profile(profile).name, "seed": 0, "fold": None}
    write_json(run.path / "config.json", {**named, **facts})
    run.write_status(state="finished", **NOTHING)
