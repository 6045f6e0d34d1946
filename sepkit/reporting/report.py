"""The milestone report as a hand-in: one HTML file of the students' words, tables, figures and players.

`report/milestone2.html` holds everything in itself, opens offline and prints on A4 pages; the same figures lie
under `report/figures/`, and what students write themselves in `report/words.md`. A part that has nothing to show says so.
"""

import base64
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import METRICS
from sepkit.evaluation.statistics import Comparison, show_p
from sepkit.experiments import BASE, BASES, MENU, REFERENCES, Experiment, entry_of
from sepkit.profiles import Profile
from sepkit.reporting import lessons
from sepkit.reporting.canvas import REPORTED, save
from sepkit.reporting.figures import MANY
from sepkit.reporting.outcome import predictions
from sepkit.reporting.rows import MAIN
from sepkit.reporting.scoreboard import EMPTY, Board, collect, scoreboard
from sepkit.reporting.sections import Section
from sepkit.reporting.settings import appendix, compute_block, data_block, runs_of, settings_block
from sepkit.reporting.songs import listening_blocks
from sepkit.reporting.tables import NONE, Block, Image, interval, page, plain_grid
from sepkit.reporting.words import COURSE, NAMES, PREDICTIONS, QUESTION, THOUGHTS, html_of, words
from sepkit.storage import Root, Run, git_revision, write_text

TITLE = "Milestone 2: what improves the separation of vocals?"
ASKED = "What improves the separation of vocals from music within 8 GPU-hours of training, and is the difference real? Each experiment changes one thing against {}, and stands on a hypothesis that was written before its training."
TO_WRITE = "to be written in report/words.md."
SAID = ("protocol", "p", "p after Holm", "songs better")  # of a test's details, in the table above them
TESTS = (
    "The gain over {} in sdr_bsseval of vocals: Hodges–Lehmann estimate in dB with a 95 % interval that resamples artists, "
    "Wilcoxon's p, and p after Holm's correction for all experiments of the table; beside what plan and literature expect."
)
STOPPED = "Early stopping cuts the cosine schedule short: the last learning rate shows where it stopped."
TOO_MANY = (
    "{} runs are too many for a curve each: those of an experiment share a panel and a colour. Drawn are the base and the "
    "experiments with the highest SDR on validation clips, {} as panels, seven as curves over minutes, the others there as "
    "marks. All epochs of a run are in runs/RUN/history.csv; sepkit.reporting.figures.training_curves draws any runs."
)
MEASURES = (
    "Medians over songs, in dB. Every column is another quantity: they do not compare with one another. sdr_onsets is "
    "sdr_global over the 50 ms at each onset of the true vocals. silence_energy_db is the level in dBFS of the estimate "
    "where the vocals are silent; BSS Eval drops these seconds, so only this column shows voices invented there; lower "
    "is better."
)


def report(root: Any, profile: Profile | str | None = None) -> Path:
    """Writes `report/milestone2.html` (and the scoreboard, and the figures) and returns its path."""
    root = Root.open(root, profile)
    board, own = collect(root, profile), words(root)
    scoreboard(root, profile, board)
    folder = root.path / "report" / "figures"
    for old in folder.glob("*.*"):  # those of another name, or of a run that is gone, would stay
        old.unlink()
    section = board.main
    blocks = [
        *_question(root, section, own),
        *([data_block(root, board, section), settings_block(root, section)] if section else []),
        *board.blocks,
        *([_statistics(root, section, folder), *_measures(section, folder)] if section else []),
        *listening_blocks(root, board),
        _training(root, board, folder),
        compute_block(root, section, lambda: _draw("budget", folder, "minutes by run", root.budget())),
        Block("Limitations", items=lessons.limitations(board)),
        Block("Lessons", items=lessons.learnt(section, board) or [EMPTY]),
        _own(THOUGHTS, own),
        Block("References", html=html_of((Path(__file__).parent / "references.md").read_text(encoding="utf-8"))),
        *appendix(root, board),
    ]
    names = [name for name in section.table["Exp"] if name not in REFERENCES] if section else []
    revision = git_revision()
    made = f"Made on {time.strftime('%Y-%m-%d')}" + (f" from revision {revision}" if revision else "")
    lead = [
        *(own[name] or f"{name}: {TO_WRITE}" for name in (NAMES, COURSE)),
        f"{made}. Experiments trained and scored: {', '.join(names) or 'none yet'}.",
    ]
    path = root.path / "report" / "milestone2.html"
    write_text(path, page(TITLE, blocks=blocks, lead=lead))
    return path


def _own(heading: str, own: dict[str, Markup]) -> Block:
    return Block(heading, [] if own[heading] else [TO_WRITE], html=own[heading], level=2 if heading == THOUGHTS else 3)


def _question(root: Root, section: Section | None, own: dict[str, Markup]) -> list[Block]:
    base = section.base if section else BASE
    entries = _entries(root, section).values() if section else ()
    names = [entry for entry in entries if entry.hypothesis != NONE]
    table = lessons.expectations(names).drop(columns="literature").rename_axis("Exp").reset_index()
    hypotheses = Block("Question and hypotheses", [ASKED.format(base)], [plain_grid(table)] if names else [])
    guesses = [
        {"Exp": name, "my prediction (dB)": said["gain_db"], "why": said["why"]}
        for name, said in predictions(root).items()
    ]
    mine = replace(_own(PREDICTIONS, own), grids=[plain_grid(pd.DataFrame(guesses))] if guesses else [])
    return [hypotheses, _own(QUESTION, own), replace(mine, paragraphs=[]) if guesses else mine]


def _entries(root: Root, section: Section) -> dict[str, Experiment]:
    """What is known of the section's trained experiments, by name."""
    return {name: entry_of(runs[0].config) for name, runs in runs_of(root, section).items()}


def _draw(part: str, folder: Path, alt: str, *data: Any) -> list[Image]:
    """The figures of this part of the report, drawn from `data` and written under `folder`."""
    images = []
    for draw, caption in REPORTED[part].items():
        file = save(draw(*data), folder / f"{draw.__name__}.png")
        source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
        images.append(Image(source, f"{draw.__name__.replace('_', ' ')}: {alt}", caption))
    return images


def _statistics(root: Root, section: Section, folder: Path) -> Block:
    """Differences from the base beside what was expected."""
    scores, base, tests = section.scores, section.base, section.comparisons
    if not tests:
        return Block("Statistics", [f"No experiment could be compared with {base}."])
    sides: dict[Any, pd.DataFrame] = {name: rows for name, rows in scores.groupby("experiment") if name in tests}
    gains = ", ".join(f"{name} {test.median_difference:+.2f} dB" for name, test in tests.items())
    about, of_base = f"differences from {base}: {gains}.", scores[scores["experiment"] == base]
    pictures = [
        *_draw("differences", folder, about, tests),
        *_draw("songs", folder, about, {name: sides[name] for name in tests}, of_base),
        *_draw("minutes", folder, about, tests, _minutes(root, section)),
    ]
    entries = _entries(root, section).items()
    table = pd.DataFrame([_tested(entry, tests.get(name)) for name, entry in entries if name in MENU or name in tests])
    said = [
        {"Exp": name, "in full": f"{test.sentence} {test.method_sentence if test.method_interval else ''}"}
        for name, test in tests.items()
    ]
    details = pd.DataFrame({name: test.details for name, test in tests.items()}).T
    details = details.drop(columns=[name for name in details if name in SAID or str(name).startswith("left out: ")])
    same = details.columns[(details.nunique() == 1) & details.notna().all()]
    caption = f"Alike in all tests: {'; '.join(f'{name}: {details[name].iloc[0]}' for name in same)}."
    details = details.drop(columns=same).rename_axis("Exp").reset_index()
    how = {"How this was tested": [plain_grid(pd.DataFrame(said), caption), plain_grid(details)]}
    return Block("Statistics", [TESTS.format(base)], [plain_grid(table)], pictures, details=how)


def _tested(entry: Experiment, test: Comparison | None) -> dict[str, str]:
    of_base = entry.name in BASES.values()
    return {
        "Exp": entry.name,
        "gain (dB)": f"{test.median_difference:+.2f}\n{interval(*test.interval, '+.2f')}" if test else NONE,
        "better": f"{test.n_better} of {test.n}" if test else NONE,
        "p": show_p(test.p_value if test else None),
        "p (Holm)": show_p(test.p_final if test else None),
        "verdict": test.verdict if test else "the base of the tests" if of_base else "not tested",
        "plan": entry.plan,
        "literature": entry.literature,
    }


def _measures(section: Section, folder: Path) -> list[Block]:
    """Scores song by song, and every measure."""
    medians = ", ".join(f"{row['Exp']} {row[MAIN]:.2f} dB" for row in section.table.to_dict("records"))
    pictures = _draw("scores", folder, f"medians of {MAIN}: {medians}.", section.scores)
    table = section.facts["median"].xs("vocals", level="source").unstack("metric")
    table = table.reindex(index=list(section.table["Exp"]), columns=list(METRICS)).dropna(axis=1, how="all")
    grid = plain_grid(table.rename_axis("Exp").reset_index())
    return [
        Block("Scores song by song", pictures=pictures, level=3),
        Block("Every measure of vocals", [MEASURES], [grid], level=3),
    ]


def _minutes(root: Root, section: Section) -> dict[str, float]:
    """Minutes of one training, by experiment: the mean over its runs."""
    runs = runs_of(root, section)
    found = {name: [float(run.status.get("minutes") or 0) for run in own] for name, own in runs.items()}
    return {name: sum(minutes) / len(minutes) for name, minutes in found.items() if all(minutes)}


def _training(root: Root, board: Board, folder: Path) -> Block:
    runs = list[Run]()
    for run in root.runs():
        with suppress(SepkitError, ValueError):  # the scoreboard lists it with the reason
            if run.config.get("profile") in (None, board.profile.name) and len(run.history()):
                runs.append(run)
    if not runs:
        return Block("Training", ["No run has finished an epoch yet."])
    grid = plain_grid(pd.DataFrame([_facts(run) for run in runs], dtype=object))  # whole numbers stay whole
    drawn = [run for run in runs if run.config.get("fold") is None] or runs
    if len(drawn) > MANY:
        drawn.sort(key=lambda run: run.config.get("experiment") != BASE)
        pictures = _draw("runs", folder, f"{len(drawn)} runs by experiment.", drawn)
        return Block(
            "Training", [STOPPED, TOO_MANY.format(len(drawn), MANY)], [], pictures, details={"Every run": [grid]}
        )
    bests = [(run.name, max(run.history().to_dict("records"), key=lambda row: row["valid_sdr"])) for run in drawn]
    best = "; ".join(f"{name} {row['epoch']}, {row['valid_sdr']:.2f} dB" for name, row in bests)
    return Block("Training", [STOPPED], [grid], _draw("runs", folder, f"best epoch: {best}.", drawn))


def _facts(run: Run) -> dict[str, Any]:
    of = run.status.get
    rate, count, minutes, gpu = of("last_learning_rate"), of("parameters"), of("minutes"), of("gpu_min")
    return {
        "run": run.name, "state": run.state, "epochs": of("epochs"), "best epoch": of("best_epoch"), "stopped": of("stopped"),
        "last learning rate": rate and f"{rate:.1e}", "minutes": minutes and float(minutes), "GPU minutes": gpu and float(gpu),
        "VRAM, MiB": of("vram_mib"), "device": of("device"), "parameters": count and f"{count:,}".replace(",", " "),
    }  # fmt: skip
