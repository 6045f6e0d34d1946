"""One row an experiment, computed from every finished run's scores.csv.

Conventions: a song's scores are averaged over seeds, then the median and the quartiles are taken over
songs, in dB. Runs scored with unlike protocols, and runs of the cross-validation (scored on other
songs), stand in sections of their own: never one column, never one test. Tests are against Base, of four
sources against Base-4, over the same songs (`sepkit.evaluation.statistics`); the rows `mixture` and
`oracle` are references and are not tested.
"""

from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import COLUMNS, holm
from sepkit.profiles import PROFILES, PROTOCOLS, Profile, get_profile
from sepkit.reporting import tables
from sepkit.reporting.rows import (
    ASIDE,
    BASE,
    BASES,
    LEADING,
    ONE_SEED,
    SHORT,
    Board,
    Section,
    beside_vocals,
    compared,
    header_sentences,
    ordered,
    overlap_table,
    row,
)
from sepkit.storage import Root, Run, write_csv, write_text


def scoreboard(root: Any, profile: Profile | str | None = None) -> pd.DataFrame:
    """The table of all finished and fully scored runs; written as scoreboard.csv, .md and .html.

    Returns the first section (test songs, the protocol of Base) with plain numbers; `.attrs` holds
    `unfinished` {run: reason}, `header` and `notes` (sentences), `overlap` and the other `sections`
    as lists of records. Other sections also have a CSV of their own, scoreboard-<section>.csv.
    """
    root = Root.open(root, profile)
    board = collect(root, profile)
    main = board.main
    table = main.table.copy() if main else pd.DataFrame(columns=["Exp"])
    write_csv(root.path / "scoreboard.csv", table)
    for section in board.sections[1:]:
        write_csv(root.path / f"scoreboard-{section.name.replace(' ', '-')}.csv", section.table)
    write_text(root.path / "scoreboard.md", tables.markdown(board))
    write_text(root.path / "scoreboard.html", tables.page("Scoreboard", blocks=tables.board_blocks(board)))
    table.attrs = {
        "profile": board.profile.name,
        "title": main.title if main else "",
        "header": main.header if main else [],
        "notes": main.notes if main else [],
        "unfinished": board.unfinished,
        "overlap": _records(main.overlap) if main else [],
        "sections": [{"title": each.title, "rows": _records(each.table)} for each in board.sections[1:]],
    }
    return table


def collect(root: Root, profile: Profile | str | None = None) -> Board:
    """Everything behind the scoreboard, and what could not be in it."""
    unfinished: dict[str, str] = {}
    starts: dict[str, str] = {}
    kept: dict[tuple[Any, ...], pd.DataFrame] = {}
    profile = get_profile(profile or _profile_of(root))
    for run in root.runs():
        try:
            scores = _scores(run, profile)
            key = tuple(str(scores[column].iloc[0]) for column in ("experiment", "seed", "fold"))
            if key in kept:
                raise SepkitError(
                    f"the same experiment, seed and fold as {kept[key]['run'].iloc[0]}, which is shown"
                )
            kept[key] = scores.dropna(axis=1, how="all")
            if run.config.get("start_from"):
                starts[key[0]] = str(run.config["start_from"])
        except SepkitError as error:
            unfinished[run.name] = str(error)
    if not kept:
        return Board(profile, [], unfinished)
    scores = pd.concat(list(kept.values()), ignore_index=True)
    for column in ("fold", "accompaniment"):
        if column not in scores:
            scores[column] = None
    groups = []
    for (protocol, folds), rows in scores.groupby(["protocol", scores["fold"].notna()]):
        rows, partial = _complete(rows, str(protocol))
        unfinished.update({run: why for run, why in partial.items() if run not in unfinished})
        if len(rows):
            groups.append((bool(folds), str(protocol), rows))
    first = next(
        (protocol for folds, protocol, rows in groups if BASE in set(rows["experiment"]) and not folds), ""
    )
    groups.sort(key=lambda group: (group[0], group[1] != first, group[1]))
    sections = [_section(root, profile, rows, protocol, folds) for folds, protocol, rows in groups]
    return Board(profile, sections, unfinished, starts)


def _profile_of(root: Root) -> str | None:
    """The profile that the first readable run was made with."""
    for run in root.runs():
        try:
            name = run.config.get("profile")
        except SepkitError:
            continue  # `collect` lists it with the reason
        if name in PROFILES:
            return str(name)
    return None


def _scores(run: Run, profile: Profile) -> pd.DataFrame:
    """The scores of a finished run; SepkitError with the reason where it can't be in a table."""
    config, state = run.config, run.status["state"]
    if config.get("profile") not in (None, profile.name):
        raise SepkitError(f"made with profile {config['profile']}, this is the scoreboard of {profile.name}")
    if state != "finished":
        raise SepkitError("not trained yet" if state == "absent" else f"training is {state}, not finished")
    if not run.scores_path.exists():
        raise SepkitError("trained, not scored yet")
    try:
        scores = run.scores()
    except ValueError as error:
        raise SepkitError(f"scores.csv can't be read ({error}); score it again") from error
    if "accompaniment" in scores and scores["accompaniment"].nunique() > 1:
        raise SepkitError(
            f"its songs were scored with unlike accompaniments; delete {run.scores_path}, score it again"
        )
    missing = [name for name in COLUMNS if name not in scores]
    unknown = set() if missing else set(scores["protocol"]) - set(PROTOCOLS)
    if missing or unknown or scores.empty:
        what = (
            f"lacks {', '.join(missing)}"
            if missing
            else f"has protocols {unknown}"
            if unknown
            else "is empty"
        )
        raise SepkitError(f"scores.csv {what}; score it again")
    return scores


def _complete(rows: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of fully scored runs; the others with what they lack.

    A run must hold every song that any run of the section (and fold) holds, and every source; and a seed
    every fold that another seed of its experiment holds.
    """
    partial = {}
    for _, fold in rows.groupby(rows["fold"].astype(float).fillna(-1)):
        songs = set(fold["track"])
        for name, own in fold.groupby("run"):
            cells = own.drop_duplicates(["track", "source"])
            wanted = len(songs) * len(PROTOCOLS[protocol])
            if len(cells) < wanted:
                done = int((cells.groupby("track").size() == len(PROTOCOLS[protocol])).sum())
                partial[str(name)] = f"scored on {done} of {len(songs)} songs ({protocol}); evaluate it again"
    rows = rows[~rows["run"].isin(list(partial))]
    for experiment, own in rows.groupby("experiment"):
        folds = own.groupby("seed")["fold"].nunique()
        for run, seed in own.groupby("run")["seed"].first().items():
            if folds[seed] < folds.max():
                partial[str(run)] = (
                    f"seed {seed} of {experiment} lacks {folds.max() - folds[seed]} folds; train and score them"
                )
    return rows[~rows["run"].isin(list(partial))], partial


def _section(root: Root, profile: Profile, rows: pd.DataFrame, protocol: str, folds: bool) -> Section:
    columns = dict(LEADING)
    for source in PROTOCOLS[protocol][1:]:
        columns[f"SDR {SHORT.get(source, source)} (sdr_bsseval)"] = ("sdr_bsseval", source)
    columns |= ASIDE
    have = set(zip(rows["metric"], rows["source"], strict=True))
    columns = {name: key for name, key in columns.items() if key in have}
    by_name = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    comparisons, notes = compared(by_name, BASES[protocol])
    adjusted = holm({name: result.p_value for name, result in comparisons.items()})
    records = [
        row(root, name, scores, columns, comparisons.get(name), adjusted.get(name))
        for name, scores in by_name.items()
    ]
    table = pd.DataFrame(records)
    for result in comparisons.values():
        notes.extend(f"{result.run}: {song} left out, {why}." for song, why in result.dropped.items())
        if result.method_interval:
            notes.append(result.method_sentence)
    if protocol == "4stem":
        notes.extend(beside_vocals(by_name, comparisons, BASES[protocol]))
    single = table.loc[table["Method"] == ONE_SEED, "Exp"]
    if len(single):
        notes.append(
            f"{', '.join(single)}: {ONE_SEED} about the method; two seeds on each side give an interval."
        )
    name = f"{protocol} folds" if folds else protocol
    sentences = header_sentences(root, profile, rows, protocol, table)
    return Section(name, protocol, folds, table, sentences, notes, overlap_table(by_name), comparisons, rows)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain values that strict JSON holds: what is undefined becomes None."""
    return [
        {
            str(key): None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in row.items()
        }
        for row in table.to_dict("records")
    ]


def print_scoreboard(table: pd.DataFrame) -> None:
    """The scoreboard as plain text of at most 120 columns, with what is missing under it."""
    print(tables.text(table))
