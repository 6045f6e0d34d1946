"""`compare`: is the difference of two runs, or of two experiments with all their seeds, real?"""

from pathlib import Path

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import Comparison, compare_scores
from sepkit.experiments import MENU
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
    """
    sides = [_scores(item, root, profile) for item in (run, base)]
    return compare_scores(*sides, metric=metric, source=source)


def _scores(item: Run | Path | str, root: RootLike, profile: ProfileLike) -> pd.DataFrame:
    if isinstance(item, Run):
        return item.scores()
    if isinstance(item, Path) or Path(item).is_dir():
        from sepkit.evaluation.museval_json import read_museval

        return read_museval(item)
    root = Root.open(root, profile)
    if item not in MENU:
        return root.run(item).scores()
    runs = root.scored_runs(item)
    if not runs:
        raise SepkitError(f"{root.run_of(item).name} is not scored yet; evaluate {item} first.")
    return pd.concat([of.scores() for of in runs], ignore_index=True)
