"""Rows × seeds × folds in one call: trained, scored, one table; stopped anywhere, it goes on there."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.data.folds import FOLDS
from sepkit.errors import UsageError
from sepkit.evaluation.scoring import evaluate
from sepkit.evaluation.statistics import summary
from sepkit.experiments import get_experiment
from sepkit.experiments.settings import Experiment
from sepkit.storage import Run, run_name
from sepkit.training.train import train_many

METRICS = ("sdr_bsseval", "sdr_global", "si_sdr")


def grid(
    rows: Iterable[str | Experiment],
    *,
    seeds: Iterable[int] = (0,),
    folds: Iterable[int | None] = (None,),
    n_jobs: int | None = None,
    **where: Any,
) -> pd.DataFrame:
    """Trains and scores every row with every seed and fold; a row of the table a run.

    folds: None is the usual split, scored on the test songs; 0, 1, 2 are the cross-validation by
    artist, each scored on the songs that it did not train on.  n_jobs: runs, then songs, at a time;
    `where` as for `train`.  Of a row whose folds are all there, a last line
    `<row>-s<seed> folds` counts all songs of the three, each scored out of fold.

    Columns: run, epochs, best_epoch, best_sdr (the criterion, dB), minutes, cpu_min, songs, then the
    medians over songs of the vocals, dB.  `Root.run(name).scores()` has every score.
    """
    menu, seeds, folds = [get_experiment(row) for row in rows], list(dict.fromkeys(seeds)), list(folds)
    if not (menu and seeds and folds):
        raise UsageError(f"Expected rows, seeds and folds, got {len(menu)}, {len(seeds)} and {len(folds)}.")
    done = _trained_and_scored(menu, seeds, folds, n_jobs=n_jobs, **where)
    lines = [_line(run.name, [(run, scores)]) for run, scores in done]
    for row in menu if set(range(FOLDS)) <= set(folds) else ():
        for seed in seeds:
            names = [run_name(row.name, seed, fold) for fold in range(FOLDS)]
            lines.append(
                _line(f"{run_name(row.name, seed)} folds", [it for it in done if it[0].name in names])
            )
    return pd.DataFrame(lines)


def out_of_fold(
    row: str | Experiment, *, seeds: Iterable[int] = (0,), n_jobs: int | None = None, **where: Any
) -> pd.DataFrame:
    """Scores of all songs of train/, each by the run that did not train on its artist; as scores.csv.

    What is not trained or scored yet is, three folds a seed; resumable at any point.  Two rows' tables
    compare like two runs' (`sepkit.evaluation.statistics.compare_scores`).
    """
    done = _trained_and_scored([get_experiment(row)], seeds, range(FOLDS), n_jobs=n_jobs, **where)
    return pd.concat([scores for _, scores in done], ignore_index=True)


def _trained_and_scored(
    rows: list[Experiment],
    seeds: Iterable[int],
    folds: Iterable[int | None],
    *,
    n_jobs: int | None = None,
    data: Path | str | None = None,
    device: str | None = None,
    **where: Any,
) -> list[tuple[Run, pd.DataFrame]]:
    """(run, its scores) of rows × seeds × folds, with a line when one is trained and when it is scored."""
    runs = train_many(rows, seeds=seeds, folds=folds, n_jobs=n_jobs, data=data, device=device, **where)
    done = []
    for number, run in enumerate(runs, 1):
        with contextlib.redirect_stdout(io.StringIO()):  # a line a run, not a song
            scores = evaluate(run, data=data, device=device, n_jobs=n_jobs)
        median = summary(scores, METRICS[0])["median"]
        note = " (umxhq's weights come from training on these songs)" if _knows_the_songs(run) else ""
        print(f"score {number}/{len(runs)} {run.name}, median {METRICS[0]} {median:.2f} dB{note}", flush=True)
        done.append((run, scores))
    return done


def _knows_the_songs(run: Run) -> bool:
    return run.config["fold"] is not None and run.config.get("start_from") == "umxhq"


def _line(name: str, parts: list[tuple[Run, pd.DataFrame]]) -> dict[str, Any]:
    status, scores = [run.status for run, _ in parts], pd.concat([own for _, own in parts])
    one = status[0] if len(parts) == 1 else {}
    return {
        "run": name,
        "epochs": sum(of["epochs"] for of in status),
        "best_epoch": one.get("best_epoch", ""),
        "best_sdr": one.get("best_sdr", ""),
        "minutes": sum(of["minutes"] for of in status),
        "cpu_min": sum(of.get("cpu_min", float("nan")) for of in status),
        "songs": scores["track"].nunique(),
        **{metric: summary(scores, metric)["median"] for metric in METRICS},
    }
