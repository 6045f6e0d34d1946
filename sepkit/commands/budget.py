"""`budget`: the minutes spent, against the week's GPU hours."""

from typing import Any

from sepkit.commands import LIMITS, print_table
from sepkit.storage import budget, hours_left
from sepkit.storage.ledger import week_hours

ARGUMENTS = {"--hours": LIMITS["--hours"]}


def run(*, hours: float | None, **where: Any) -> None:
    print_table(budget(**where))
    print(f"GPU hours left: {hours_left(**where, hours=hours):.2f} of {week_hours(hours):g}")
