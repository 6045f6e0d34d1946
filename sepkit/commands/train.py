"""`train`: one experiment, one seed."""

from sepkit.commands import CHANGES, LIMITS, RANKS, RUN
from sepkit.storage import Run

ARGUMENTS = {
    "experiment": {"help": "an entry of the menu: Base, …, or your own as module:NAME"},
    "--weights": {"help": "start from this checkpoint of openunmix or demucs, with its network, as <experiment>+<file>"},
    **RUN, **CHANGES, **RANKS, **LIMITS,
}  # fmt: skip


def show(done: Run) -> None:
    print(f"{done.name} is finished: {done.path}")
