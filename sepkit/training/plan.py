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
from sepkit.profiles import Profile, get_profile
from sepkit.storage import WEEK_HOURS, Root
from sepkit.storage.ledger import spending
from sepkit.training.losses import make_loss
from sepkit.training.train import training_cache

STEPS = 3  # steps that count, after one that warms up


def plan(
    *,
    profile: str | Profile | None = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    root: Path | str | Root | None = None,
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
        timer = StepTimer(task, lambda: batch, device)
        for _ in range(STEPS + 1):
            timer.step()
    return timer.step_s


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
        work = {it.name: _timer(it, profile, data, root, device) for it in map(get_experiment, experiments)}
        turns = [(number, name) for number in range(STEPS + 1) for name in work]
        for _, name in progress(turns, doing="measure", total=len(turns), name=lambda turn: turn[1]):
            work[name][0].step()
        for name, (timer, valid) in work.items():
            valid_s = timer.validation_s(valid)
            epoch_s = timer.step_s * timer.task.settings["steps_per_epoch"] + valid_s
            if not (epochs := int(60 * minutes / epoch_s)):
                raise UsageError(
                    f"One epoch of {name} takes {epoch_s / 60:.2f} minutes, more than the {minutes:g} given."
                )
            rows.append((name, timer.step_s, valid_s, epoch_s, epochs, epochs * epoch_s / 60))
    table = pd.DataFrame(rows, columns=["experiment", "step_s", "valid_s", "epoch_s", "epochs", "minutes"])
    return table.round({"step_s": 3, "valid_s": 2, "epoch_s": 2, "minutes": 2})


def _timer(
    experiment: Experiment, profile: Profile, data: Path | str | None, root: Root, device: str
) -> tuple["StepTimer", DataLoader]:
    """(the timer of an experiment's steps, its validation clips)."""
    from sepkit.training.fit import prepare

    settings = resolve(experiment, profile)
    cache, _ = training_cache(settings, profile, data, root)
    task, loader, valid = prepare({**settings, "seed": 0, "data": split_songs(cache, None)}, cache, device)
    batches: Any = loader.batch_sampler
    batches.set_epoch(settings["training"]["epochs"] - 1)
    clips, collate = loader.dataset, loader.collate_fn
    return StepTimer(task, lambda: collate([clips[key] for key in next(iter(batches))]), device), valid


class StepTimer:
    """Times whole training steps: clips, loss, gradient, optimiser.

    On a CPU in seconds of CPU time, which a busy machine does not stretch; on a GPU in seconds of the clock.
    task: a `SeparationTask`; draw: makes a batch on the CPU.
    """

    def __init__(self, task: Any, draw: Callable[[], dict[str, Any]], device: str) -> None:
        self.task, self.draw, self.device = task.to(device), draw, device
        self.optimizer = task.configure_optimizers()["optimizer"]
        self.seconds: list[float] = []

    @property
    def step_s(self) -> float:
        return median(self.seconds[1:])

    def step(self) -> None:
        drawn = self._moved(self.draw()) if self.device == "cuda" else None  # workers draw there meanwhile

        def work() -> None:
            self.optimizer.zero_grad()
            self.task.train().evaluated(drawn or self.draw())[2].backward()
            self.optimizer.step()

        self.seconds.append(self._timed(work))

    @torch.no_grad()
    def validation_s(self, clips: DataLoader) -> float:
        self.task.eval()
        return self._timed(lambda: [self.task.judge(self._moved(batch)) for batch in clips])

    def _moved(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.task.transfer_batch_to_device(batch, torch.device(self.device), 0)

    def _timed(self, work: Callable[[], Any]) -> float:
        """Seconds of `work` in training's precision."""
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        start = clock()
        with autocast(self.device, bfloat16=self.task.settings["bfloat16"]):
            work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start
