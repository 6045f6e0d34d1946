"""The ledger: every minute that was spent, those of runs that died included, against the week's GPU hours.

A minute counts as a GPU minute wherever a GPU is attached, also where the CPU works: prepare data,
evaluate and write the report on a CPU runtime.
"""

from pathlib import Path

import pandas as pd

from sepkit.profiles import Profile
from sepkit.storage.root import Root

WEEK_HOURS = 8.0  # of a T4, the plan's


def budget(root: Path | str | Root | None = None, profile: str | Profile | None = None) -> pd.DataFrame:
    """Minutes by run and stage, those of runs that died included: run, stage, minutes, gpu_min, vram_mib."""
    spent = Root.open(root, profile).budget()
    if spent.empty:
        return pd.DataFrame(columns=["run", "stage", "minutes", "gpu_min", "vram_mib", "device"])
    grouped = spent.groupby(["run", "stage"], sort=False)
    return grouped.agg(
        minutes=("minutes", "sum"),
        gpu_min=("gpu_min", "sum"),
        vram_mib=("vram_mib", "max"),
        device=("device", "last"),
    ).reset_index()


def hours_left(root: Path | str | Root | None = None, profile: str | Profile | None = None) -> float:
    """GPU hours of the week that are not spent yet."""
    return WEEK_HOURS - float(budget(root, profile)["gpu_min"].sum()) / 60
