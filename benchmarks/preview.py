"""Trains missing runs, scores them, prints each beside the stored score and its largest per-song difference.

    python benchmarks/preview.py --data SONGS --root ROOT --experiments Base,H --seeds 0,1 [--folds none,0,1,2] [--jobs 2] [--device cuda]
    python benchmarks/preview.py --table
    python benchmarks/preview.py --report FOLDER

The first command works on the preview's real songs; stopped anywhere, the same command resumes. With --keep it
stores the scores in docs/preview/ and writes README's table. The second command writes that table from
docs/preview/ alone; the third the scoreboard and the milestone report, into FOLDER.

docs/preview/scores.csv: a line a run, song and source, a column a metric, dB, empty where undefined.
docs/preview/frames/RUN.csv.gz: the run's frames.csv, BSS Eval's scores of every window.
docs/preview/runs.csv: a line a run: epochs, best epoch, criterion, minutes, parameters, device, precision.
"""

import argparse
from pathlib import Path

import pandas as pd

import sepkit
from sepkit.data.folds import FOLDS
from sepkit.evaluation.comparison import SILENCE
from sepkit.evaluation.metrics import METRICS
from sepkit.evaluation.scoring import reference
from sepkit.evaluation.statistics import Comparison, compare_all, compare_scores, corrected, show_p, summary
from sepkit.experiments import BASE, BOUNDS, MENU, resolve, week_experiments
from sepkit.profiles import PREVIEW, PROTOCOLS
from sepkit.reporting.rows import ordered
from sepkit.storage import Root, Run, frames_beside, read_frames, with_windows, write_csv, write_json, write_text

PLACE = Path(__file__).parent.parent
SCORES, RUNS = PLACE / "docs/preview/scores.csv", PLACE / "docs/preview/runs.csv"
FRAMES = PLACE / "docs/preview/frames"
OF_A_LINE = ["run", "experiment", "seed", "fold", "protocol", "accompaniment", "track", "source"]
FACTS = [
    "epochs", "best_epoch", "best_sdr", "minutes", "cpu_min", "parameters", "stopped", "device", "precision",
]  # fmt: skip
BEST, RECIPE = "Best", "UMX"  # the menu's answer, and what a user would train without sepkit
FOUR = ("Base-4", "A-4")  # masks and waves of four sources
BEGIN, END = "<!-- preview table, by benchmarks/preview.py -->\n", "<!-- end of the preview table -->\n"


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """scores.csv with a column a metric, and the windows that counted."""
    frames = scores[scores["metric"] == "sdr_bsseval"].set_index(["run", "track", "source"])["frames"]
    table = scores.pivot(index=OF_A_LINE, columns="metric", values="value").reset_index()
    table["frames"] = frames.reindex(pd.MultiIndex.from_frame(table[["run", "track", "source"]])).to_numpy()
    return table[[*OF_A_LINE, "frames", *(name for name in METRICS if name in table)]]


def long(table: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `wide`, for `compare_scores`; an empty cell is undefined."""
    names = [name for name in METRICS if name in table]
    scores = table.melt([*OF_A_LINE, "frames"], names, "metric", "value")
    return scores.assign(status=scores["value"].notna().map({True: "ok", False: "undefined"}))


def kept(file: Path) -> pd.DataFrame:
    text = dict.fromkeys(("run", "track", "accompaniment", "stopped"), str)
    return pd.read_csv(file, dtype=text) if file.exists() else pd.DataFrame(columns=["run"])


def kept_windows(run: str) -> pd.DataFrame:
    return read_frames(FRAMES / f"{run}.csv.gz")


def kept_scores() -> pd.DataFrame:
    """As `long`, with the windows of those runs whose windows are kept."""
    runs = long(kept(SCORES)).groupby("run", sort=False)
    return pd.concat([with_windows(rows, kept_windows(str(run))) for run, rows in runs])


def measure(arguments: argparse.Namespace) -> None:
    where = {"profile": "preview", "data": arguments.data, "root": arguments.root}
    names = arguments.experiments.split(",")
    trained = [name for name in names if name not in BOUNDS]
    runs = [reference(name, **where) for name in names if name in BOUNDS]
    if trained:
        sepkit.grid(
            trained,
            seeds=arguments.seeds,
            folds=arguments.folds,
            n_jobs=arguments.jobs,
            device=arguments.device,
            **where,
        )
        root = Root.open(arguments.root, "preview")
        runs += [root.run_of(name, s, f) for name in trained for s in arguments.seeds for f in arguments.folds]
    old = kept(SCORES)
    for run in runs:
        print(beside(run, old))
    if arguments.keep:
        names = [run.name for run in runs]
        scores = pd.concat([old[~old["run"].isin(names)], *(wide(run.scores()) for run in runs)])
        facts = kept(RUNS)
        facts = pd.concat([facts[~facts["run"].isin(names)], pd.DataFrame([fact(run) for run in runs])])
        for table, file in ((scores, SCORES), (facts, RUNS)):
            key = [name for name in ("run", "track", "source") if name in table]
            write_csv(file, table.convert_dtypes().sort_values(key))  # seeds and counts are whole numbers
        for run in runs:
            keep_windows(run)


def keep_windows(run: Run) -> None:
    """Stores the run's windows, the same bytes for the same scores."""
    windows = read_frames(frames_beside(run.scores_path))
    FRAMES.mkdir(exist_ok=True)
    windows.to_csv(FRAMES / f"{run.name}.csv.gz", index=False, compression={"method": "gzip", "mtime": 0})


def fact(run: Run) -> dict[str, object]:
    return {"run": run.name, **{name: run.status.get(name) for name in FACTS}}


def beside(run: Run, old: pd.DataFrame) -> str:
    """A run's median beside the stored one."""
    new, before = run.scores(), old[old["run"] == run.name]
    text = f"{run.name}: median sdr_bsseval of vocals {summary(new)['median']:.2f} dB"
    if before.empty:
        return f"{text}, not stored yet"
    both = [table[table["source"] == "vocals"].set_index("track")["sdr_bsseval"] for table in (wide(new), before)]
    gap = (both[0] - both[1]).abs().max()
    return f"{text}, kept {both[1].median():.2f} dB, a song differs by at most {gap:.2f} dB"


def readme_table() -> str:
    """A row an experiment, its scores averaged over seeds, against Base on the same songs; then two sentences
    on Best, against openunmix's own recipe and out of fold; then the networks of four sources."""
    every, facts = kept_scores(), kept(RUNS).set_index("run")
    two_stem = every[every["protocol"] == "2stem"]
    scores = two_stem[two_stem["fold"].isna()]
    by_name = {str(name): part for name, part in scores.groupby("experiment")}
    if BASE not in by_name:
        raise SystemExit(
            f"{SCORES} holds no scores of {BASE}, which all experiments are compared with: --experiments {BASE} --keep."
        )
    tested = {name: part for name, part in by_name.items() if name not in (BASE, *BOUNDS)}
    tests, _ = compare_all(tested, by_name[BASE])
    lines = [
        "| experiment | seeds | sdr_bsseval | si_sdr | sir | sar | accompaniment | against Base, dB | p | p (Holm) | as methods | CPU min |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ordered(by_name):
        lines.append(row(name, by_name[name], tests.get(name), facts))
    missing = [name for name in week_experiments() if name not in by_name and MENU[name].start_from is None]
    if missing:
        lines += ["", f"Not trained yet: {', '.join(missing)}."]
    if {BEST, RECIPE} <= by_name.keys():
        found = compare_scores(by_name[BEST], by_name[RECIPE])
        lines += ["", found.sentence, found.method_sentence]
    folds = two_stem[two_stem["fold"].notna() & (two_stem["experiment"] == BEST)]
    if not folds.empty:
        lines += ["", out_of_fold(folds, facts)]
    four = every[every["protocol"] == "4stem"]
    if {*FOUR} <= {*four["experiment"]}:
        lines += ["", *four_sources(four, facts)]
    return "\n".join(lines) + "\n"


def four_sources(scores: pd.DataFrame, facts: pd.DataFrame) -> list[str]:
    """A row a source: the networks of four sources, and waves against masks, p corrected for the sources."""
    masks, waves = (scores[scores["experiment"] == name] for name in FOUR)
    tests = corrected({source: compare_scores(waves, masks, source=source) for source in PROTOCOLS["4stem"]})
    spent = " and ".join(minutes(facts.reindex(each["run"].unique())) for each in (masks, waves))
    lines = [
        f"Four sources, each scored against the four stems (protocol 4stem); {spent} CPU minutes:",
        "",
        f"| source | {FOUR[0]} | {FOUR[1]} | {FOUR[1]} against {FOUR[0]}, dB | p | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for source, test in tests.items():
        medians = (f"{summary(each, source=source)['median']:.2f}" for each in (masks, waves))
        lines.append(f"| {' | '.join([source, *medians, *tested_cells(test)])} |")
    return lines


def tested_cells(test: Comparison | None) -> list[str]:
    """The cells of a test: the difference with its interval, p, p after Holm with the mark."""
    if test is None:
        return ["—"] * 3
    difference = f"{test.median_difference:+.2f} [{test.interval[0]:+.2f}, {test.interval[1]:+.2f}]"
    return [difference, show_p(test.p_value), f"{show_p(test.p_final)} {mark(test)}".strip()]


def out_of_fold(scores: pd.DataFrame, facts: pd.DataFrame) -> str:
    """The scores of a cross-validation by artist, in a sentence."""
    main, runs = summary(scores), scores["run"].unique()
    where = " and ".join(sorted(facts.loc[runs, "device"].unique()))
    return (
        f"{BEST} in cross-validation by artist, {len(runs)} of {FOLDS} folds ({where}): median sdr_bsseval of vocals "
        f"**{main['median']:.2f}** [{main['q25']:.2f}, {main['q75']:.2f}] dB over {scores['track'].nunique()} songs, "
        "each scored by the fold that did not train on its artist."
    )


def row(name: str, scores: pd.DataFrame, test: Comparison | None, facts: pd.DataFrame) -> str:
    def median(metric: str, source: str = "vocals") -> str:
        return f"{summary(scores, metric, source)['median']:.2f}"

    main = summary(scores)
    runs = sorted(scores["run"].unique())
    cells = [
        f"**{name}**" if name in MENU else name,
        "—" if name in BOUNDS else str(len(runs)),
        f"**{main['median']:.2f}** [{main['q25']:.2f}, {main['q75']:.2f}]",
        *(median(metric) for metric in ("si_sdr", "sir_bsseval", "sar_bsseval")),
        median("sdr_bsseval", "accompaniment"),
        *tested_cells(test),
        "—" if test is None or test.method_interval is None else "[{:+.2f}, {:+.2f}]".format(*test.method_interval),
        minutes(facts.reindex(runs)),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def minutes(facts: pd.DataFrame) -> str:
    """The mean CPU minutes of the runs, or those of the GPU that they were trained on."""
    if facts["cpu_min"].isna().all():
        return "—"
    if (facts["device"] == "cpu").all():
        return f"{facts['cpu_min'].mean():.1f}"
    return f"{facts['minutes'].mean():.1f} on a GPU"


def mark(test: Comparison) -> str:
    return test.mark if test.significant or test.mark == SILENCE else ""


def write_table() -> None:
    readme = PLACE / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not SCORES.exists():
        raise SystemExit(f"{SCORES} is not there yet: give --data, --root and --keep first.")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{readme} has no place for the table: put {BEGIN.strip()} and {END.strip()} there.")
    before, rest = text.split(BEGIN)
    write_text(readme, before + BEGIN + readme_table() + END + rest.split(END)[1])


def report_of_kept(folder: Path) -> Path:
    """The milestone report of the kept scores, in a root that is made of them; without sound and pictures of sound."""
    root, scores, facts = Root.open(folder, PREVIEW), long(kept(SCORES)), kept(RUNS).set_index("run")
    for name, rows in scores.groupby("run"):
        run, first, known = root.run(str(name)), rows.iloc[0], facts.reindex([name]).iloc[0].dropna().to_dict()
        fold = None if pd.isna(first["fold"]) else int(first["fold"])
        settings = resolve(MENU[first["experiment"]], PREVIEW) if first["experiment"] in MENU else {}
        write_json(run.path / "config.json", {**settings, "run": name, "experiment": first["experiment"], "profile": PREVIEW.name,
                                              "seed": None if pd.isna(first["seed"]) else int(first["seed"]), "fold": fold})  # fmt: skip
        gpu = known.get("device", "cpu") != "cpu"
        write_json(
            run.path / "status.json",
            {"state": "finished", **known, "gpu_min": known.get("minutes", 0.0) if gpu else 0.0},
        )
        write_csv(run.scores_path, rows)
        write_csv(frames_beside(run.scores_path), kept_windows(run.name))
        if known.get("minutes"):
            minutes, device = known["minutes"], known["device"]
            root.add_minutes(run=str(name), stage="train", minutes=minutes, device=device, gpu_attached=gpu)
    return sepkit.report(root)


def numbers(text: str) -> list[int | None]:
    return [None if part == "none" else int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--root")
    parser.add_argument("--experiments", default=BASE)
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--folds", type=numbers, default=[None])
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.data:
        measure(arguments)
    if arguments.table or arguments.keep:
        write_table()
        print(readme_table())
    if arguments.report:
        print(report_of_kept(arguments.report))


if __name__ == "__main__":
    main()
