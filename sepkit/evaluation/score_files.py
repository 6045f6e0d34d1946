"""scores.csv and frames.csv of a run, and the journal of songs that are scored before these are written.

frames.csv has the windows whose medians are in scores.csv: track, source, frame (the second at which it begins) and the
four BSS Eval scores in dB, empty where undefined. While a run is scored, each song is appended to the journal as one
line of JSON; both tables are written once, whole, at the end. A line that a kill cut short is no JSON and is skipped,
so a song is there whole or not at all.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.evaluation.metrics import BSS_EVAL_METRICS
from sepkit.storage import SCORE_DECIMALS, Run, read_scores, write_csv

COLUMNS = [
    "run", "experiment", "seed", "fold", "track", "source", "metric", "value",
    "protocol", "frames", "frames_dropped", "status", "accompaniment",
]  # fmt: skip
FRAME_COLUMNS = ["track", "source", "frame", *BSS_EVAL_METRICS]
Rows = list[dict[Any, Any]]
Song = tuple[Rows, Rows]  # rows of scores.csv and of frames.csv


def scores_path(run: Run, split: str = "test") -> Path:
    return run.scores_path if split == "test" else run.path / "valid_scores.csv"


def frames_path(run: Run, split: str = "test") -> Path:
    path = scores_path(run, split)
    return path.with_name(path.name.replace("scores", "frames"))


def read_frames(path: Path) -> pd.DataFrame:
    """frames.csv as a table, undefined scores NaN; without rows where there is no such file."""
    if not path.exists():
        return pd.DataFrame(columns=FRAME_COLUMNS)
    kinds: Any = {"track": str, **dict.fromkeys(BSS_EVAL_METRICS, float)}
    empty = {name: [""] for name in BSS_EVAL_METRICS}
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    return table.round(dict.fromkeys(BSS_EVAL_METRICS, SCORE_DECIMALS))  # as in `read_scores`


class ScoreFiles:
    """The songs of one run that are scored, in `done` and on the disk.

    protocol: songs that an earlier version scored with another one do not count; facts: in every row of scores.csv.
    """

    def __init__(self, run: Run, split: str, protocol: str) -> None:
        self.scores, self.frames = scores_path(run, split), frames_path(run, split)
        self.journal = self.scores.with_name(self.scores.name.replace("scores.csv", "scores.part.jsonl"))
        self.facts = {key: run.config.get(key) for key in ("run", "experiment", "seed", "fold")}
        self.done: dict[str, Song] = {}
        for line in self.journal.read_text(encoding="utf-8").split("\n") if self.journal.exists() else ():
            with contextlib.suppress(ValueError):  # cut short by a kill
                song, scores, frames = json.loads(line)
                self.done[song] = scores, frames
        if self.scores.exists():
            rows, windows = (
                {str(song): part.to_dict("records") for song, part in table.groupby("track", sort=False)}
                for table in (read_scores(self.scores), read_frames(self.frames))
            )
            self.done |= {song: (scores, windows.get(song, [])) for song, scores in rows.items()}
        for song, (scores, _) in list(self.done.items()):
            if {row.get("protocol", protocol) for row in scores} != {protocol}:
                del self.done[song]

    def add(self, song: str, scores: Rows, frames: Rows) -> None:
        """Keeps a song, its values rounded, in `done` and in the journal."""
        scores = [{**self.facts, "track": song, **_rounded(row)} for row in scores]
        frames = [{"track": song, **_rounded(row)} for row in frames]
        self.done[song] = scores, frames
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps((song, scores, frames))}")  # after a line that was cut short, too
            file.flush()
            os.fsync(file.fileno())

    def write(self, songs: list[str]) -> pd.DataFrame:
        """Writes both tables, in the order of `songs`, without those excluded since; returns scores.csv."""
        if list(self.done) != songs or not self.scores.exists() or self.journal.exists():
            kept = [self.done[song] for song in songs]
            write_csv(self.frames, pd.DataFrame([row for _, rows in kept for row in rows], columns=FRAME_COLUMNS))
            write_csv(self.scores, pd.DataFrame([row for rows, _ in kept for row in rows], columns=COLUMNS))
            self.journal.unlink(missing_ok=True)
        return read_scores(self.scores)


def _rounded(row: dict[Any, Any]) -> dict[Any, Any]:
    return {key: round(value, SCORE_DECIMALS) if isinstance(value, float) else value for key, value in row.items()}
