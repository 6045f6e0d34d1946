"""`compare`: is the difference of two runs, or of two experiments with all their seeds, real?"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.shared import joined, on_shared_songs, refuse_old_weights, refuse_unlike_files, unlike_training
from sepkit.evaluation.statistics import Comparison, compare_scores
from sepkit.experiments import plain, run_named
from sepkit.profiles import ProfileLike
from sepkit.storage import Root, RootLike, Run

ARGUMENTS = {
    "run": {"help": "an experiment, a run, as C-s1, or a folder of museval's JSON files"},
    "base": {"help": "what to compare it with, as Base, or Base-s1, or oracle"},
    "--metric": {"default": "sdr_bsseval", "help": "a metric of scores.csv (default: sdr_bsseval)"},
    "--source": {"default": "vocals", "help": "a source of scores.csv (default: vocals)"},
}
show = print


def compare(
    run: Run | Path | str,
    base: Run | Path | str,
    *,
    metric: str = "sdr_bsseval",
    source: str = "vocals",
    root: RootLike = None,
    profile: ProfileLike = None,
) -> Comparison:
    """`run` against `base` over their test songs; see `compare_scores`.

    An experiment stands for all its scored seeds, a run, as oracle, for itself, and a path for museval's JSON files.
    Songs that only some of the runs have scores of are left out; this, and unlike training songs, stand in the notes.
    Raises SepkitError where a song's scores belong to unlike files, or scores to weights that a run has no longer.
    """
    sides = [_scored(item, root, profile) for item in (run, base)]
    runs, notes = {of.name: of for side in sides if isinstance(side, list) for of in side}, list[str]()
    if runs:
        for of in runs.values():
            refuse_old_weights(of)
        scores = joined(of.scores() for of in runs.values())
        if all(isinstance(side, list) for side in sides):
            scores, notes = on_shared_songs(scores)
            refuse_unlike_files(reversed(runs.values()), sorted(scores["track"].unique()))
            notes += unlike_training(reversed(runs.values()))
    tables = [scores[scores["run"].isin([of.name for of in s])] if isinstance(s, list) else s for s in sides]
    return replace(compare_scores(*tables, metric=metric, source=source), about=tuple(notes))


def _scored(item: Run | Path | str, root: RootLike, profile: ProfileLike) -> list[Run] | pd.DataFrame:
    """The runs that `item` stands for, or museval's scores."""
    if isinstance(item, Run):
        return [item]
    root = Root.open(root, profile)
    if isinstance(item, Path) or (Path(item).is_dir() and not root.run(item).path.exists()):
        from sepkit.evaluation.museval_json import read_museval

        return read_museval(item)
    run = run_named(root, item)
    if run.name == plain(item):
        return [run]
    runs = root.scored_runs(plain(item))
    if not runs:
        raise SepkitError(f"{run.name} is not scored yet; evaluate {item} first.")
    return runs
