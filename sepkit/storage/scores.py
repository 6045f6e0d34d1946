"""Tables of scores: scores.csv, and frames.csv beside it with the windows whose medians scores.csv holds."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError

SCORE_COLUMNS = ("run", "experiment", "seed", "fold", "track", "source", "metric", "value", "protocol", "status")
SCORE_DECIMALS = 6  # of a dB in scores.csv; beyond them a sum's order decides
BSS_EVAL_METRICS = ("sdr_bsseval", "isr_bsseval", "sir_bsseval", "sar_bsseval")
FRAME_COLUMNS = ["track", "source", "frame", *BSS_EVAL_METRICS]


def read_scores(path: Path) -> pd.DataFrame:
    """scores.csv, every value as it was written; undefined ones are NaN with a reason in `status`.

    Raises SepkitError where it is not what `evaluate` wrote: empty, cut short, saved by a spreadsheet.
    """
    empty = {name: [""] for name in ("value", "fold", "accompaniment")}  # a song may be called "NA"
    kinds: Any = {"track": str, "run": str, "accompaniment": object, "value": float}
    try:
        content = path.read_bytes()
        table = pd.read_csv(io.BytesIO(content), dtype=kinds, keep_default_na=False, na_values=empty)
        missing = [name for name in SCORE_COLUMNS if name not in table]
        if missing or table.empty:
            raise ValueError(f"it lacks {', '.join(missing) or 'rows'}")
        whole = [name for name in SCORE_COLUMNS if name not in empty]
        if table[whole].isna().any(axis=None) or not content.endswith(b"\n"):
            raise ValueError("it is cut short")
    except ValueError as error:
        raise SepkitError(
            f"Expected scores in {path}, but it can't be read ({error}); evaluate the run again, which writes it anew."
        ) from error
    return table.round({"value": SCORE_DECIMALS})  # pandas before 3 changes some last digits


def frames_beside(scores: Path) -> Path:
    return scores.with_name(scores.name.replace("scores", "frames"))


def read_frames(path: Path) -> pd.DataFrame:
    """frames.csv as a table, undefined scores NaN; without rows where there is no such file."""
    file = path if path.exists() else io.StringIO(",".join(FRAME_COLUMNS))
    kinds: Any = {"track": str, **dict.fromkeys(BSS_EVAL_METRICS, float)}
    empty = {name: [""] for name in BSS_EVAL_METRICS}
    try:
        table = pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=empty)[FRAME_COLUMNS]
    except (ValueError, KeyError) as error:
        raise SepkitError(f"Expected windows in {path}, but it can't be read; delete it and evaluate again.") from error
    return table.round(dict.fromkeys(BSS_EVAL_METRICS, SCORE_DECIMALS))  # as in `read_scores`


def read_scored(path: Path) -> pd.DataFrame:
    """`read_scores` with the windows beside it."""
    return with_windows(read_scores(path), read_frames(frames_beside(path)))


def with_windows(scores: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """`scores` with a column `windows`: BSS Eval's scores of every second, `(window,)` in dB, NaN where undefined.

    Both of one run. NaN where windows are not known: those whose median is not the score belong to other scores.
    """
    key = ["track", "source", "metric"]
    long = frames.melt(key[:2], list(BSS_EVAL_METRICS), "metric").groupby(key)["value"]
    table = scores.join(long.agg(windows=list, median="median"), on=key)
    known = table["windows"].notna() & np.isclose(table["median"], table["value"], rtol=0, atol=1e-5, equal_nan=True)
    return table.drop(columns="median").assign(windows=table["windows"].where(known).map(np.array, na_action="ignore"))
