"""Checkpoints as files, and the network in them.

`last.ckpt` holds all that a resumed run needs, `previous.ckpt` the epoch before, `best.ckpt` the epoch of the highest
`valid_sdr`; all load with weights_only=True.  `training.fit` writes them.  Lightning is not imported here: it takes
seconds, and every process that scores songs reads a checkpoint.
"""

import pickle
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sepkit import models
from sepkit.errors import SepkitError
from sepkit.models import own
from sepkit.models.weights import load_weights
from sepkit.storage import drive
from sepkit.storage.copying import within
from sepkit.storage.files import writing
from sepkit.storage.root import Run

COPY_S = 120.0  # at most, of a checkpoint from Drive
# raised by torch and pickle for a file that is cut short, overwritten or something else
UNREADABLE = (OSError, EOFError, RuntimeError, pickle.UnpicklingError, LookupError, ValueError, TypeError)


def kept(run: Run) -> tuple[str, str]:
    """Paths synced to Drive after each epoch."""
    return f"runs/{run.name}", "budget.csv"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Everything in a checkpoint, on the CPU; SepkitError where the file is cut short or holds something else."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's guesses at what the file may be
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]
    except UNREADABLE as error:
        size = path.stat().st_size if path.exists() else 0
        raise SepkitError(
            f"Expected a whole checkpoint in {path}, found {size} bytes that do not load ({type(error).__name__}); train the run again, which goes on from the checkpoint before."
        ) from error
    return checkpoint


def newest(run: Run) -> Path | None:
    """The newest checkpoint of `run` that loads: last.ckpt, or the one before it, with a line; or None."""
    damaged = ""
    for path in filter(Path.exists, (run.last, run.path / "previous.ckpt")):
        try:
            epochs = load_checkpoint(path).get("epoch", -1) + 1
        except SepkitError:
            damaged += f"{path.name} is damaged ({path.stat().st_size} bytes that do not load); "
            continue
        if damaged:
            print(f"{run.name}: {damaged}going on from {path.name}, after epoch {epochs}", flush=True)
        return path
    if damaged:
        print(f"{run.name}: {damaged}starting again at epoch 1", flush=True)
    return None


def best_checkpoint(run: Run) -> dict[str, Any]:
    """best.ckpt; damaged or gone, it is first brought back, with a line, from Drive or the checkpoint of its epoch.

    Raises SepkitError where no whole checkpoint of that epoch is left.
    """
    try:
        return load_checkpoint(run.best)
    except SepkitError as error:
        damage, there = error, run.best.exists()
    status, copy = run.status, drive.drive_folder(run.root)
    on_drive = [copy / "runs" / run.name / "best.ckpt"] if copy else []
    for path in (*on_drive, run.last, run.path / "previous.ckpt") if "best_epoch" in status else on_drive:
        with suppress(SepkitError, OSError):
            with writing(run.best) as part:
                within(COPY_S, shutil.copyfile, path, part, mount="Drive" if path in on_drive else "local")
                found = load_checkpoint(part)
                if found.get("epoch", -1) + 1 != status.get("best_epoch", found.get("epoch", -1) + 1):
                    raise SepkitError("another epoch")
            print(f"{run.name}: best.ckpt was {'damaged' if there else 'gone'}; it is back from {path}", flush=True)
            return found
    if there:
        raise damage
    if "best_epoch" in status:
        raise SepkitError(f"{run.name} has lost its best.ckpt ({run.best} is absent); train it again to restore it.")
    raise SepkitError(f"{run.name} has no best.ckpt yet under {run.path}; train it first.")


def tell_of_code(run: Run) -> None:
    """Prints a line where the file of a network from outside this package has changed since its run was begun."""
    config = run.config
    for file, now in own.code(config["model"]["name"]).items():
        if config.get("code", {}).get(file, now) != now:
            fix = "put the file back, or give the experiment another name"
            print(f"{run.name}: {file} is not as it was when this run was begun; if its network has changed, {fix}.")


def load_model(run: Run, which: str = "best") -> Any:
    """The network of `run` in evaluation mode, built from config.json, with its best or last weights.

    One that normalises over time gets `chunk_s`, the length of its training clips.
    """
    path = run.path / f"{which}.ckpt"
    checkpoint = best_checkpoint(run) if which == "best" else load_checkpoint(path)
    tell_of_code(run)
    model, state = models.build(**run.config["model"]), checkpoint["state_dict"]
    load_weights(model, {key.removeprefix("model."): value for key, value in state.items()}, str(path))
    if model.normalizes_over_time:
        model.chunk_s = run.config["training"]["segment_s"]
    return model.eval()


def take_weights(run: Run, other: Run) -> None:
    """Finishes `run` with the best weights of `other`, a finished one; no minute is spent on it."""
    load_model(other)  # whole, or a sentence
    for name in ("best.ckpt", "history.csv"):
        with writing(run.path / name) as part:
            shutil.copyfile(other.path / name, part)
    nothing = {"minutes": 0.0, "gpu_min": 0.0, "vram_mib": 0}
    run.write_status(**{**other.status, **nothing, "stopped": f"the weights of {other.name}"})
    drive.tell(run.name, drive.push(run.root, only=kept(run)))
