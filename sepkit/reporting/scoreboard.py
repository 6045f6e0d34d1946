"""One row an experiment, computed from every finished run's scores.csv.

Conventions: a song's scores are averaged over seeds, then the median and the quartiles are taken over
songs, in dB. Runs scored with another protocol, and runs of the cross-validation (scored on other songs),
stand in sections of their own: never one column, never one test. Tests are against the protocol's base,
over the same songs, corrected by Holm; the references `mixture` and `oracle` are not tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.sides import COLUMNS
from sepkit.evaluation.statistics import (
    ALPHA,
    ARTIST_OVERLAP,
    OUTLIERS,
    Comparison,
    compare_all,
    compare_scores,
    corrected,
    summary,
)
from sepkit.experiments import BASE, BASES, REFERENCES
from sepkit.profiles import PROFILES, PROTOCOLS, STEMS, Profile, get_profile
from sepkit.reporting.rows import (
    LEADING,
    MAIN,
    ONE_SEED,
    ONSETS,
    facts_of,
    ordered,
    row,
    score_columns,
    shown,
)
from sepkit.reporting.tables import Block, markdown, page, plain_grid, text
from sepkit.storage import Root, Run, write_csv, write_text

EMPTY = "No run is finished and scored yet."
DEFINITIONS = (
    "sdr_bsseval and sar_bsseval: BSS Eval v4, 1 s windows, one 512-tap filter a track, median over windows, then "
    "over songs. si_sdr: whole track, both channels as one vector, median over songs. In dB, quartiles over songs "
    "in brackets. silence_energy_db: level in dBFS of the estimate in the seconds in which the vocals are silent, "
    "over the songs that have such seconds; lower is better."
)


@dataclass(frozen=True)
class Section:
    """Rows that may share a table: one protocol, one set of songs."""

    protocol: str
    folds: bool
    table: pd.DataFrame
    header: list[str]  # sentences
    notes: list[str]
    overlap: pd.DataFrame  # with and without the songs of artists who also sing in training; or empty
    comparisons: dict[str, Comparison]
    scores: pd.DataFrame  # every score behind the table

    @property
    def title(self) -> str:
        songs = "Cross-validation by artist" if self.folds else "Test songs"
        return f"{songs}, protocol {self.protocol} ({', '.join(PROTOCOLS[self.protocol])})"

    @property
    def base(self) -> str:
        return BASES[self.protocol]


@dataclass(frozen=True)
class Board:
    profile: Profile
    sections: list[Section] = field(default_factory=list)
    unfinished: dict[str, str] = field(default_factory=dict)  # run: reason
    starts: dict[str, str] = field(default_factory=dict)  # experiment: whose weights it began with

    @property
    def main(self) -> Section | None:
        return self.sections[0] if self.sections else None

    @property
    def missing(self) -> list[str]:
        return [f"{run} is not in the tables: {reason}." for run, reason in self.unfinished.items()]

    @property
    def blocks(self) -> list[Block]:
        """The sections, and what is missing from them."""
        blocks = []
        for section in self.sections:
            grids = [shown(section.table)]
            if len(section.overlap):
                grids.append(plain_grid(section.overlap, OVERLAP_CAPTION))
            *above, legend = section.header
            blocks.append(Block(section.title, above, grids, items=section.notes, fine_print=[legend]))
        missing = [Block("Not in the tables", items=self.missing)] if self.unfinished else []
        return (blocks or [Block("Scoreboard", [EMPTY])]) + missing


OVERLAP_CAPTION = (
    "sdr_bsseval of vocals in dB, with and without the three test songs whose artists also sing in training "
    f"({', '.join(ARTIST_OVERLAP)}), and without the two nearly vocal-free songs that rule any mean "
    f"({', '.join(OUTLIERS)})"
)


def scoreboard(root: Any, profile: Profile | str | None = None) -> pd.DataFrame:
    """The table of all finished and fully scored runs; written as scoreboard.csv, .md and .html.

    Returns the first section (test songs, the protocol of Base) as numbers; `.attrs` holds `unfinished`
    {run: reason} and `text`, all sections for a terminal. Other sections have a CSV each,
    scoreboard-<protocol>[-folds].csv.
    """
    root = Root.open(root, profile)
    board = collect(root, profile)
    for section in board.sections[1:]:
        name = section.protocol + ("-folds" if section.folds else "")
        write_csv(root.path / f"scoreboard-{name}.csv", section.table)
    table = board.main.table.copy() if board.main else pd.DataFrame(columns=["Exp"])
    write_csv(root.path / "scoreboard.csv", table)
    write_text(root.path / "scoreboard.md", markdown("Scoreboard", board.blocks))
    write_text(root.path / "scoreboard.html", page("Scoreboard", blocks=board.blocks))
    table.attrs = {"unfinished": board.unfinished, "text": text(board.blocks)}
    return table


def print_scoreboard(table: pd.DataFrame) -> None:
    """What `scoreboard` returned, as plain text of at most 120 columns."""
    print(table.attrs["text"])


def collect(root: Root, profile: Profile | str | None = None) -> Board:
    """Everything behind the scoreboard, and why a run is not in it."""
    unfinished: dict[str, str] = {}
    starts: dict[str, str] = {}
    kept: dict[tuple[str, ...], pd.DataFrame] = {}
    profile = get_profile(profile or _profile_of(root))
    for run in root.runs():
        try:
            scores = _scores(run, profile)
            key = tuple(str(scores[column].iloc[0]) for column in ("experiment", "seed", "fold"))
            if key in kept:
                raise SepkitError(
                    f"same experiment, seed and fold as {kept[key]['run'].iloc[0]}, which is shown"
                )
            kept[key] = scores.dropna(axis=1, how="all")
            if run.config.get("start_from"):
                starts[key[0]] = str(run.config["start_from"])
        except SepkitError as error:
            unfinished[run.name] = str(error)
    if not kept:
        return Board(profile, [], unfinished)
    scores = pd.concat(list(kept.values()), ignore_index=True)
    scores = scores.reindex(columns=list(dict.fromkeys((*scores, "fold", "accompaniment"))))
    groups = []
    for (protocol, folds), rows in scores.groupby(["protocol", scores["fold"].notna()]):
        rows, partial = _complete(rows, str(protocol))
        unfinished = {**partial, **unfinished}
        if len(rows):
            first = bool(folds), BASE not in set(rows["experiment"]), str(protocol)
            groups.append((first, _section(root, profile, rows, str(protocol), bool(folds))))
    sections = [section for _, section in sorted(groups, key=lambda group: group[0])]
    return Board(profile, sections, unfinished, starts)


def _profile_of(root: Root) -> str | None:
    """The profile of the first readable run."""
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
    if not run.finished:
        raise SepkitError("not trained yet" if state == "absent" else f"training is {state}, not finished")
    if not run.scored:
        raise SepkitError("trained, not scored yet")
    try:
        scores = run.scores()
    except ValueError as error:
        raise SepkitError(f"scores.csv can't be read ({error}); score it again") from error
    missing = [name for name in COLUMNS if name not in scores]
    if missing or scores.empty:
        lacking = f"lacks {', '.join(missing)}" if missing else "is empty"
        raise SepkitError(f"scores.csv {lacking}; score it again")
    if set(scores["protocol"]) - set(PROTOCOLS):
        raise SepkitError(f"scores.csv has protocols {set(scores['protocol'])}; score it again")
    if "accompaniment" in scores and scores["accompaniment"].nunique() > 1:
        raise SepkitError(
            f"its songs have accompaniments of two origins; delete {run.scores_path}, score it again"
        )
    return scores


def _complete(rows: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of fully scored runs; and {run: what it lacks}.

    A run must hold every song that any run of the section (and fold) holds, and every source; and a seed
    every fold that another seed of its experiment holds.
    """
    partial, sources = {}, len(PROTOCOLS[protocol])
    for _, fold in rows.groupby(rows["fold"].astype(float).fillna(-1)):
        songs = fold["track"].nunique()
        for name, own in fold.groupby("run"):
            counts = own.drop_duplicates(["track", "source"]).groupby("track").size()
            done = int((counts == sources).sum())
            if done < songs:
                partial[str(name)] = f"scored on {done} of {songs} songs ({protocol}); evaluate it again"
    rows = rows[~rows["run"].isin(list(partial))]
    for experiment, own in rows.groupby("experiment"):
        folds = own.groupby("seed")["fold"].nunique()
        for run, seed in own.groupby("run")["seed"].first().items():
            lacking = folds.max() - folds.get(seed, folds.max())
            if lacking:
                partial[str(run)] = f"seed {seed} of {experiment} lacks {lacking} folds; train and score them"
    return rows[~rows["run"].isin(list(partial))], partial


def _section(root: Root, profile: Profile, rows: pd.DataFrame, protocol: str, folds: bool) -> Section:
    base, columns = BASES[protocol], score_columns(protocol, rows)
    by_name = {name: rows[rows["experiment"] == name] for name in ordered(rows["experiment"].unique())}
    tested = {name: scores for name, scores in by_name.items() if name not in (base, *REFERENCES)}
    tests, notes = dict[str, Comparison](), list[str]()
    if base in by_name:
        tests, refused = compare_all(tested, by_name[base])
        notes += [f"{name} is not tested against {base}: {why}" for name, why in refused.items()]
    elif tested:
        notes.append(
            f"{', '.join(tested)}: no {base} with this protocol and these songs, so nothing is tested."
        )
    table = pd.DataFrame(
        [row(root, name, scores, columns, tests.get(name)) for name, scores in by_name.items()]
    )
    for test in tests.values():
        notes += [f"{test.run}: {song} left out, {why}." for song, why in test.dropped.items()]
        notes += [test.method_sentence] if test.method_interval else []
    if protocol == "4stem":
        notes += _beside_vocals(by_name, list(tests), base)
    single = table.loc[table["Method"] == ONE_SEED, "Exp"]
    if len(single):
        notes.append(
            f"{', '.join(single)}: {ONE_SEED} about the method; two seeds on each side give an interval."
        )
    header = _header(root, profile, rows, protocol, table)
    return Section(protocol, folds, table, header, notes, _overlap(by_name), tests, rows)


def _beside_vocals(by_name: Mapping[str, pd.DataFrame], names: list[str], base: str) -> list[str]:
    """The same tests of drums, bass and other, and of the drums' onsets, corrected over all of them."""
    kinds = (*(("sdr_bsseval", source) for source in STEMS[1:]), *ONSETS.values())
    tests = {
        (name, kind): compare_scores(by_name[name], by_name[base], metric=kind[0], source=kind[1])
        for name in names
        for kind in kinds
        if facts_of(by_name[name], *kind) and facts_of(by_name[base], *kind)
    }
    return [f"Beside the vocals: {test.sentence}" for test in corrected(tests).values()]


def _header(
    root: Root, profile: Profile, rows: pd.DataFrame, protocol: str, table: pd.DataFrame
) -> list[str]:
    trained = rows[~rows["experiment"].isin(REFERENCES)]
    statuses = [root.run(run).status for run in trained["run"].unique()]
    devices = sorted({str(status["device"]) for status in statuses if status.get("device")})
    minutes = sum(float(status.get("minutes") or 0) for status in statuses)
    seeds = sorted(trained["seed"].dropna().astype(int).unique())
    lacking = table[(table["undefined"] > 0) & ~table["Exp"].isin(REFERENCES)]
    undefined = "; ".join(
        f"{n} of {name}" for name, n in zip(lacking["Exp"], lacking["undefined"], strict=True)
    )
    onsets = (
        " sdr_onsets: SDR over the 50 ms at each onset of the true drums." if set(ONSETS) & set(table) else ""
    )
    return [
        f"Profile {profile.name}: {profile.songs}. Reduced against the plan: {profile.reduced}.",
        f"{rows['track'].nunique()} songs, protocol {protocol}: {', '.join(PROTOCOLS[protocol])} scored together.",
        DEFINITIONS + onsets,
        f"Seeds: {', '.join(map(str, seeds)) or 'none'}; device: {', '.join(devices) or 'unknown'}; {minutes:.1f} minutes "
        f"of training in {len(statuses)} run{'s' * (len(statuses) != 1)} (the column shows minutes a run).",
        f"Windows of vocals: {_span(table['frames'])} counted, {_span(table['frames dropped'])} dropped because a "
        f"source was silent in them. Songs without a defined score: {undefined or 'none'}"
        + (". Medians are then over other songs; gains use the songs defined on both sides." if undefined else "."),
        f"Sig.: Wilcoxon's test, two-sided, against {BASES[protocol]} on {MAIN}: ✓ better, ▼ worse where p after Holm's "
        f"correction is under {ALPHA:g}, else n.s. (not significant); it compares these checkpoints. p is uncorrected. Gain: "
        "Hodges–Lehmann estimate with a 95 % interval that resamples artists; none with fewer than 6 artists. Method: 95 % "
        "interval of the gain over songs and seeds, ✓ and ▼ where it leaves out zero; it needs two seeds a side.",
    ]  # fmt: skip


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high} (by row)"


def _overlap(by_name: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means and medians with and without the songs that share an artist with training, and the outliers."""
    keys = (
        "mean", "mean_without_overlap", "mean_without_outliers", "median", "median_without_overlap", "n", "n_without_overlap",
    )  # fmt: skip
    records = []
    for name, scores in by_name.items():
        if scores["track"].isin(ARTIST_OVERLAP).any():
            fact = summary(scores, *LEADING[MAIN])
            records.append({"Exp": name, **{key.replace("_", " "): fact[key] for key in keys}})
    return pd.DataFrame(records).rename(columns={"n": "songs", "n without overlap": "songs without overlap"})
