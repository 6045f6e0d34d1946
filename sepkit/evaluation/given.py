"""Runs that nothing here trained: references, and what was made elsewhere. They are scored and compared as others are."""

from pathlib import Path
from typing import Any

import torch

from sepkit import models
from sepkit.errors import UsageError
from sepkit.experiments import MENU, REFERENCES
from sepkit.models import umxhq
from sepkit.models.files import network_of
from sepkit.profiles import PROTOCOLS, ProfileLike, get_profile
from sepkit.storage import Root, RootLike, Run, write_json, writing
from sepkit.storage.files import digest

NOTHING: dict[str, Any] = {
    "epochs": 0, "minutes": 0.0, "gpu_min": 0.0, "vram_mib": 0, "device": "cpu", "parameters": 0
}  # fmt: skip
KINDS = ("estimates", "weights")  # what a configuration says of what was made elsewhere


def given(
    name: str | None = None,
    *,
    estimates: Path | str | None = None,
    weights: Path | str | None = None,
    wiener: bool = False,
    protocol: str = "2stem",
    root: RootLike = None,
    profile: ProfileLike = None,
) -> Run:
    """A finished run for what another program made; score it with `sepkit.evaluate`.

    estimates: a folder of audio files, test/<song>/vocals.wav as musdb writes them, or <song>/vocals.wav; or weights: a
    checkpoint of openunmix or demucs, or "umxhq". What changes is scored again. name: of the run, which is an experiment
    of that name; None is the file's or folder's. protocol: 2stem, or 4stem where all four stems are estimated. wiener: with
    openunmix's Wiener filter, where the weights are its.

    Raises UsageError where there is no such folder or file, or the name belongs to something else.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}.")
    if (estimates is None) == (weights is None):
        raise UsageError("Expected a folder of estimates or a file of weights, one of the two.")
    root = Root.open(root, profile)
    if weights is not None:
        return _network(root.run(name or Path(weights).stem), weights, profile, wiener, protocol=protocol)
    folder = Path(str(estimates)).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds test/ or the songs' folders.")
    run = root.run(name or folder.name)
    _check_name(run)
    _write(run, profile, protocol=protocol, estimates=str(folder))
    return run


def _network(run: Run, weights: Path | str, profile: ProfileLike, wiener: bool, **facts: Any) -> Run:
    """`run` with the network of a file, as a checkpoint of the kind that training writes."""
    if run.name not in REFERENCES:
        _check_name(run)
    file = umxhq.fetch() if str(weights) == "umxhq" else Path(weights).expanduser()
    model, settings = network_of(file, **({"wiener": True} if wiener else {}))
    if "vocals" not in settings["sources"]:
        raise UsageError(f"{file} estimates {', '.join(settings['sources'])}; what is scored here estimates vocals.")
    made_from = {"weights": str(file), "digest": digest(file), "model": settings}
    if not run.best.exists() or {key: run.config.get(key) for key in made_from} != made_from:
        with writing(run.best) as part:
            torch.save({"state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}, part)
    _write(run, profile, **made_from, **facts)
    return run


def reference(run: Run, profile: ProfileLike) -> Run:
    """`run`, finished, where its name is that of a reference."""
    if run.name == "umxhq" and not (run.finished and run.best.exists()):
        return _network(run, "umxhq", profile, wiener=False, protocol="2stem")
    if run.name in REFERENCES and not run.finished:
        _write(run, profile)
    return run


def _check_name(run: Run) -> None:
    models.refuse_contaminated(run.name)
    if run.name in MENU or run.name in REFERENCES or run.name.startswith(".") or Path(run.name).name != run.name:
        raise UsageError(f"{run.name!r} can't be the name of what was made elsewhere; give another --name.")
    if (run.path / "config.json").exists() and not any(kind in run.config for kind in KINDS):
        raise UsageError(f"{run.name} under {run.root.path} was trained here; give another --name.")


def _write(run: Run, profile: ProfileLike, **facts: Any) -> None:
    named = {"run": run.name, "experiment": run.name, "profile": get_profile(profile).name, "seed": 0, "fold": None}
    write_json(run.path / "config.json", {**named, **facts})
    run.write_status(state="finished", **NOTHING)
