"""`evaluate`: the scores of a run, or of a reference, on its test songs."""

from typing import Any

import sepkit
from sepkit.commands import CLUSTER, JOBS, RUN
from sepkit.errors import UsageError
from sepkit.experiments import REFERENCES, UMXHQ, get_experiment, run_named
from sepkit.storage import Root

ARGUMENTS = {
    "experiment": {"nargs": "?", "help": "an entry of the menu, or mixture, oracle or umxhq"},
    "--estimates": {"help": "score this folder of audio files of another program: test/<song>/vocals.wav …"},
    "--weights": {"help": "score this checkpoint of openunmix or demucs, or umxhq"},
    "--wiener": {"action": "store_true", "help": "with openunmix's Wiener filter, where the weights are its"},
    "--name": {"help": "what such estimates or weights are called (default: the folder's or file's name)"},
    "--protocol": {"default": "2stem", "help": "of such estimates or weights: 2stem (default), or 4stem"},
    **RUN,
    "--split": {"default": "test", "help": "test (once, choices frozen) or valid"},
    **JOBS,
    **CLUSTER,
    "--museval": {"action": "store_true", "help": "also write the windows as museval does"},
}


def run(
    *, experiment: str | None, seed: int, fold: int | None, split: str, museval: bool,
    estimates: str | None, weights: str | None, name: str | None, protocol: str, wiener: bool, **where: Any,
) -> int:  # fmt: skip
    from sepkit.evaluation.score_files import scores_path
    from sepkit.evaluation.statistics import summary

    root = Root.open(where["root"], where["profile"])
    if [estimates, weights, experiment].count(None) != 2:
        raise UsageError("Expected an experiment, or --estimates with a folder, or --weights with a file: one of them.")
    if experiment is None:
        what: dict[str, Any] = {"estimates": estimates, "weights": weights, "protocol": protocol, "wiener": wiener}
        scored = sepkit.given(name, **what, root=root, profile=where["profile"])
    else:
        scored = run_named(root, experiment, seed, fold)
        if experiment not in REFERENCES and not scored.path.exists():
            get_experiment(experiment)  # an unknown experiment is a wrong call, not a missing run
    name, scores = scored.name, sepkit.evaluate(scored, split=split, **where)
    if museval:
        from sepkit.evaluation.museval_json import write_museval

        print(f"museval's JSON files: {write_museval(scored, split)}")
    print(f"{name}: medians over songs, dB ({scores_path(scored, split)})")
    for source in scores["source"].unique():
        for metric in scores["metric"].unique():
            of = summary(scores, metric, source)
            print(f"  {source:14} {metric:18} {of['median']:7.2f} [{of['q25']:.2f}, {of['q75']:.2f}] n {of['n']}")
    if name == "umxhq":
        print(f"{UMXHQ}.")
    return 1 if scores.attrs["unscored"] else 0
