"""`plan`: what experiments would cost; with --minutes their epochs for equal time, with --power what scores can show."""

from argparse import Namespace
from typing import Any

import sepkit
from sepkit.commands import DATA, DEVICE, PICK, numbers, print_table
from sepkit.evaluation.statistics import ALPHA

ARGUMENTS = {
    **PICK, **DEVICE, **DATA,  # --minutes measures on songs
    "--minutes": {"type": float, "help": "instead, how many epochs of each take these minutes"},
    "--power": {"action": "store_true", "help": "instead, what difference songs and seeds can show"},
    "--songs": {"type": int, "help": "for --power: songs (default: the profile's test songs)"},
    "--seeds": {"type": numbers, "default": [2, 3, 5], "help": "for --power: seeds a side, as 2,3,5"},
    "--alpha": {"type": float, "default": ALPHA, "help": "for --power: level of the test over songs"},
}  # fmt: skip


def run(*, profile: Any, root: Any, **options: Any) -> None:
    args, where = Namespace(**options), {"profile": profile, "root": root}
    if args.minutes is not None:
        pick = ["Base"] if args.pick is None else args.pick
        print_table(sepkit.equal_epochs(pick, minutes=args.minutes, data=args.data, device=args.device, **where))
    elif args.power:
        from sepkit.evaluation.power import power_table

        table = power_table(songs=args.songs, seeds=args.seeds, alpha=args.alpha, **where)
        print_table(table)
        print(table.attrs["basis"])
    else:
        print_table(sepkit.plan(pick=args.pick, hours=args.hours, device=args.device, **where))
