"""`evaluate`: the scores of a run, or of a reference, on its test songs."""

from typing import Any

import sepkit
from sepkit.commands import CLUSTER, JOBS, RUN
from sepkit.experiments import REFERENCES, get_experiment
from sepkit.storage import Root, run_name

ARGUMENTS = {
    "experiment": {"help": "an entry of the menu, or mixture, or oracle"},
    **RUN,
    "--split": {"default": "test", "help": "test (once, choices frozen) or valid"},
    **JOBS,
    **CLUSTER,
    "--museval": {"action": "store_true", "help": "also write the windows as museval does"},
}


def run(*, experiment: str, seed: int, fold: int | None, split: str, museval: bool, **where: Any) -> int:
    from sepkit.evaluation.score_files import scores_path
    from sepkit.evaluation.statistics import summary

    reference = experiment in REFERENCES
    name = experiment if reference else run_name(experiment, seed, fold)
    scored = Root.open(where["root"], where["profile"]).run(name)
    if not (reference or scored.path.exists()):
        get_experiment(experiment)  # an unknown experiment is a wrong call, not a missing run
    scores = sepkit.evaluate(name, split=split, **where)
    if museval:
        from sepkit.evaluation.museval_json import write_museval

        print(f"museval's JSON files: {write_museval(scored, split)}")
    print(f"{name}: medians over songs, dB ({scores_path(scored, split)})")
    for source in scores["source"].unique():
        for metric in scores["metric"].unique():
            of = summary(scores, metric, source)
            print(f"  {source:14} {metric:18} {of['median']:7.2f} [{of['q25']:.2f}, {of['q75']:.2f}] n {of['n']}")
    return 1 if scores.attrs["unscored"] else 0
