"""One side of a comparison: the scores of one experiment on one metric of one source, checked.

A side holds one definition: one metric, one protocol, and for the accompaniment one origin. Every seed must have
scored the same songs.
"""

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.experiments import REFERENCES
from sepkit.storage.root import SCORE_COLUMNS


class Side:
    """Scores of one side as `table` (seed × song, dB), the undefined ones with their reasons.

    Attributes: metric, source, name, protocol, origin (of the accompaniment, "" for other sources or where it is not
    written), seeds (0 for a reference, which is not trained), songs, means (by song, over seeds), undefined
    {song: reason}, windows (that counted, by song).

    Raises:
        SepkitError: a column, the metric or the source is missing; more than one protocol, origin or
        experiment; a song twice for one seed, or scored with some seeds only.
    """

    def __init__(self, scores: pd.DataFrame, metric: str, source: str, side: str) -> None:
        self.metric, self.source, self.origin = metric, source, ""
        self.rows = rows = _chosen(scores, metric, source, side)
        self.protocol, experiment = _only(rows["protocol"], side), _only(rows["experiment"], side)
        runs = rows["run"].unique()
        self.name = str(runs[0]) if len(runs) == 1 else experiment
        if source == "accompaniment" and "accompaniment" in rows:
            known = rows["accompaniment"].astype(object).fillna("")
            self.origin = _only(known.rename("origin of the accompaniment"), side)
        twice = rows.loc[rows.duplicated(["seed", "track"]), "track"]
        if len(twice):
            raise SepkitError(f"the {side} holds two {metric} scores of {twice.iloc[0]!r} for one seed.")
        self.table = rows.pivot(index="seed", columns="track", values="value")
        seeds, counts = len(self.table), rows["track"].value_counts()
        self.seeds = 0 if experiment in REFERENCES else seeds
        self.songs = set(map(str, self.table.columns))
        partial = ", ".join(sorted(counts.index[counts < seeds]))
        if partial:
            raise SepkitError(
                f"the {side} has {seeds} seeds of {experiment}, but not all of them scored {partial}: score what is missing."
            )
        # A song with one undefined seed is undefined: a mean over other seeds is another quantity.
        self.means: pd.Series = self.table.mean(axis=0, skipna=False)
        windows = rows["frames"] if "frames" in rows else pd.Series(0, index=rows.index)
        self.windows: pd.Series = windows.groupby(rows["track"]).mean()
        bad = rows[~np.isfinite(rows["value"])].drop_duplicates("track")
        reasons = bad["status"].where(bad["status"] != "ok", "no finite score")
        self.undefined = {str(song): f"{why} ({self.name})" for song, why in zip(bad["track"], reasons, strict=True)}


def _chosen(scores: pd.DataFrame, metric: str, source: str, side: str) -> pd.DataFrame:
    missing = [name for name in SCORE_COLUMNS if name not in scores]
    if missing:
        raise SepkitError(f"the {side}'s scores lack the columns {', '.join(missing)} of scores.csv.")
    rows = scores[(scores["metric"] == metric) & (scores["source"] == source)]
    if rows.empty:
        there = scores.groupby("source")["metric"].unique()
        if source not in there:
            listed = ", ".join(there.index) or "none at all"
            raise SepkitError(f"the {side} has no scores of source {source!r}, only {listed}.")
        raise SepkitError(
            f"the {side} has no scores of metric {metric!r} of {source}, only {', '.join(sorted(there[source]))}; scores with "
            "different definitions are never compared."
        )
    return rows.astype({"value": np.float64, "track": str})


def _only(column: pd.Series, side: str) -> str:
    """The one value of the column."""
    kinds = sorted(map(str, column.unique()))
    if len(kinds) != 1:
        raise SepkitError(f"the {side} must hold scores of one {column.name}; got {', '.join(kinds)}.")
    return kinds[0]


def refuse_mixing(run: Side, base: Side) -> None:
    """SepkitError where the two sides are not scores of one thing over one set of songs."""
    if run.protocol != base.protocol:
        raise SepkitError(
            f"{run.name} was scored as {run.protocol} and {base.name} as {base.protocol}: they count different "
            "windows, so score both with one protocol before comparing."
        )
    if run.origin != base.origin:
        raise SepkitError(
            f"the accompaniment of {run.name} is {run.origin or 'of unknown origin'} and that of {base.name} "
            f"{base.origin or 'of unknown origin'}: compare runs whose accompaniment comes about in one way, "
            "or compare their vocals."
        )
    only = (("run", run.songs - base.songs), ("base", base.songs - run.songs))
    listed = "; ".join(f"only in the {side}: {', '.join(sorted(songs))}" for side, songs in only if songs)
    if listed:
        raise SepkitError(f"both sides must hold the same songs; {listed}: score what is missing.")
