"""The milestone report: one HTML file with tables, figures and sentences, computed from the root.

`report/milestone2.html` holds everything in itself and opens offline; the same figures lie as PNG
under `report/figures/`. A part that has nothing to show says so.
"""

import base64
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import METRICS
from sepkit.experiments import REFERENCES
from sepkit.profiles import Profile
from sepkit.reporting import lessons
from sepkit.reporting.canvas import REPORTED, save
from sepkit.reporting.figures import best_epoch
from sepkit.reporting.rows import MAIN
from sepkit.reporting.scoreboard import EMPTY, Board, collect, scoreboard
from sepkit.reporting.sections import Section
from sepkit.reporting.tables import Block, Grid, Image, page, plain_grid
from sepkit.storage import WEEK_HOURS, Root, Run, git_revision, write_text

TITLE = "Milestone 2: what improves the separation of vocals?"
MEASURES = (
    "Medians over songs, in dB. Every column is another quantity: they do not compare with one another. sdr_onsets is "
    "sdr_global over the 50 ms at each onset of the true vocals. silence_energy_db is the level in dBFS of the estimate "
    "where the vocals are silent; BSS Eval drops these seconds, so only this column shows voices invented there; lower "
    "is better."
)


def report(root: Any, profile: Profile | str | None = None) -> Path:
    """Writes `report/milestone2.html` (and the scoreboard, and the figures) and returns its path."""
    root = Root.open(root, profile)
    board, budget = collect(root, profile), root.budget()
    scoreboard(root, profile, board)
    folder = root.path / "report" / "figures"
    for old in folder.glob("*.*"):  # those of another name would stay
        old.unlink()
    blocks = [
        Block("What was learnt", items=lessons.lessons(root, profile, board)),
        *board.blocks,
        *(_results(board.main, folder, _minutes(root, board.main)) if board.main else [Block("Results", [EMPTY])]),
        _training(root, board, folder),
        _budget(budget, folder),
    ]
    names = list(board.main.table["Exp"]) if board.main else []
    listed = ", ".join(name for name in names if name not in REFERENCES) or "none yet"
    revision = git_revision()
    made = f"Made on {time.strftime('%Y-%m-%d')}" + (f" from revision {revision}" if revision else "")
    path = root.path / "report" / "milestone2.html"
    lead = [f"{made}. Experiments trained and scored: {listed}.", board.about]
    write_text(path, page(TITLE, blocks=blocks, lead=lead))
    return path


def _draw(part: str, folder: Path, alt: str, *data: Any) -> list[Image]:
    """The figures of this part of the report, drawn from `data` and written under `folder`."""
    images = []
    for draw, caption in REPORTED[part].items():
        file = save(draw(*data), folder / f"{draw.__name__}.png")
        source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
        images.append(Image(source, f"{draw.__name__.replace('_', ' ')}: {alt}", caption))
    return images


def _results(section: Section, folder: Path, minutes: dict[str, float]) -> list[Block]:
    """Scores song by song, differences from the base, expectations, and every measure."""
    scores, base, names, tests = section.scores, section.base, list(section.table["Exp"]), section.comparisons
    by_name: dict[Any, pd.DataFrame] = dict(list(scores.groupby("experiment")))
    medians = ", ".join(f"{row['Exp']} {row[MAIN]:.2f} dB" for row in section.table.to_dict("records"))
    pictures, details, about = list[Image](), list[Grid](), f"No experiment could be compared with {base}."
    if tests:
        about = f"Every experiment against {base}, song by song, with the tests' details below."
        details.append(
            plain_grid(
                pd.DataFrame({name: test.details for name, test in tests.items()}).T.rename_axis("Exp").reset_index()
            )
        )
        gains = ", ".join(f"{name} {test.median_difference:+.2f} dB" for name, test in tests.items())
        pictures += _draw("differences", folder, f"differences from {base}: {gains}.", tests)
        pictures += _draw("songs", folder, about, {name: by_name[name] for name in tests}, by_name[base])
        pictures += _draw("minutes", folder, about, tests, minutes)
    expected = lessons.expectations(names, section.comparisons).reset_index()
    gain = f"The gain over {base} in sdr_bsseval of vocals, beside what the plan and the literature expect."
    measures = section.facts["median"].xs("vocals", level="source").unstack("metric")
    measures = measures.reindex(index=names, columns=list(METRICS)).dropna(axis=1, how="all")
    return [
        Block("Scores song by song", pictures=_draw("scores", folder, f"medians of {MAIN}: {medians}.", scores)),
        Block(f"Differences from {base}", [about], details, pictures),
        Block("Expected and measured", [gain], [plain_grid(expected)]),
        Block("Every measure of vocals", [MEASURES], [plain_grid(measures.rename_axis("Exp").reset_index())]),
    ]


def _minutes(root: Root, section: Section) -> dict[str, float]:
    """Minutes of one training, by experiment: the mean over its runs."""
    runs = section.scores.groupby("experiment")["run"].unique()
    spent = {name: [float(root.run(run).status.get("minutes") or 0) for run in names] for name, names in runs.items()}
    return {str(name): sum(minutes) / len(minutes) for name, minutes in spent.items() if all(minutes)}


def _training(root: Root, board: Board, folder: Path) -> Block:
    runs = list[Run]()
    for run in root.runs():
        with suppress(SepkitError, ValueError):  # the scoreboard lists it with the reason
            if run.config.get("profile") in (None, board.profile.name) and len(run.history()):
                runs.append(run)
    if not runs:
        return Block("Training", ["No run has finished an epoch yet."])
    table = pd.DataFrame([_facts(run) for run in runs], dtype=object)  # whole numbers stay whole
    drawn = [run for run in runs if run.config.get("fold") is None] or runs
    best = "; ".join(_best(run) for run in drawn)
    pictures = _draw("runs", folder, f"best epoch: {best}.", drawn)
    note = "Early stopping cuts the cosine schedule short: the last learning rate shows where it stopped."
    return Block("Training", [note], [plain_grid(table)], pictures)


def _facts(run: Run) -> dict[str, Any]:
    of = run.status.get
    rate, count, minutes, gpu = of("last_learning_rate"), of("parameters"), of("minutes"), of("gpu_min")
    return {
        "run": run.name, "state": run.state, "epochs": of("epochs"), "best epoch": of("best_epoch"), "stopped": of("stopped"),
        "last learning rate": rate and f"{rate:.1e}", "minutes": minutes and float(minutes), "GPU minutes": gpu and float(gpu),
        "VRAM, MiB": of("vram_mib"), "device": of("device"), "parameters": count and f"{count:,}".replace(",", " "),
    }  # fmt: skip


def _best(run: Run) -> str:
    row = run.history().iloc[best_epoch(run.history())]
    value = f"{row['valid_sdr']:.2f} dB" if "valid_sdr" in row else f"loss {row['valid_loss']:.4f}"
    return f"{run.name} {row['epoch']:.0f}, {value}"


def _budget(budget: pd.DataFrame, folder: Path) -> Block:
    heading, spent = f"The budget: {WEEK_HOURS:g} GPU-hours", lessons.money(budget)[0]
    if budget.empty:
        return Block(heading, [spent])
    table = budget.pivot_table(index="run", columns="stage", values="minutes", aggfunc="sum", fill_value=0.0)
    table["all"], by_run = table.sum(axis=1), budget.groupby("run")
    table["GPU minutes"], table["peak VRAM, MiB"] = by_run["gpu_min"].sum(), by_run["vram_mib"].max().astype(int)
    grid = plain_grid(table.reset_index(), "Minutes by run and stage")
    return Block(heading, [spent], [grid], _draw("budget", folder, spent, budget))
