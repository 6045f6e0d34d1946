"""One file a command, named as it: its `arguments`, its `run`, and the Python call where it lives nowhere else.

Arguments are named as the call's parameters. Here: the options that commands share, and how a table is printed.
"""

import re
from argparse import ArgumentParser
from typing import Any


def data_option(parser: ArgumentParser) -> None:
    parser.add_argument("--data", help="folder of songs with train/ and test/ (default: SEPKIT_DATA)")


def device_option(parser: ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")


def run_options(parser: ArgumentParser) -> None:
    data_option(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, clips and dropout (default: 0)")
    parser.add_argument("--fold", type=int, help="fold of the cross-validation by artist: 0, 1 or 2")
    device_option(parser)


def pick_options(parser: ArgumentParser) -> None:
    parser.add_argument("--pick", type=names, help="experiments, as F,C+D,A")
    parser.add_argument("--hours", type=float, help="GPU hours that they may take together")


def names(text: str) -> list[str]:
    return [name for name in re.split(r"[\s,]+", text) if name]


def numbers(text: str) -> list[int]:
    return [int(name) for name in names(text)]


def folds(text: str) -> list[int | None]:
    return [None if name == "none" else int(name) for name in names(text)]


numbers.__name__ = folds.__name__ = "list of numbers"  # for argparse's messages


def print_table(table: Any) -> None:
    from tabulate import tabulate

    print(tabulate(table, headers="keys", showindex=False, floatfmt=".2f") if len(table) else "nothing yet")
