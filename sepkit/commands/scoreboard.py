"""`scoreboard`: all scored runs beside each other."""

from argparse import Namespace

import sepkit


def run(args: Namespace) -> None:
    from sepkit.reporting.scoreboard import print_scoreboard

    print_scoreboard(sepkit.scoreboard(args.root, args.profile))
