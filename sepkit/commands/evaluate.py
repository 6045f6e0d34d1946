"""`evaluate`: the scores of a run, or of a reference, on its test songs."""

from typing import Any

import sepkit
from sepkit.commands import CLUSTER, JOBS, RUN
from sepkit.errors import UsageError
from sepkit.experiments import REFERENCES, get_experiment
from sepkit.storage import Root

ARGUMENTS = {
    "experiment": {"nargs": "?", "help": "an entry of the menu, or mixture, or oracle"},
    "--estimates": {"help": "score this folder of audio files of another program: test/<song>/vocals.wav …"},
    "--name": {"help": "what such estimates are called (default: the folder's name)"},
    "--protocol": {"default": "2stem", "help": "of such estimates: 2stem (default), or 4stem"},
    **RUN,
    "--split": {"default": "test", "help": "test (once, choices frozen) or valid"},
    **JOBS,
    **CLUSTER,
    "--museval": {"action": "store_true", "help": "also write the windows as museval does"},
}


def run(
    *, experiment: str | None, seed: int, fold: int | None, split: str, museval: bool,
    estimates: str | None, name: str | None, protocol: str, **where: Any,
) -> int:  # fmt: skip
    from sepkit.evaluation.score_files import scores_path
    from sepkit.evaluation.statistics import summary

    root = Root.open(where["root"], where["profile"])
    if (estimates is None) == (experiment is None):
        raise UsageError("Expected an experiment, or --estimates with a folder, and not both.")
    if estimates:
        scored = sepkit.given(name, estimates=estimates, protocol=protocol, root=root, profile=where["profile"])
    else:
        scored = root.run(str(experiment))
        if experiment not in REFERENCES and not scored.path.exists():
            scored = root.run_of(str(experiment), seed, fold)
            if not scored.path.exists():
                get_experiment(str(experiment))  # an unknown experiment is a wrong call, not a missing run
    name, scores = scored.name, sepkit.evaluate(scored, split=split, **where)
    if museval:
        from sepkit.evaluation.museval_json import write_museval

        print(f"museval's JSON files: {write_museval(scored, split)}")
    print(f"{name}: medians over songs, dB ({scores_path(scored, split)})")
    for source in scores["source"].unique():
        for metric in scores["metric"].unique():
            of = summary(scores, metric, source)
            print(f"  {source:14} {metric:18} {of['median']:7.2f} [{of['q25']:.2f}, {of['q75']:.2f}] n {of['n']}")
    return 1 if scores.attrs["unscored"] else 0
