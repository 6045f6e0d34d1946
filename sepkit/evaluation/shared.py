"""What runs have in common: the songs that their scores rest on, and where songs, files or weights are unlike.

Scores of unlike songs are never joined: tables and tests rest on the songs of most runs, and name the others. Scores
of unlike files, or of weights that a run has no longer, are refused. Unlike training songs are said.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.score_files import read_origins
from sepkit.storage import Run


def shared_songs(songs_of: Mapping[str, set[str]]) -> set[str]:
    """The songs that a table of {run: its songs} rests on: those of more than half of the runs.

    Where that leaves most runs incomplete, the songs of one run that together with those runs that hold them all make
    the largest table.

    >>> sorted(shared_songs({"Base": {"a", "b", "held out"}, "C": {"a", "b"}}))
    ['a', 'b']
    """

    def complete(songs: set[str]) -> int:
        return sum(songs <= own for own in songs_of.values())

    counts = Counter(song for songs in songs_of.values() for song in songs)
    most = {song for song, count in counts.items() if 2 * count > len(songs_of)}
    if most and 2 * complete(most) >= len(songs_of):
        return most
    return max(songs_of.values(), key=lambda songs: complete(songs) * len(songs))


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several scores.csv, of this version or earlier ones, in one table."""
    scores = pd.concat([rows.dropna(axis=1, how="all") for rows in tables], ignore_index=True)
    return scores.reindex(columns=list(dict.fromkeys((*scores, "fold", "accompaniment"))))


def on_shared_songs(scores: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(the rows of scores.csv of several runs on their shared songs, fold by fold; a sentence on the others)."""
    kept, left = [], dict[str, list[str]]()
    for _, rows in scores.groupby(scores["fold"].astype(float).fillna(-1), sort=False):
        there = rows["track"].isin(shared_songs({str(run): set(own) for run, own in rows.groupby("run")["track"]}))
        kept.append(rows[there])
        for song, runs in rows[~there].groupby("track")["run"]:
            left.setdefault(_listed(sorted(set(runs)), 9), []).append(str(song))
    said = [f"Left out, since only {runs} has a score: {_listed(songs)}." for runs, songs in left.items()]
    return pd.concat(kept), said


def unlike_training(runs: Iterable[Run]) -> list[str]:
    """A sentence for each set of training or validation songs other than that of the first run of its fold."""
    first, said = dict[object, tuple[str, set[str]]](), list[str]()
    for run in runs:
        config = run.config
        if data := config.get("data"):
            own = {*data["train"], *(f"{song} (validation)" for song in data["valid"])}
            name, songs = first.setdefault(config.get("fold"), (run.name, own))
            only = ((name, sorted(songs - own)), (run.name, sorted(own - songs)))
            parts = [f"only {of} on {_listed(unlike)}" for of, unlike in only if unlike]
            if parts:
                said.append(f"{name} and {run.name} were trained on unlike songs: {'; '.join(parts)}.")
    return said


def refuse_unlike_files(runs: Iterable[Run], songs: Iterable[str]) -> None:
    """SepkitError where runs were scored on unlike files of one of `songs`, or at unlike sample rates."""
    first = dict[tuple[str, str], tuple[str, object]]()
    for run in runs:
        origins = read_origins(run)
        for key in ("source", "sample_rate"):
            unlike = dict[str, list[str]]()
            for song in songs:
                if (value := origins.get(song, {}).get(key)) is not None:
                    name, other = first.setdefault((key, song), (run.name, value))
                    if other != value:
                        unlike.setdefault(name, []).append(song)
            for name, found in unlike.items():
                what = f"unlike files of {_listed(found)}" if key == "source" else "unlike sample rates"
                raise SepkitError(f"{name} and {run.name} were scored on {what}: evaluate both again.")


def refuse_old_weights(run: Run) -> None:
    """SepkitError where the weights of `run` have changed since it was scored."""
    scored, now = {origin.get("weights") for origin in read_origins(run).values()} - {None}, run.weights()
    if now and scored and scored != {now}:
        raise SepkitError(f"the weights of {run.name} changed since it was scored; evaluate it again")


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
