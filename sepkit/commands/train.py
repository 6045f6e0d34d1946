"""`train`: one experiment, one seed."""

from sepkit.commands import LIMITS, RUN
from sepkit.storage import Run

ARGUMENTS = {"experiment": {"help": "an entry of the menu: Base, …"}, **RUN, **LIMITS}


def show(done: Run) -> None:
    print(f"{done.name} is finished: {done.path}")
