"""What trainings cost in minutes before they are spent, and how many epochs take the same minutes."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from sepkit import models
from sepkit.data.folds import split_songs
from sepkit.devices import autocast, device_name, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import BASE, default_week, get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.parallel import progress
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import WEEK_HOURS, Root, RootLike
from sepkit.storage.ledger import spending
from sepkit.training.losses import make_loss
from sepkit.training.train import training_cache

STEPS = 3  # steps that count, after one that warms up


def plan(
    *,
    profile: ProfileLike = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    root: RootLike = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Predicted training minutes of the picked experiments (or the default week).

    Columns: experiment, steps, step_s, basis ("measured in <run>" from its history, "measured now", or "estimate for
    a T4" where no GPU is here and the profile is as planned), minutes, total_h, and `within`: whether the running
    total stays within `hours` (8 by default).  All epochs count; early stopping only makes an experiment cheaper.
    """
    profile, rows, total = get_profile(profile), [], 0.0
    limit = WEEK_HOURS if hours is None else hours
    if not limit > 0:  # nan included
        raise UsageError(f"Expected hours above 0, got {hours}.")
    for name in default_week() if pick is None else dict.fromkeys([BASE, *pick]):
        experiment = get_experiment(name)
        training = resolve(experiment, profile)["training"]
        steps = 0 if experiment.weights_of else training["epochs"] * training["steps_per_epoch"]
        step_s, basis = _step_cost(experiment, profile, Root.at(root, profile), device)
        minutes = steps * step_s / 60
        within = total + minutes / 60 <= limit
        total += minutes / 60 if within else 0.0
        rows.append({
            "experiment": name, "steps": steps, "step_s": round(step_s, 3), "basis": basis,
            "minutes": round(minutes, 1), "total_h": round(total, 2), "within": within,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _step_cost(experiment: Experiment, profile: Profile, root: Root, device: str | None) -> tuple[float, str]:
    """(seconds a step, where the figure comes from)."""
    run = root.run_of(experiment.name)
    if (run.path / "history.csv").exists():
        steps = resolve(experiment, profile)["training"]["steps_per_epoch"]
        return float(run.history()["seconds"].median()) / steps, f"measured in {run.name}"
    device = pick_device(device)
    if profile.as_planned and device == "cpu":
        return experiment.t4_step_s, "estimate for a T4"
    # only now, where minutes are spent, is the root made
    with spending(Root.open(root.path), stage="plan", device=device_name(device)):
        return step_seconds(experiment, profile, device), f"measured now on {device_name(device)}"


def step_seconds(experiment: Experiment, profile: Profile, device: str) -> float:
    """Seconds of one training step, measured on random clips: no songs are needed."""
    from sepkit.training.fit import computing  # with Lightning, which takes seconds to import
    from sepkit.training.step import SeparationTask

    settings = resolve(experiment, profile)
    training = settings["training"]
    with computing(device):
        torch.manual_seed(0)
        model = models.build(**settings["model"])
        shape = (len(model.sources), model.channels, round(training["segment_s"] * model.sample_rate))
        sources = 0.1 * torch.randn(training["batch_size"], *shape)
        batch = {"mixture": sources.sum(dim=1), "sources": sources, "track": []}
        task = SeparationTask(model, make_loss(**settings["loss"]), list(range(len(model.sources))), training)
        step = _stepper(task, lambda: batch, device)
        return median([step() for _ in range(STEPS + 1)][1:])


def equal_epochs(
    experiments: Iterable[str | Experiment],
    *,
    minutes: float,
    profile: ProfileLike = None,
    data: Path | str | None = None,
    root: RootLike = None,
    device: str | None = None,
) -> pd.DataFrame:
    """How many epochs of each experiment take at most `minutes`, validation included.

    Times full training steps at the final clip length, the experiments taking turns, and a validation.  The epochs go
    into the entries of the menu, `profiles`, so that `train` repeats a run to the bit.

    Columns: experiment, step_s, valid_s (a whole validation), epoch_s, epochs, minutes (of these epochs).
    Raises UsageError where one epoch takes longer than that.
    """
    from sepkit.training.fit import computing

    if not minutes > 0:  # nan included
        raise UsageError(f"Expected minutes above 0, got {minutes}.")
    profile, device = get_profile(profile), pick_device(device)
    root, rows = Root.open(root, profile), []
    with computing(device), spending(root, stage="plan", device=device_name(device)):
        work = {it.name: _prepared(it, profile, data, root, device) for it in map(get_experiment, experiments)}
        seconds: dict[str, list[float]] = {name: [] for name in work}
        turns = list(work) * (STEPS + 1)
        for name in progress(turns, doing="measure", total=len(turns)):
            seconds[name].append(work[name][0]())
        for name, (_, task, valid) in work.items():
            step_s, valid_s = median(seconds[name][1:]), _validation_s(task, valid, device)
            epoch_s = step_s * task.settings["steps_per_epoch"] + valid_s
            if not (epochs := int(60 * minutes / epoch_s)):
                raise UsageError(
                    f"One epoch of {name} takes {epoch_s / 60:.2f} minutes, more than the {minutes:g} given."
                )
            rows.append((name, step_s, valid_s, epoch_s, epochs, epochs * epoch_s / 60))
    table = pd.DataFrame(rows, columns=["experiment", "step_s", "valid_s", "epoch_s", "epochs", "minutes"])
    return table.round({"step_s": 3, "valid_s": 2, "epoch_s": 2, "minutes": 2})


def _prepared(
    experiment: Experiment, profile: Profile, data: Path | str | None, root: Root, device: str
) -> tuple[Callable[[], float], Any, DataLoader]:
    """(what makes and times a step of an experiment, its `SeparationTask`, its validation clips)."""
    from sepkit.training.fit import prepare

    settings = resolve(experiment, profile)
    cache, _ = training_cache(settings, profile, data, root)
    task, loader, valid = prepare({**settings, "seed": 0, "data": split_songs(cache, None)}, cache, device)
    batches: Any = loader.batch_sampler
    batches.set_epoch(settings["training"]["epochs"] - 1)
    clips, collate = loader.dataset, loader.collate_fn
    return _stepper(task, lambda: collate([clips[key] for key in next(iter(batches))]), device), task, valid


def _stepper(task: Any, draw: Callable[[], dict[str, Any]], device: str) -> Callable[[], float]:
    """A function that makes one whole training step (clips, loss, gradient, optimiser) and gives its seconds.

    task: a `SeparationTask`; draw: makes a batch on the CPU.
    """
    optimizer = task.to(device).configure_optimizers()["optimizer"]

    def step() -> float:
        drawn = _moved(task, draw(), device) if device == "cuda" else None  # workers draw there meanwhile

        def work() -> None:
            optimizer.zero_grad()
            task.train().evaluated(drawn or draw())[2].backward()
            optimizer.step()

        return _timed(work, task, device)

    return step


@torch.no_grad()
def _validation_s(task: Any, clips: DataLoader, device: str) -> float:
    return _timed(lambda: [task.eval().judge(_moved(task, batch, device)) for batch in clips], task, device)


def _moved(task: Any, batch: dict[str, Any], device: str) -> dict[str, Any]:
    return task.transfer_batch_to_device(batch, torch.device(device), 0)


def _timed(work: Callable[[], Any], task: Any, device: str) -> float:
    """Seconds of `work` in training's precision: of CPU time, which a busy machine does not stretch; a GPU's by the clock."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    with autocast(device, bfloat16=task.settings["bfloat16"]):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start
