"""`budget`: the minutes spent, against the week's GPU hours."""

from typing import Any

from sepkit.commands import print_table
from sepkit.storage import WEEK_HOURS, budget, hours_left


def run(**where: Any) -> None:
    print_table(budget(**where))
    print(f"GPU hours left: {hours_left(**where):.2f} of {WEEK_HOURS:g}")
