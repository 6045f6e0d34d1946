"""What was done: songs, settings, minutes and memory, and how to do it again; tables from config.json, status.json
and budget.csv of the runs in a section of the scoreboard."""

import shlex
from collections.abc import Callable, Mapping
from json import dumps
from typing import Any

import pandas as pd

from sepkit.data.tracks import artist_of
from sepkit.experiments import REFERENCES, entry_of
from sepkit.profiles import PROTOCOLS
from sepkit.reporting.compute import plan_and_measured
from sepkit.reporting.lessons import money
from sepkit.reporting.scoreboard import Board
from sepkit.reporting.sections import Section
from sepkit.reporting.tables import NONE, Block, Image, plain_grid
from sepkit.storage import WEEK_HOURS, Root, Run, git_revision

SHARED = ("run", "experiment", "profile", "seed", "fold", "data", "about", "code")  # not settings of an experiment


def runs_of(root: Root, section: Section) -> dict[str, list[Run]]:
    """The trained runs behind the rows of a section, by experiment."""
    names = section.scores[["experiment", "run"]].drop_duplicates()
    by_name = {name: [root.run(run) for run in sorted(rows["run"])] for name, rows in names.groupby("experiment")}
    return {str(name): by_name[name] for name in section.table["Exp"] if name not in REFERENCES}


def songs(root: Root, section: Section) -> dict[str, list[str]]:
    """The songs by split, as the base's run (else the first) has them."""
    runs = runs_of(root, section)
    of_base = runs.get(section.base) or next(iter(runs.values()), [])
    data = of_base[0].config.get("data") or {} if of_base else {}
    return {
        "training": list(data.get("train", ())), "validation": list(data.get("valid", ())),
        "test": sorted(map(str, section.scores["track"].unique())),
    }  # fmt: skip


def data_block(root: Root, board: Board, section: Section) -> Block:
    by_split = songs(root, section)
    what_for = {
        "training": "the networks learn from them",
        "validation": "choose the epoch that is kept, and every setting",
        "test": "scored once, with everything chosen",
    }
    table = [{"split": name, "songs": len(by_split[name]) or NONE, "use": use} for name, use in what_for.items()]
    profile, together = board.profile, ", ".join(PROTOCOLS[section.protocol])
    origin = f"Songs: {board.origin}. " if board.origin else ""
    about = f"Profile {profile.name}: {profile.songs}. {origin}Reduced against the plan: {profile.reduced}. Scored together: {together} (protocol {section.protocol})."
    sung = {artist_of(song) for song in by_split["training"]}
    known = [f"{sum(artist_of(song) in sung for song in by_split[name])} of {len(by_split[name])} {name} songs"
             for name in ("validation", "test")]  # fmt: skip
    shared = f"By artists who also sing in training songs: {', '.join(known)}." if sung else ""
    return Block("Data and protocol", [about, *filter(None, [shared])], [plain_grid(pd.DataFrame(table))])


def settings_block(root: Root, section: Section) -> Block:
    """Every setting of the base, and what each other experiment does differently, read from the runs' configurations."""
    configs = {name: runs[0].config for name, runs in runs_of(root, section).items()}
    found = {name: _flat(config) for name, config in configs.items()}
    base = section.base if section.base in found else next(iter(found), "")
    own = found.get(base, {})
    rows = [
        {"Exp": name, "change": entry_of(configs[name]).change, "settings": _unlike(flat, {} if name == base else own)}
        for name, flat in found.items()
    ]
    about = f"All settings of {base}; of the others those that differ from them."
    return Block("Settings", [about] if rows else [], [plain_grid(pd.DataFrame(rows))] if rows else [])


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in config.items() if name not in SHARED}
    flat = pd.json_normalize(own, sep=" ").to_dict("records")[0]
    return {str(name).replace("training ", "").replace("_", " "): value for name, value in flat.items()}


def _unlike(flat: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*base, *flat]) if flat.get(name) != base.get(name)]
    return "; ".join(f"{name.removesuffix(' name')} {_said(flat.get(name))}" for name in names) or "none"


def _said(value: Any) -> str:
    return "none" if value in (None, {}, []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def compute_block(root: Root, section: Section | None, draw: Callable[[], list[Image]]) -> Block:
    """Minutes and memory: the plan's, the predicted and the measured ones; then all minutes by run and stage."""
    budget = root.budget()
    heading, spent = f"Compute: the budget of {WEEK_HOURS:g} GPU-hours", money(budget)[0]
    if budget.empty:
        return Block(heading, [spent])
    about = "The plan's minutes and memory are of a T4 and profile full; measured are those of training with seed 0."
    table = plan_and_measured(root, runs_of(root, section) if section else None).reset_index()
    by_run = budget.groupby("run")
    stages = budget.pivot_table(index="run", columns="stage", values="minutes", aggfunc="sum", fill_value=0.0)
    stages["all"], stages["GPU minutes"] = stages.sum(axis=1), by_run["gpu_min"].sum()
    stages["peak VRAM, MiB"] = by_run["vram_mib"].max().astype(int)
    details = {"Minutes by run and stage": [plain_grid(stages.reset_index())]}
    return Block(heading, [spent, about], [plain_grid(table)], draw(), details=details)


def appendix(root: Root, board: Board) -> list[Block]:
    """How to do it again: commands, versions, songs by name, and what was left out."""
    section, profile = board.main, board.profile.name
    if not section:
        return []
    runs = runs_of(root, section)
    seeds = dict[str, list[str]]()
    for name, own in runs.items():
        if not own[0].config.get("training"):  # made elsewhere
            continue
        which, entry = ",".join(str(run.config.get("seed")) for run in own), entry_of(own[0].config)
        which += "".join(
            f" --set {shlex.quote(f'{key}={dumps(value)}')}" for key, value in entry.changes.items() if entry.called
        )
        seeds.setdefault(which, []).append(entry.called or name)
    commands = [
        f"python -m sepkit grid --profile {profile} --experiments {','.join(names)} --seeds {which}"
        for which, names in seeds.items()
    ]
    commands += [
        f"python -m sepkit evaluate {name} --profile {profile}" for name in section.table["Exp"] if name in REFERENCES
    ]
    commands += [
        f"python -m sepkit evaluate --{kind} {shlex.quote(own[0].config[kind])} --name {shlex.quote(name)}"
        for name, own in runs.items()
        for kind in ("estimates", "weights")
        if kind in own[0].config
    ]
    versions = dict[str, set[str]]()
    for status in [run.status for own in runs.values() for run in own]:
        facts = {**status.get("versions", {}), "device": status.get("device"), "revision": status.get("git_revision")}
        for name, value in facts.items():
            versions.setdefault(name, set()).add(str(value or "unknown"))
    made_with = "; ".join(f"{name} {', '.join(sorted(found))}" for name, found in versions.items())
    named = songs(root, section).items()
    names = pd.DataFrame([{"split": split, "songs": "; ".join(of) or NONE} for split, of in named])
    notes = [note for each in board.sections for note in each.notes]
    lost = [f"{exp}: {song} left out, {why}." for each in board.sections for exp, song, why in each.lost.to_numpy()]
    out = [f"exclude.txt: {song}." for song in root.excluded()]
    return [
        Block("Appendix: commands", [f"sepkit, revision {git_revision() or 'unknown'}."], items=[*commands, f"python -m sepkit report --profile {profile}"]),
        Block("Versions of the runs", [f"{made_with}."] if made_with else [], level=3),
        Block("Songs", grids=[plain_grid(names)], level=3),
        Block("Exclusions", items=[*out, *board.missing, *lost, *notes] or ["Nothing was left out."], level=3),
    ]  # fmt: skip
