"""One row an experiment, computed from every finished run's scores.csv.

Conventions: a song's scores are averaged over seeds, then median and quartiles are taken over songs, in dB. Runs
scored with another protocol, and those of the cross-validation (scored on other songs), have sections of their own:
never one column, never one test. Tests are against the protocol's base, over the same songs, corrected by Holm; the
references `mixture` and `oracle` are not tested.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.shared import joined, on_shared_songs, refuse_old_weights
from sepkit.experiments import BASE, plain
from sepkit.profiles import PROFILES, PROTOCOLS, Profile, get_profile
from sepkit.reporting.sections import READING, Section, make_section
from sepkit.reporting.tables import Block, Grid, latex, markdown, page, plain_grid, text
from sepkit.storage import Root, Run, write_csv, write_text

EMPTY = "No run is finished and scored yet."


@dataclass(frozen=True)
class Board:
    profile: Profile
    sections: list[Section] = field(default_factory=list)
    unfinished: dict[str, str] = field(default_factory=dict)  # run: reason
    starts: dict[str, str] = field(default_factory=dict)  # experiment: whose weights it began with
    origin: str = ""  # of the songs, where a folder of them was given: its name, and how it was read

    @property
    def main(self) -> Section | None:
        return self.sections[0] if self.sections else None

    @property
    def missing(self) -> list[str]:
        return [f"{run} is not in the tables: {reason}." for run, reason in self.unfinished.items()]

    @property
    def blocks(self) -> list[Block]:
        """The sections, what is missing from them, and how to read them."""
        blocks = [section.block for section in self.sections] or [Block("Scoreboard", [EMPTY])]
        if self.unfinished:
            table = pd.DataFrame(self.unfinished.items(), columns=["run", "why"])
            blocks.append(Block("Not in the tables", grids=[plain_grid(table)]))
        about = {
            "profile": f"{self.profile.name}: {self.profile.songs}",
            **({"songs": self.origin} if self.origin else {}),
            "reduced against the plan": self.profile.reduced,
        }
        words = Grid(pd.DataFrame({**about, **READING}.items(), columns=["word", "meaning"]))
        return [*blocks, Block("How to read this", details={"Profile, columns, tests": [words]})]


def scoreboard(root: Any, profile: Profile | str | None = None, board: Board | None = None) -> pd.DataFrame:
    """The table of all finished and fully scored runs; written as scoreboard.csv, .md, .html and .tex.

    Returns the first section (test songs, the protocol of Base) as numbers; `.attrs` holds `unfinished` {run: reason},
    and for a terminal of 80 columns `text`, all sections, and `plan`, the plan's columns of the first. Other sections have a CSV each,
    scoreboard-<protocol>[-folds].csv. `board` is what `collect` gave, where that is there already.
    """
    root = Root.open(root, profile)
    board = board or collect(root, profile)
    blocks = board.blocks
    for section in board.sections[1:]:
        write_csv(root.path / f"scoreboard-{section.protocol}{'-folds' * section.folds}.csv", section.table)
    table = board.main.table.copy() if board.main else pd.DataFrame(columns=["Exp"])
    write_csv(root.path / "scoreboard.csv", table)
    write_text(root.path / "scoreboard.md", markdown("Scoreboard", blocks))
    write_text(root.path / "scoreboard.html", page("Scoreboard", blocks=blocks))
    write_text(root.path / "scoreboard.tex", latex(section.block for section in board.sections))
    first = Block(blocks[0].heading, blocks[0].paragraphs, blocks[0].grids[:1])
    table.attrs = {"unfinished": board.unfinished, "text": text(blocks), "plan": text([first])}
    return table


def collect(root: Root, profile: Profile | str | None = None) -> Board:
    """Everything behind the scoreboard, and why a run is not in it."""
    unfinished, starts, origin = dict[str, str](), dict[str, str](), ""
    kept: dict[tuple[str, ...], pd.DataFrame] = {}
    profile = get_profile(profile or _profile_of(root))
    for run in root.runs():
        try:
            scores = _scores(run, profile)
            key = tuple(str(scores[column].iloc[0]) for column in ("experiment", "seed", "fold"))
            if key in kept:
                raise SepkitError(f"same experiment, seed and fold as {kept[key]['run'].iloc[0]}, which is shown")
            kept[key] = scores
            origin = origin or run.config.get("data", {}).get("origin", "")
            if run.config.get("start_from"):
                starts[key[0]] = plain(run.config["start_from"])
        except SepkitError as error:
            unfinished[run.name] = str(error)
    if not kept:
        return Board(profile, [], unfinished)
    scores, sections = joined(kept.values()), []
    for (protocol, folds), rows in scores.groupby(["protocol", scores["fold"].notna()]):
        rows, partial, left_out = _complete(rows, str(protocol))
        unfinished = {**partial, **unfinished}
        if len(rows):
            sections.append(make_section(root, rows, str(protocol), bool(folds), left_out))
    sections.sort(key=lambda section: (section.folds, BASE not in set(section.table["Exp"]), section.protocol))
    return Board(profile, sections, unfinished, starts, origin)


def _profile_of(root: Root) -> str | None:
    """The profile of the first readable run."""
    for run in root.runs():
        with suppress(SepkitError):  # `collect` lists it with the reason
            if run.config.get("profile") in PROFILES:
                return str(run.config["profile"])
    return None


def _scores(run: Run, profile: Profile) -> pd.DataFrame:
    """The scores of a finished run; SepkitError with the reason where it can't be in a table."""
    made = run.config.get("profile")
    if made not in (None, profile.name):
        raise SepkitError(f"made with profile {made}, this is the scoreboard of {profile.name}")
    if not run.finished:
        raise SepkitError("not trained yet" if run.state == "absent" else f"training {run.standing}")
    if not run.scored:
        raise SepkitError("trained, not scored yet")
    scores = run.scores()
    refuse_old_weights(run)
    if set(scores["protocol"]) - set(PROTOCOLS):
        raise SepkitError(f"scores.csv has protocols {set(scores['protocol'])}; score it again")
    if "accompaniment" in scores and scores["accompaniment"].nunique() > 1:
        raise SepkitError(f"its songs have accompaniments of two origins; delete {run.scores_path}, score it again")
    return scores


def _complete(rows: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """The rows of fully scored runs on the songs that they share; {run: what it lacks}; sentences on other songs.

    A run must hold every shared song of the section (and fold), and every source; and a seed every fold that another
    seed of its experiment holds.
    """
    runs = rows["run"].unique()
    rows, left_out = on_shared_songs(rows)
    songs = rows.groupby(rows["fold"].astype(float).fillna(-1))["track"].transform("nunique")
    cells = rows.assign(songs=songs).drop_duplicates(["run", "track", "source"])
    whole = cells.groupby(["run", "songs", "track"]).size() == len(PROTOCOLS[protocol])
    counts = whole.groupby(["run", "songs"]).sum().rename("whole").reset_index()
    partial = {
        str(run): f"scored on {done} of {wanted} songs ({protocol}); evaluate it again"
        for run, wanted, done in counts.itertuples(index=False)
        if done < wanted
    }
    partial |= dict.fromkeys(set(runs) - set(rows["run"]), f"scored on none of the other runs' songs ({protocol})")
    rows = rows[~rows["run"].isin(list(partial))]
    for experiment, own in rows.groupby("experiment"):
        folds = own.groupby("seed")["fold"].nunique()
        for run, seed in own.groupby("run")["seed"].first().items():
            lacking = folds.max() - folds.get(seed, folds.max())
            if lacking:
                partial[str(run)] = f"seed {seed} of {experiment} lacks {lacking} folds; train and score them"
    return rows[~rows["run"].isin(list(partial))], partial, left_out
