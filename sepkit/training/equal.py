"""Equal minutes: how many epochs each experiment gets for the same time, measured side by side.

The epochs go into the entries of the menu, `profiles`, so that `train` repeats a run to the bit.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from sepkit.data.folds import split_songs
from sepkit.devices import device_name, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.parallel import progress
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root
from sepkit.storage.ledger import spending
from sepkit.training.fit import computing, prepare
from sepkit.training.timing import STEPS, StepTimer
from sepkit.training.train import training_cache


def equal_epochs(
    experiments: Iterable[str | Experiment],
    *,
    minutes: float,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """How many epochs of each experiment take at most `minutes`, validation included.

    Times full training steps at the final clip length, the experiments taking turns, and a validation.

    Columns: experiment, step_s, valid_s (a whole validation), epoch_s, epochs, minutes (of these epochs).
    Raises UsageError where one epoch takes longer than that.
    """
    if not minutes > 0:  # nan included
        raise UsageError(f"Expected minutes above 0, got {minutes}.")
    profile, device = get_profile(profile), pick_device(device)
    root = Root.open(root, profile)
    work = {}
    with computing(device), spending(root, stage="plan", device=device_name(device)):
        for experiment in map(get_experiment, experiments):
            work[experiment.name] = _timer(experiment, profile, data, root, device)
        turns = [(number, name) for number in range(STEPS + 1) for name in work]
        for _, name in progress(turns, doing="measure", total=len(turns), name=lambda turn: turn[1]):
            work[name][0].step()
        return pd.DataFrame([_row(name, *of, minutes) for name, of in work.items()])


def _timer(
    experiment: Experiment, profile: Profile, data: Path | str | None, root: Root, device: str
) -> tuple[StepTimer, DataLoader]:
    """(the timer of an experiment's steps, its validation clips)."""
    settings = resolve(experiment, profile)
    cache, _ = training_cache(settings, profile, data, root)
    config = {**settings, "seed": 0, "data": split_songs(cache, None)}
    task, loader, valid = prepare(config, cache, device)
    batches: Any = loader.batch_sampler
    batches.set_epoch(settings["training"]["epochs"] - 1)
    clips, collate = loader.dataset, loader.collate_fn
    return StepTimer(task, lambda: collate([clips[key] for key in next(iter(batches))]), device), valid


def _row(name: str, timer: StepTimer, valid: DataLoader, minutes: float) -> dict[str, Any]:
    @torch.no_grad()
    def validate() -> None:
        for batch in valid:
            timer.task.eval().judge(timer.to_device(batch))

    valid_s = timer.timed(validate)
    epoch_s = timer.step_s * timer.task.settings["steps_per_epoch"] + valid_s
    epochs = int(60 * minutes / epoch_s)
    if not epochs:
        raise UsageError(f"One epoch of {name} takes {epoch_s / 60:.2f} minutes, more than the {minutes:g} given.")
    return {
        "experiment": name, "step_s": round(timer.step_s, 3), "valid_s": round(valid_s, 2), "epoch_s": round(epoch_s, 2),
        "epochs": epochs, "minutes": round(epochs * epoch_s / 60, 2),
    }  # fmt: skip
