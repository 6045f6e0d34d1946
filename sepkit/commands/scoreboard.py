"""`scoreboard`: all scored runs beside each other."""

import pandas as pd


def show(table: pd.DataFrame) -> None:
    print(table.attrs["text"])
