"""The milestone report: one HTML file with tables, figures and sentences, computed from the root.

`report/milestone2.html` holds everything in itself and opens offline; the same figures lie as PNG
under `report/figures/`.  A part that has nothing to show says so.
"""

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import METRICS
from sepkit.profiles import Profile
from sepkit.reporting import figures, lessons, tables
from sepkit.reporting.rows import BASE, REFERENCES, Board, Section, facts_of
from sepkit.reporting.scoreboard import collect, scoreboard
from sepkit.storage import Root, Run, git_revision, write_text

PAGE_DPI = 100
TITLE = "Milestone 2: what improves the separation of vocals?"


def report(root: Any, profile: Profile | str | None = None) -> Path:
    """Writes `report/milestone2.html` (and the scoreboard, and the figures) and returns its path."""
    root = Root.open(root, profile)
    scoreboard(root, profile)
    board = collect(root, profile)
    folder = root.path / "report" / "figures"
    budget = root.budget()
    blocks = [
        tables.Block("What was learnt", items=lessons.board_lessons(board, budget)),
        *tables.board_blocks(board),
        _songs(board.main, folder),
        _differences(board.main, folder),
        _expectations(board.main),
        _measures(board.main),
        _training(root, board, folder),
        _budget(budget, folder),
    ]
    path = root.path / "report" / "milestone2.html"
    write_text(path, tables.page(TITLE, blocks=blocks, lead=_lead(board)))
    return path


def _lead(board: Board) -> list[str]:
    rows = [] if board.main is None else [name for name in board.main.table["Exp"] if name not in REFERENCES]
    revision = git_revision()
    made = f"Made on {time.strftime('%Y-%m-%d')}" + (f" from revision {revision}" if revision else "")
    ran = (
        f"{len(rows)} rows are trained and scored: {', '.join(rows)}"
        if rows
        else "No row is trained and scored yet"
    )
    profile = board.profile
    return [
        f"{made}. {ran}.",
        f"Profile {profile.name}: {profile.songs}. It reduces against the plan: {profile.reduced}.",
    ]


def _image(figure: figures.Picture, file: Path, alt: str, caption: str) -> tables.Image:
    figures.save(figure, file)
    data = base64.b64encode(figure.png(PAGE_DPI)).decode("ascii")
    return tables.Image(f"data:image/png;base64,{data}", alt, caption)


def _songs(section: Section | None, folder: Path) -> tables.Block:
    heading = "Scores song by song"
    if section is None:
        return tables.Block(heading, ["There are no scores to draw yet."])
    leading = tables.score_columns(section.table)[0]
    told = ", ".join(f"{row['Exp']} {row[leading]:.2f} dB" for row in section.table.to_dict("records"))
    picture = _image(
        figures.score_bars(section.scores), folder / "scores.png", f"Bars of the median {leading}: {told}.",
        "Medians over songs with quartiles; each dot is a song. The lines are the mixture and the ideal ratio mask.",
    )  # fmt: skip
    return tables.Block(heading, pictures=[picture])


def _differences(section: Section | None, folder: Path) -> tables.Block:
    base = section.base if section else BASE
    heading = f"Differences from {base}"
    if section is None or not section.comparisons:
        return tables.Block(heading, [f"No row could be compared with {base} over the same songs."])
    pictures = []
    rows = section.scores
    for name, test in section.comparisons.items():
        figure = figures.paired_differences(
            rows[rows["experiment"] == name], rows[rows["experiment"] == base]
        )
        file = folder / f"differences_{_file_name(name)}.png"
        alt = (
            f"Sorted differences between {name} and {base} on {test.n} songs; {100 * test.share_improved:.0f} % are positive."
            if test.n
            else f"No song of {name} is defined on both sides."
        )
        pictures.append(_image(figure, file, alt, test.sentence))
    return tables.Block(
        heading,
        ["Each bar is a song; blue is better. The sentence under a figure is the whole test."],
        pictures=pictures,
    )


def _expectations(section: Section | None) -> tables.Block:
    heading = "Expected and measured"
    table = pd.DataFrame() if section is None else lessons.expectations(section)
    if section is None or table.empty:
        return tables.Block(heading, ["No row of the menu is scored yet."])
    return tables.Block(
        heading, [f"The gain over {section.base} in sdr_bsseval of vocals, beside what the plan and the literature led to expect."],
        [tables.plain_grid(table, "")],
    )  # fmt: skip


def _measures(section: Section | None) -> tables.Block:
    """Medians of every metric: other definitions beside the leading one, and what BSS Eval can't see."""
    heading = "Every measure of vocals"
    if section is None:
        return tables.Block(heading, ["There are no scores yet."])
    records = []
    for name in section.table["Exp"]:
        rows = section.scores[section.scores["experiment"] == name]
        medians = {metric: facts_of(rows, metric, "vocals").get("median", np.nan) for metric in METRICS}
        records.append({"Exp": name, **medians})
    table = pd.DataFrame(records).dropna(axis=1, how="all")
    about = (
        "Medians over songs, in dB. Columns are different quantities and do not compare with one another. "
        "sdr_onsets is sdr_global over the 50 ms at each onset of the true vocals. "
        "silence_energy_db is the level, in dBFS, that is left where the vocals are silent: BSS Eval drops these "
        "seconds, so only this column shows voices that were invented there; lower is better."
    )
    return tables.Block(heading, [about], [tables.plain_grid(table, "")])


def _training(root: Root, board: Board, folder: Path) -> tables.Block:
    heading = "Training"
    runs = [run for run in root.runs() if run.name not in REFERENCES and (run.path / "history.csv").exists()]
    readable: list[Run] = []
    for run in runs:
        try:
            if run.config.get("profile") in (None, board.profile.name) and len(run.history()):
                readable.append(run)
        except (SepkitError, ValueError):
            continue  # the scoreboard lists it with the reason
    if not readable:
        return tables.Block(heading, ["No run has finished an epoch yet."])
    records = []
    for run in readable:
        status = run.status
        rate, count = status.get("last_learning_rate"), status.get("parameters")
        records.append(
            {
                "run": run.name,
                "state": status["state"],
                "epochs": status.get("epochs"),
                "best epoch": status.get("best_epoch"),
                "stopped": status.get("stopped"),
                "last learning rate": None if rate is None else f"{rate:.1e}",
                "minutes": None if "minutes" not in status else float(status["minutes"]),
                "GPU minutes": None if "gpu_min" not in status else float(status["gpu_min"]),
                "VRAM, MiB": status.get("vram_mib"),
                "device": status.get("device"),
                "parameters": None if count is None else f"{count:,}".replace(",", " "),
            }
        )
    drawn = [run for run in readable if run.config.get("fold") is None] or readable
    best = "; ".join(_best(run) for run in drawn)
    pictures = [
        _image(
            figures.training_curves(drawn), folder / "training.png", f"Losses over epochs; best epoch: {best}.",
            "Runs that were trained with unlike losses stand in panels of their own: their losses do not compare.",
        ),
        _image(
            figures.convergence(drawn), folder / "convergence.png", f"Validation over minutes of training; best epoch: {best}.",
            "Over minutes: which row gets how far in the same time. The epoch is kept whose vocals have the highest "
            "SDR on the validation clips (runs from before that was measured: the least validation loss).",
        ),
    ]  # fmt: skip
    grid = tables.plain_grid(pd.DataFrame(records, dtype=object), "")  # whole numbers stay whole
    note = "Early stopping cuts the cosine schedule short: the last learning rate says where it stood."
    return tables.Block(heading, [note], [grid], pictures)


def _best(run: Run) -> str:
    row = run.history().iloc[figures.best_epoch(run.history())]
    value = f"{row['valid_sdr']:.2f} dB" if "valid_sdr" in row else f"loss {row['valid_loss']:.4f}"
    return f"{run.name} {row['epoch']:.0f}, {value}"


def _budget(budget: pd.DataFrame, folder: Path) -> tables.Block:
    heading = "The budget: 8 GPU-hours"
    if budget.empty:
        return tables.Block(heading, ["No minutes are booked in budget.csv yet."])
    table = budget.pivot_table(index="run", columns="stage", values="minutes", aggfunc="sum", fill_value=0.0)
    table["all"] = table.sum(axis=1)
    table["GPU minutes"] = budget.groupby("run")["gpu_min"].sum()
    table["peak VRAM, MiB"] = budget.groupby("run")["vram_mib"].max().astype(int)
    spent = lessons.money(budget)[0]
    picture = _image(
        figures.budget_bars(budget, lessons.LIMIT_MIN), folder / "budget.png", spent,
        "Every minute that budget.csv holds, those of runs that died included.",
    )  # fmt: skip
    grid = tables.plain_grid(table.reset_index(), "Minutes by run and stage")
    return tables.Block(heading, [spent], [grid], [picture])


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
