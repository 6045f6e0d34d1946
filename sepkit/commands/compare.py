"""`compare`: is the difference of two runs, or of two experiments with all their seeds, real?"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import Comparison, compare_scores
from sepkit.experiments import MENU
from sepkit.profiles import Profile
from sepkit.storage import Root, Run


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="an experiment, a run, as C-s1, or a folder of museval's JSON files")
    parser.add_argument("base", help="what to compare it with, as Base, or Base-s1, or oracle")
    parser.add_argument("--metric", default="sdr_bsseval", help="a metric of scores.csv (default: sdr_bsseval)")
    parser.add_argument("--source", default="vocals", help="a source of scores.csv (default: vocals)")


def run(args: Namespace) -> None:
    print(compare(**vars(args)))


def compare(
    run: Run | Path | str,
    base: Run | Path | str,
    *,
    metric: str = "sdr_bsseval",
    source: str = "vocals",
    root: Path | str | Root | None = None,
    profile: str | Profile | None = None,
) -> Comparison:
    """`run` against `base` over their test songs; see `compare_scores`.

    An experiment stands for all its scored seeds, a run, as Base-s1 or oracle, for itself, and a path
    for a folder of museval's JSON files.
    """
    sides = [_scores(item, root, profile) for item in (run, base)]
    return compare_scores(*sides, metric=metric, source=source)


def _scores(item: Run | Path | str, root: Path | str | Root | None, profile: str | Profile | None) -> pd.DataFrame:
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
