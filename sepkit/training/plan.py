"""What trainings would cost in minutes, before they are spent."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sepkit import models
from sepkit.devices import autocast, device_name, kept_memory, one_thread, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import default_week, get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.profiles import Profile, get_profile
from sepkit.storage import WEEK_HOURS, Root, default_root
from sepkit.training.estimate import Estimate
from sepkit.training.losses import make_loss

MEASURED_STEPS = 3


def step_seconds(experiment: Experiment, profile: Profile, device: str | None = None) -> float:
    """Seconds of one training step, measured on random clips: the median of a few after a warm-up."""
    device = pick_device(device)
    settings = resolve(experiment, profile)
    training = settings["training"]
    fork = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with fork, one_thread(device), kept_memory(device):
        torch.manual_seed(0)
        model: Any = models.build(**settings["model"]).to(device).train()
        loss = make_loss(**settings["loss"])
        length = round(training["segment_s"] * model.sample_rate)
        target = 0.1 * torch.randn(
            training["batch_size"], len(model.sources), model.channels, length, device=device
        )
        mixture, seconds = target.sum(dim=1), []
        for _ in range(MEASURED_STEPS + 1):
            start = time.perf_counter()
            with autocast(device, bfloat16=training["bfloat16"]):
                value = loss(Estimate(model, mixture), target)
            value.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[MEASURED_STEPS // 2]


def plan(
    *,
    profile: str | Profile | None = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    root: Path | str | Root | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Predicted training minutes of the picked rows (or the default week), before they are spent.

    Columns: experiment, steps, step_s, basis ("measured in <run>" from its history, "measured now", or
    "estimate for a T4" where no GPU is here and the profile is as planned), minutes, total_h, and `within`:
    whether the running total stays within `hours` (8 by default).  The whole cost of a row counts, as
    if it ran all its epochs: early stopping only makes it cheaper.
    """
    profile = get_profile(profile)
    rows: list[dict[str, Any]] = []
    total = 0.0
    limit = WEEK_HOURS if hours is None else hours
    if not limit > 0:  # nan included
        raise UsageError(f"Expected hours above 0, got {hours}.")
    for name in default_week() if pick is None else dict.fromkeys(["Base", *pick]):
        experiment = get_experiment(name)
        training = resolve(experiment, profile)["training"]
        steps = 0 if experiment.weights_of else training["epochs"] * training["steps_per_epoch"]
        seconds, basis = _step_cost(experiment, profile, root, device)
        minutes = steps * seconds / 60
        within = total + minutes / 60 <= limit
        total += minutes / 60 if within else 0.0
        rows.append(
            {
                "experiment": name,
                "steps": steps,
                "step_s": round(seconds, 3),
                "basis": basis,
                "minutes": round(minutes, 1),
                "total_h": round(total, 2),
                "within": within,
            }
        )
    return pd.DataFrame(rows)


def _step_cost(
    experiment: Experiment, profile: Profile, root: Path | str | Root | None, device: str | None
) -> tuple[float, str]:
    """(seconds a step, where the figure comes from)."""
    # nothing is written here, so a root that does not exist yet is not made
    where = Root(default_root(profile)) if root is None else Root.open(root, profile)
    run = where.run(f"{experiment.name}-s0")
    if (run.path / "history.csv").exists():
        history = run.history()
        steps = resolve(experiment, profile)["training"]["steps_per_epoch"]
        return float(history["seconds"].median()) / steps, f"measured in {run.name}"
    device = pick_device(device)
    if profile.as_planned and device == "cpu":
        return experiment.t4_step_s, "estimate for a T4"
    return step_seconds(experiment, profile, device), f"measured now on {device_name(device)}"
