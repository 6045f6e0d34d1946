"""What trainings would cost in minutes, before they are spent."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.devices import device_name, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import BASE, default_week, get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.profiles import Profile, get_profile
from sepkit.storage import WEEK_HOURS, Root
from sepkit.storage.ledger import spending
from sepkit.training.timing import step_seconds


def plan(
    *,
    profile: str | Profile | None = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    root: Path | str | Root | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Predicted training minutes of the picked experiments (or the default week), before they are spent.

    Columns: experiment, steps, step_s, basis ("measured in <run>" from its history, "measured now", or
    "estimate for a T4" where no GPU is here and the profile is as planned), minutes, total_h, and `within`:
    whether the running total stays within `hours` (8 by default).  All epochs count; early stopping only
    makes an experiment cheaper.
    """
    profile = get_profile(profile)
    rows: list[dict[str, Any]] = []
    total = 0.0
    limit = WEEK_HOURS if hours is None else hours
    if not limit > 0:  # nan included
        raise UsageError(f"Expected hours above 0, got {hours}.")
    for name in default_week() if pick is None else dict.fromkeys([BASE, *pick]):
        experiment = get_experiment(name)
        training = resolve(experiment, profile)["training"]
        steps = 0 if experiment.weights_of else training["epochs"] * training["steps_per_epoch"]
        step_s, basis = _step_cost(experiment, profile, root, device)
        minutes = steps * step_s / 60
        within = total + minutes / 60 <= limit
        total += minutes / 60 if within else 0.0
        rows.append({
            "experiment": name, "steps": steps, "step_s": round(step_s, 3), "basis": basis,
            "minutes": round(minutes, 1), "total_h": round(total, 2), "within": within,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _step_cost(
    experiment: Experiment, profile: Profile, root: Path | str | Root | None, device: str | None
) -> tuple[float, str]:
    """(seconds a step, where the figure comes from)."""
    # a root that does not exist yet is made only where something is measured, and booked
    where = Root.at(root, profile)
    run = where.run_of(experiment.name)
    if (run.path / "history.csv").exists():
        steps = resolve(experiment, profile)["training"]["steps_per_epoch"]
        return float(run.history()["seconds"].median()) / steps, f"measured in {run.name}"
    device = pick_device(device)
    if profile.as_planned and device == "cpu":
        return experiment.t4_step_s, "estimate for a T4"
    with spending(Root.open(where.path, profile), stage="plan", device=device_name(device)):
        return step_seconds(experiment, profile, device), f"measured now on {device_name(device)}"
