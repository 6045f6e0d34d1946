"""Minutes and GPU memory: what the plan says, what was predicted before they were spent, what the ledger measured."""

from collections.abc import Iterable

import pandas as pd

from sepkit.experiments import MENU
from sepkit.storage import WEEK_HOURS, Root, RootLike, write_csv

PREDICTED = "plan.csv"  # under the root: experiment, minutes, basis
PLAN_VRAM_GB = 1.3  # the plan's one figure for every experiment


def predicted(root: Root) -> pd.DataFrame:
    """Training minutes as predicted before each experiment ran: experiment, minutes, basis."""
    file = root.path / PREDICTED
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["experiment", "minutes", "basis"])


def keep_predicted(root: Root, plan: pd.DataFrame) -> None:
    """Adds the rows of `sepkit.plan` whose experiments have no prediction yet; earlier ones stay as they are."""
    old = predicted(root)
    new = plan[plan["train_min"].gt(0) & ~plan["experiment"].isin(old["experiment"])]
    if len(new):
        rows = new.assign(minutes=new["train_min"])[list(old.columns)]
        write_csv(root.path / PREDICTED, pd.concat([old, rows], ignore_index=True) if len(old) else rows)


def plan_and_measured(root: RootLike, names: Iterable[str] | None = None) -> pd.DataFrame:
    """A row an experiment: training minutes and GB of GPU memory, the plan's beside the predicted and the measured.

    names: the experiments; None for those that the plan gives minutes for and those that were trained, and the whole
    week, all stages. Measured are all minutes of seed 0 in the ledger's stage "train", those of runs that died included.
    NaN where nothing is known; the column's name says whether a GPU or a CPU took the minutes.
    """
    root = Root.at(root)
    guesses, budget = predicted(root).set_index("experiment")["minutes"], root.budget()
    of_run = budget[budget["stage"] == "train"].groupby("run")
    spent = of_run.agg({"minutes": "sum", "gpu_min": "sum", "vram_mib": "max"})
    spent.index = spent.index.str.removesuffix("-s0")
    on_gpu = spent["gpu_min"] > 0
    unit = "CPU" if not on_gpu.any() else "GPU" if on_gpu.all() else "GPU or CPU"
    planned = (name for name, entry in MENU.items() if entry.plan_min)
    wanted = {*planned, *spent.index} if names is None else {*names}
    rows = {}
    others = [name for name in spent.index if name in wanted.difference(MENU) and root.run_of(name).path.exists()]
    for name in (*filter(wanted.__contains__, MENU), *others):
        plan_min, used = name in MENU and MENU[name].plan_min, spent.loc[name] if name in spent.index else None
        rows[name] = {
            "plan, GPU min": plan_min or None,
            f"predicted, {unit} min": guesses.get(name),
            f"measured, {unit} min": None if used is None else used["minutes"],
            "plan, GB": PLAN_VRAM_GB if plan_min else None,
            "measured, GB": used["vram_mib"] * 2**20 / 1e9 if used is not None and used["vram_mib"] else None,
        }
    if names is None:
        whole = budget["gpu_min" if unit == "GPU" else "minutes"].sum()
        rows["whole week"] = {"plan, GPU min": 60 * WEEK_HOURS, f"measured, {unit} min": whole}
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis("experiment").round(2)
