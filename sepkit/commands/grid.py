"""`grid`: experiments × seeds × folds in one call, trained, scored, in one table; the same call resumes it."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

import sepkit
from sepkit.commands import CHANGES, CLUSTER, DATA, DEVICE, JOBS, LIMITS, RANKS, folds, names, numbers, print_table
from sepkit.data.folds import FOLDS
from sepkit.errors import UsageError
from sepkit.evaluation.statistics import summary
from sepkit.experiments import Experiment, get_experiment
from sepkit.profiles import get_profile
from sepkit.storage import Run, run_name

METRICS = ("sdr_bsseval", "sdr_global", "si_sdr")
TRAINING = ("hours", "session_hours", "devices", "num_nodes", "strategy", "logger")  # not of scoring
Folds = Iterable[int | None]  # None: the usual split
Scored = tuple[Run, pd.DataFrame]
ARGUMENTS = {
    "--experiments": {"type": names, "required": True, "help": "entries of the menu, as Base,C,UMX"},
    "--seeds": {"type": numbers, "default": [0], "help": "as 0,1,2 (default: 0)"},
    "--folds": {"type": folds, "default": [None], "help": "as 0,1,2; none is the usual split (default: none)"},
    **DATA, **DEVICE, **JOBS, **CLUSTER, **CHANGES, **RANKS, **LIMITS,
}  # fmt: skip
show = print_table


def grid(
    experiments: Iterable[str | Experiment],
    *,
    seeds: Iterable[int] = (0,),
    folds: Folds = (None,),
    changes: Any = None,
    **where: Any,
) -> pd.DataFrame:
    """Trains and scores every experiment with every seed and fold; the table has a row a run.

    folds: None is the usual split, scored on the test songs; 0, 1, 2 are the cross-validation by artist, each scored on
    the songs that it did not train on. With all three, a last row `<experiment>-s<seed> folds` has all their songs.
    changes: as for `train`, of all experiments; `where` as for `train_many`; n_jobs: runs, then songs, at a time.
    Columns: run, epochs, best_epoch, best_sdr (the criterion, dB), minutes, cpu_min, songs, then medians of vocals, dB.
    """
    from sepkit.training.asked import with_changes  # with torch, which --help does not need

    profile, seeds, folds = get_profile(where.get("profile")), list(dict.fromkeys(seeds)), list(folds)
    menu = [with_changes(get_experiment(each), changes, profile) for each in experiments]
    if not (menu and seeds and folds):
        raise UsageError(f"Expected experiments, seeds and folds, got {len(menu)}, {len(seeds)} and {len(folds)}.")
    done = {run.name: (run, scores) for run, scores in _trained_and_scored(menu, seeds, folds, **where)}
    rows = [_row(name, [part]) for name, part in done.items()]
    for experiment in menu if set(range(FOLDS)) <= set(folds) else ():
        for seed in seeds:
            parts = [done[run_name(experiment.name, seed, fold)] for fold in range(FOLDS)]
            rows.append(_row(f"{run_name(experiment.name, seed)} folds", parts))
    return pd.DataFrame(rows)


def out_of_fold(experiment: str | Experiment, *, seeds: Iterable[int] = (0,), **where: Any) -> pd.DataFrame:
    """Scores of all songs of train/, each by the run that did not train on its artist; as `Run.scores`.

    Trains and scores what is missing, three folds a seed. `where` as for `train_many`.
    """
    done = _trained_and_scored([get_experiment(experiment)], seeds, range(FOLDS), **where)
    return pd.concat([run.scores() for run, _ in done], ignore_index=True)


def _trained_and_scored(menu: list[Experiment], seeds: Iterable[int], folds: Folds, **where: Any) -> list[Scored]:
    """(run, its scores) of experiments × seeds × folds; a line marks runs from umxhq on its own songs."""
    runs = sepkit.train_many(menu, seeds=seeds, folds=folds, **where)
    scores = sepkit.evaluate_many(runs, **{key: each for key, each in where.items() if key not in TRAINING})
    for run in runs:
        if run.config["fold"] is not None and run.config["start_from"] == "umxhq":
            print(f"{run.name}: umxhq's weights come from training on these songs", flush=True)
    return list(zip(runs, scores, strict=True))


def _row(name: str, parts: list[Scored]) -> dict[str, Any]:
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
