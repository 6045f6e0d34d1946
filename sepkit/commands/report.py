"""`report`: the milestone report, one HTML file."""

from argparse import Namespace

import sepkit


def run(args: Namespace) -> None:
    print(sepkit.report(args.root, args.profile))
