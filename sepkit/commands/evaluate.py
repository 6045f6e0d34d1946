"""`evaluate`: the scores of a run, or of a reference, on its test songs."""

from argparse import ArgumentParser, Namespace

import sepkit
from sepkit.commands import run_options
from sepkit.experiments import REFERENCES, get_experiment
from sepkit.storage import Root, run_name


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("experiment", help="an entry of the menu, or mixture, or oracle")
    run_options(parser)
    parser.add_argument("--split", default="test", help="test (once, choices frozen) or valid")
    parser.add_argument("--jobs", dest="n_jobs", metavar="JOBS", type=int, help="songs at a time (default: one a core)")
    parser.add_argument("--museval", action="store_true", help="also write the windows as museval does")


def run(args: Namespace) -> None:
    from sepkit.evaluation.score_files import scores_path
    from sepkit.evaluation.statistics import summary

    reference = args.experiment in REFERENCES
    scored = Root.open(args.root, args.profile).run(
        args.experiment if reference else run_name(args.experiment, args.seed, args.fold)
    )
    if not (reference or scored.path.exists()):
        get_experiment(args.experiment)  # an unknown experiment is a wrong call, not a missing run
    options = {key: getattr(args, key) for key in ("profile", "data", "root", "split", "device", "n_jobs")}
    scores = sepkit.evaluate(scored.name, **options)
    if args.museval:
        from sepkit.evaluation.museval_json import write_museval

        print(f"museval's JSON files: {write_museval(scored, args.split)}")
    print(f"{scored.name}: medians over songs, dB ({scores_path(scored, args.split)})")
    for source in scores["source"].unique():
        for metric in scores["metric"].unique():
            of = summary(scores, metric, source)
            print(f"  {source:14} {metric:18} {of['median']:7.2f} [{of['q25']:.2f}, {of['q75']:.2f}] n {of['n']}")
