"""`python -m sepkit …`: each command is the Python call of the same name.

Exit status: 0 done, 1 it failed and says why in one line, 2 the call was wrong.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import sepkit
from sepkit.errors import SepkitError, UsageError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepkit", description="A one-week laboratory for music source separation."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.add_argument("--profile", help="demo, preview or full (default: SEPKIT_PROFILE, else demo)")
        command.add_argument("--root", help="folder for caches, runs and results (default: SEPKIT_ROOT)")
        return command

    def with_data(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command.add_argument("--data", help="folder of songs with train/ and test/ (default: SEPKIT_DATA)")
        return command

    def with_run(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--fold", type=int, help="fold of the cross-validation by artist: 0, 1 or 2")
        command.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
        return command

    def with_pick(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command.add_argument("--pick", type=_names, help="rows of the menu, as F,C+D,A")
        command.add_argument("--hours", type=float, help="GPU hours that the rows may take together")
        return command

    doctor = with_data(
        add("doctor", "Looks at the machine and at the songs, and says what would stop the work.")
    )
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")
    demo = add("demo", "Makes the procedural demo songs.")
    demo.add_argument("folder")
    demo.add_argument("--seed", type=int, default=0)
    with_data(add("cache", "Builds the training cache."))
    train = with_run(with_data(add("train", "Trains one row of the menu, or goes on with it.")))
    train.add_argument("experiment", help="a row of the menu: Base, …")
    evaluate = with_run(with_data(add("evaluate", "Scores a trained run, or mixture, or oracle.")))
    evaluate.add_argument("experiment", help="a row of the menu, or mixture, or oracle")
    evaluate.add_argument("--split", default="test", help="test (once, choices frozen) or valid")
    evaluate.add_argument("--jobs", type=int, help="songs at a time (default: one a core)")
    evaluate.add_argument("--museval", action="store_true", help="also write the windows as museval does")
    grid = with_data(add("grid", "Trains and scores rows × seeds × folds, a line a run, then a table."))
    grid.add_argument("--rows", type=_names, required=True, help="rows of the menu, as Base,C,UMX")
    grid.add_argument("--seeds", type=_numbers, default=[0], help="as 0,1,2 (default: 0)")
    grid.add_argument(
        "--folds", type=_folds, default=[None], help="as 0,1,2; none is the usual split (default: none)"
    )
    grid.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    grid.add_argument("--jobs", type=int, help="runs, then songs, at a time (default: one a core)")
    separate = add("separate", "Separates audio files with a trained run.")
    separate.add_argument("files", nargs="+")
    separate.add_argument("--run", default="Base-s0")
    separate.add_argument("--out", help="folder for the results (default: beside each file)")
    separate.add_argument("--device")
    compare = add("compare", "Compares two runs, or rows with all their seeds, over their test songs.")
    compare.add_argument("run", help="a row of the menu, a run, as C-s1, or a folder of museval's JSON files")
    compare.add_argument("base", help="what to compare with, as Base, or Base-s1, or oracle")
    compare.add_argument("--metric", default="sdr_bsseval")
    compare.add_argument("--source", default="vocals")
    add("scoreboard", "Prints the scoreboard and writes it as CSV, Markdown and HTML.")
    add("report", "Writes the milestone report, one HTML file.")
    add("budget", "Prints the minutes spent, by run and stage, those of runs that died included.")
    plan = with_pick(add("plan", "Prints what rows would cost in minutes, before they are spent."))
    plan.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    plan.add_argument(
        "--power", action="store_true", help="instead, what difference songs and seeds can show"
    )
    plan.add_argument("--songs", type=int, help="for --power: songs (default: the profile's test songs)")
    plan.add_argument("--seeds", type=_numbers, default=[2, 3, 5], help="for --power: a side, as 2,3,5")
    plan.add_argument("--alpha", type=float, default=0.01, help="for --power: of the test over songs")
    plan.add_argument(
        "--minutes", type=float, help="instead, how many epochs each picked row gets for these minutes"
    )
    plan.add_argument("--data", help="folder of songs, which --minutes needs (default: SEPKIT_DATA)")
    week = with_pick(with_data(add("week", "Runs the seven notebooks, a line a day.")))
    week.add_argument("--days", type=_numbers, help="some days only, as 1,6,7")
    week.add_argument("--seed", type=int, default=0)
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(name) for name in _names(text)]


def _folds(text: str) -> list[int | None]:
    return [None if name == "none" else int(name) for name in _names(text)]


_numbers.__name__ = _folds.__name__ = "list of numbers"  # argparse's word for it


def main(arguments: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    try:
        return _dispatch(args)
    except (SepkitError, OSError) as error:  # OSError: a full disk, a folder without leave to write
        print("sepkit:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("sepkit: stopped; the same command goes on where it was", file=sys.stderr)
        return 1


def _dispatch(args: argparse.Namespace) -> int:
    where = {"profile": args.profile, "root": args.root}
    match args.command:
        case "doctor":
            report = sepkit.doctor(args.data, **where)
            print(
                json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
                if args.json
                else report
            )
            return 0 if report.ok else 1
        case "demo":
            print(sepkit.demo(args.folder, seed=args.seed))
        case "cache":
            sepkit.cache(data=args.data, **where)
        case "train":
            run = sepkit.train(
                args.experiment, data=args.data, seed=args.seed, fold=args.fold, device=args.device, **where
            )
            print(f"{run.name} is finished: {run.path}")
        case "grid":
            table = sepkit.grid(
                args.rows, seeds=args.seeds, folds=args.folds, n_jobs=args.jobs, data=args.data, device=args.device,
                **where,
            )  # fmt: skip
            _print_table(table)
        case "evaluate":
            _evaluate(args, where)
        case "separate":
            sepkit.separate(args.files, run=args.run, out=args.out, device=args.device, **where)
        case "compare":
            result = sepkit.compare(args.run, args.base, metric=args.metric, source=args.source, **where)
            print(result.sentence, result.method_sentence, sep="\n")
        case "scoreboard":
            from sepkit.reporting.scoreboard import print_scoreboard

            print_scoreboard(sepkit.scoreboard(args.root, args.profile))
        case "report":
            print(sepkit.report(args.root, args.profile))
        case "budget":
            from sepkit.storage import WEEK_HOURS, hours_left

            _print_table(sepkit.budget(args.root, args.profile))
            print(f"GPU hours left: {hours_left(args.root, args.profile):.2f} of {WEEK_HOURS:g}")
        case "plan" if args.minutes is not None:
            rows = ["Base"] if args.pick is None else args.pick
            _print_table(
                sepkit.equal_epochs(rows, minutes=args.minutes, data=args.data, device=args.device, **where)
            )
        case "plan" if args.power:
            from sepkit.evaluation.power import power_table

            table = power_table(songs=args.songs, seeds=args.seeds, alpha=args.alpha, **where)
            _print_table(table)
            print(table.attrs["basis"])
        case "plan":
            _print_table(sepkit.plan(pick=args.pick, hours=args.hours, device=args.device, **where))
        case "week":
            sepkit.week(
                data=args.data, seed=args.seed, days=args.days, pick=args.pick, hours=args.hours, **where
            )
    return 0


def _print_table(table: Any) -> None:
    from tabulate import tabulate

    print(tabulate(table, headers="keys", showindex=False, floatfmt=".2f") if len(table) else "nothing yet")


def _evaluate(args: argparse.Namespace, where: dict[str, str | None]) -> None:
    from sepkit.evaluation.scoring import REFERENCES, scores_path
    from sepkit.evaluation.statistics import summary
    from sepkit.experiments import get_experiment
    from sepkit.storage import Root, run_name

    if args.experiment in REFERENCES:
        run = sepkit.reference(args.experiment, data=args.data, split=args.split, n_jobs=args.jobs, **where)
    else:
        run = Root.open(args.root, args.profile).run(run_name(args.experiment, args.seed, args.fold))
        if not run.path.exists():
            get_experiment(args.experiment)  # an unknown row is a wrong call, not a missing run
    scores = sepkit.evaluate(run, data=args.data, split=args.split, device=args.device, n_jobs=args.jobs)
    if args.museval:
        from sepkit.evaluation.museval_json import write_museval

        print(f"museval's JSON files: {write_museval(run, args.split)}")
    print(f"{run.name}: medians over songs, dB ({scores_path(run, args.split)})")
    for source in scores["source"].unique():
        for metric in scores["metric"].unique():
            figures = summary(scores, metric, source)
            print(
                f"  {source:14} {metric:18} {figures['median']:7.2f} [{figures['q25']:.2f}, {figures['q75']:.2f}] n {figures['n']}"
            )


if __name__ == "__main__":
    sys.exit(main())
