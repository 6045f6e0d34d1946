"""`plan`: what experiments would cost; with --minutes their epochs for equal time, with --power what scores can show."""

from argparse import Namespace
from typing import Any

import pandas as pd

import sepkit
from sepkit.commands import DATA, DEVICE, PICK, folds, numbers, print_table
from sepkit.evaluation.statistics import ALPHA

ARGUMENTS = {
    **PICK, **DEVICE, **DATA,  # --minutes measures on songs
    "--minutes": {"type": float, "help": "instead, how many epochs of each take these minutes"},
    "--power": {"action": "store_true", "help": "instead, what difference songs and seeds can show"},
    "--songs": {"type": int, "help": "for --power: songs (default: the profile's test songs)"},
    "--seeds": {"type": numbers, "help": "of each experiment, as 0,1,2 (default: 0); for --power: seeds a side (2,3,5)"},
    "--folds": {"type": folds, "default": [None], "help": "of each experiment, as none,0,1,2 (default: none)"},
    "--alpha": {"type": float, "default": ALPHA, "help": "for --power: level of the test over songs"},
}  # fmt: skip


def run(*, profile: Any, root: Any, **options: Any) -> None:
    args, where = Namespace(**options), {"profile": profile, "root": root}
    if args.minutes is not None:
        pick = ["Base"] if args.pick is None else args.pick
        print_table(sepkit.equal_epochs(pick, minutes=args.minutes, data=args.data, device=args.device, **where))
    elif args.power:
        from sepkit.evaluation.power import power_table

        table = power_table(songs=args.songs, seeds=args.seeds or [2, 3, 5], alpha=args.alpha, **where)
        print_table(table)
        print(table.attrs["basis"])
    else:
        runs = {"seeds": args.seeds or [0], "folds": args.folds}
        print(text(sepkit.plan(pick=args.pick, hours=args.hours, device=args.device, **runs, **where)))


def text(table: pd.DataFrame) -> str:
    """The table of `sepkit.plan` in less than 80 columns; below it, where its figures come from."""
    shown = table.drop(columns=["steps", "step_s", "basis", "vram_mib"])
    shown = shown.assign(total_h=shown["total_h"].map("{:.2f}".format))
    lines = [shown.to_string(index=False, na_rep="—", float_format="{:.1f}".format)]
    for basis, of in table.groupby("basis", sort=False):
        steps = ", ".join(f"{name} {step:.2f}" for name, step in zip(of["experiment"], of["step_s"], strict=True))
        lines.append(f"seconds a step, {basis}: {steps}")
    lines.append("plan_min: the plan's own GPU minutes a run, with 1.3 GB of GPU memory (illustrative)")
    if len(measured := table[table["vram_mib"] > 0]):
        peaks = zip(measured["experiment"], measured["vram_mib"], strict=True)
        lines.append(f"GPU memory measured, MiB: {', '.join(f'{name} {peak:.0f}' for name, peak in peaks)}")
    return "\n".join(lines)
