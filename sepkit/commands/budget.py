"""`budget`: the minutes spent, against the week's GPU hours."""

from argparse import Namespace

from sepkit.commands import print_table
from sepkit.storage import WEEK_HOURS, budget, hours_left


def run(args: Namespace) -> None:
    print_table(budget(args.root, args.profile))
    print(f"GPU hours left: {hours_left(args.root, args.profile):.2f} of {WEEK_HOURS:g}")
