"""Scores in museval's own format: one JSON file a song, every window's SDR, ISR, SIR and SAR in dB.

    results/<run>/test/<song>.json   {"targets": [{"name", "frames": [{"time", "duration", "metrics"}]}]}

museval (0.4.1) reads such a folder with `EvalStore().add_eval_dir(folder)` or `MethodStore`. Values have museval's five
decimals. What is undefined, or infinite, is null: museval writes NaN there, which is no JSON; its reader takes both. How
the accompaniment came about has no place in museval's format and stands under "sepkit", which museval skips.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.score_files import COLUMNS, scores_path
from sepkit.profiles import PROTOCOLS
from sepkit.storage import Run, frames_beside, read_frames, read_scores, write_text
from sepkit.storage.files import file_name, text_of

MUSEVAL = "0.4.1"  # whose format and definitions these are
NAMES = {"SDR": "sdr_bsseval", "SIR": "sir_bsseval", "SAR": "sar_bsseval", "ISR": "isr_bsseval"}
FACTS = ["run", "experiment", "seed", "accompaniment"]


def write_museval(run: Run, split: str = "test") -> Path:
    """Writes the scores of `run` as museval does, and returns the folder results/<run> under the root.

    Raises SepkitError where the run isn't scored, or was scored without keeping its windows.
    """
    frames = frames_beside(scores := scores_path(run, split))
    if not scores.exists():
        raise SepkitError(f"{run.name} is not scored yet ({scores} is absent); evaluate it first.")
    table, windows = read_scores(scores), read_frames(frames)
    lacking = sorted(set(table["track"]) - set(windows["track"]))
    if lacking:
        raise SepkitError(f"{frames} has no windows of {lacking[0]!r}; delete {scores} and evaluate {run.name} again.")
    folder = run.root.path / "results" / run.name
    (facts,) = json.loads(table[FACTS].head(1).to_json(orient="records"))
    for song, rows in windows[windows["track"].isin(table["track"])].groupby("track", sort=False):
        targets = [{"name": source, "frames": _frames(own)} for source, own in rows.groupby("source", sort=False)]
        content = {"targets": targets, "museval_version": MUSEVAL, "sepkit": facts}
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        write_text(folder / split / file_name(str(song), ".json"), text)
    return folder


def _frames(rows: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for frame, *values in rows[["frame", *NAMES.values()]].itertuples(index=False):
        metrics = [round(float(value), 5) if np.isfinite(value) else None for value in values]
        found.append({"time": float(frame), "duration": 1.0, "metrics": dict(zip(NAMES, metrics, strict=True))})
    return found


def read_museval(folder: Path | str) -> pd.DataFrame:
    """A folder of museval's JSON files as a table with the columns of scores.csv, and its windows, for `compare_scores`.

    Files lie in `folder`/test, as museval writes them, or in `folder` itself; names that begin with a dot, as macOS and
    Jupyter leave them, are no songs. Aggregated as museval does, the median over the windows that have a value. The
    protocol follows from the targets: vocals and accompaniment are scored together (2stem) wherever both are there, as
    museval does it, and the four stems are 4stem. The scores count as one seed of an experiment with the folder's name
    unless sepkit wrote them and says more.

    Raises SepkitError: no files, no museval JSON, windows of other than 1 s or other than each second, targets that are
    no known protocol or that differ between songs; it names the file.
    """
    folder = Path(folder)
    found = (sorted((folder / "test").rglob("*.json")), sorted(folder.glob("*.json")))
    shown = ([file for file in each if "/." not in f"/{file.relative_to(folder).as_posix()}"] for each in found)
    files = next(filter(None, shown), [])
    if not files:
        raise SepkitError(f"Expected museval's JSON files in {folder}/test, found none.")
    known = {"run": folder.name, "experiment": folder.name, "seed": 0}
    two, four = set(PROTOCOLS["2stem"]), set(PROTOCOLS["4stem"])
    rows, first = [], ""
    for file in files:
        facts, targets = _read(file)
        names = ", ".join(sorted(targets))
        first = first or names
        if names != first:
            raise SepkitError(
                f"{file} scores {names} and {files[0].name} {first}: what is scored together decides the scores, so one folder holds one set of targets."
            )
        if set(targets) not in (two, four, two | four):
            raise SepkitError(
                f"{file} scores {names or 'nothing'}; expected {' and '.join(PROTOCOLS['2stem'])}, or {', '.join(PROTOCOLS['4stem'])}: with other targets scores can't be compared with those here."
            )
        for source, windows in targets.items():
            for metric, values in windows.items():
                defined = values[np.isfinite(values)]
                rows.append({
                    **known, **facts, "track": text_of(os.fsencode(file.stem)), "source": source, "metric": metric,
                    "value": float(np.median(defined)) if len(defined) else np.nan,
                    "protocol": "2stem" if source in two and two <= set(targets) else "4stem",
                    "frames": len(defined), "frames_dropped": len(values) - len(defined),
                    "status": "ok" if len(defined) else "undefined: no window has a score",
                    "windows": values.to_numpy(),
                })  # fmt: skip
    return pd.DataFrame(rows, columns=[*COLUMNS, "windows"])


def _read(file: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """(what sepkit wrote about the run, {target: windows × metrics})."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        targets = {}
        for target in content["targets"]:
            if other := [frame["duration"] for frame in target["frames"] if frame["duration"] != 1]:
                raise SepkitError(f"{file} has windows of {other[0]} s; expected museval's 1 s.")
            times = [float(frame["time"]) for frame in target["frames"]]
            if not np.allclose(times, np.arange(len(times)), rtol=0, atol=1e-3):
                raise SepkitError(
                    f"{file} has windows at {', '.join(f'{time:g}' for time in times[:3])} … s; expected museval's, one at each second from 0: medians over other windows can't be compared with those here."
                )
            values = [[frame["metrics"][name] for name in NAMES] for frame in target["frames"]]
            targets[str(target["name"])] = pd.DataFrame(values, columns=list(NAMES.values()), dtype=np.float64)
        return {key: value for key, value in content.get("sepkit", {}).items() if key in FACTS}, targets
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SepkitError(f"Expected scores as museval writes them in {file} ({error!r}).") from error
