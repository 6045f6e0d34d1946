"""`train`: one experiment, one seed."""

from argparse import ArgumentParser, Namespace

import sepkit
from sepkit.commands import run_options


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("experiment", help="an entry of the menu: Base, …")
    run_options(parser)


def run(args: Namespace) -> None:
    done = sepkit.train(**vars(args))
    print(f"{done.name} is finished: {done.path}")
