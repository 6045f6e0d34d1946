"""The two sides of a comparison: the scores of one experiment each, on one metric of one source, checked and paired.

A side holds one definition: one metric, one protocol, and for the accompaniment one origin. Every seed must have
scored the same songs. BSS Eval's scores are paired over the windows that are valid in every run of both sides: a
window is dropped where any estimate is silent, so each side's own median may leave out its worst seconds.
"""

from typing import Any

import numpy as np
import pandas as pd

from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import BSS_EVAL_METRICS
from sepkit.evaluation.paired import PERFECT_DB, unbounded
from sepkit.evaluation.signals import Array
from sepkit.experiments import REFERENCES
from sepkit.storage.scores import SCORE_COLUMNS

ZERO_DB = 2e-5  # museval writes scores with 5 decimals, so that equal ones may differ by 1e-5


class Side:
    """Scores of one side as `table` (seed × song, dB; an infinite one is ±PERFECT_DB), the undefined ones with reasons.

    Attributes: scores (all that were given), metric, source, name, protocol, origin (of the accompaniment, "" for other
    sources or where it is not written), seeds (0 for a reference, which is not trained), songs, means (by song, over seeds),
    undefined {song: reason}, counts (windows that counted, by song), windows {song: (seed, window) or None, not known}.

    Raises:
        SepkitError: a column, the metric or the source is missing; more than one protocol, origin or
        experiment; a song twice for one seed, or scored with some seeds only.
    """

    def __init__(self, scores: pd.DataFrame, metric: str, source: str, side: str) -> None:
        self.scores, self.metric, self.source, self.origin = scores, metric, source, ""
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
        self.table = rows.pivot(index="seed", columns="track", values="value").clip(-PERFECT_DB, PERFECT_DB)
        # A song with one undefined seed is undefined: a mean over other seeds is another quantity.
        self.means: pd.Series = unbounded(self.table.mean(axis=0, skipna=False))
        seeds, counts = len(self.table), rows["track"].value_counts()
        self.seeds = 0 if experiment in REFERENCES else seeds
        self.songs = set(map(str, self.table.columns))
        partial = ", ".join(sorted(counts.index[counts < seeds]))
        if partial:
            raise SepkitError(
                f"not all {seeds} seeds of {experiment} ({side}) scored {partial}: score what is missing."
            )
        frames = rows["frames"] if "frames" in rows else pd.Series(np.nan, index=rows.index)
        self.counts: pd.Series = frames.groupby(rows["track"]).mean()
        by_song = rows.sort_values("seed").groupby("track")["windows"] if "windows" in rows else ()
        self.windows = {song: _stacked(list(windows)) for song, windows in by_song}
        bad = rows[rows["value"].isna()].drop_duplicates("track")
        reasons = bad["status"].where(bad["status"] != "ok", "no score")
        self.undefined = {str(song): f"{why} ({self.name})" for song, why in zip(bad["track"], reasons, strict=True)}


class Pair:
    """Two sides song by song, BSS Eval's scores over the windows that are valid in both.

    Attributes: run and base (seed × song, dB, as `Side.table`), songs that both define, differences (of the means over
    seeds, `(song,)` in dB; infinite ones are tied at ±PERFECT_DB), dropped {song: reason},
    silent (windows left out since the run is silent there, and since the base is), n_uneven (songs over unlike numbers of
    windows, since these are not known).

    Raises:
        SepkitError: protocols, origins of the accompaniment, or songs of the two sides differ.
    """

    def __init__(self, run: Side, base: Side) -> None:
        refuse_mixing(run, base)
        self.run, self.base, self.silent, self.n_uneven = run.table.copy(), base.table.copy(), (0, 0), 0
        self.dropped = {song: why for side in (base, run) for song, why in side.undefined.items()}
        for song in sorted(run.songs - set(self.dropped)) if run.metric in BSS_EVAL_METRICS else ():
            ours, theirs = run.windows.get(song), base.windows.get(song)
            if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
                self.n_uneven += int(run.counts[song] != base.counts[song])
                continue
            some = ~np.isnan(np.vstack((ours, theirs))).all(axis=0)
            lost, of_base = (some & np.isnan(windows).any(axis=0) for windows in (ours, theirs))
            if (lost | of_base).any():
                self.silent = self.silent[0] + int(lost.sum()), self.silent[1] + int(of_base.sum())
                both = some & ~lost & ~of_base
                if not both.any():
                    self.dropped[song] = "no window is valid in both"
                    continue
                self.run[song], self.base[song] = (np.median(windows[:, both], axis=1) for windows in (ours, theirs))
        self.songs = sorted(run.songs - set(self.dropped))
        raw = (self.run[self.songs].mean(axis=0) - self.base[self.songs].mean(axis=0)).to_numpy()
        found = np.where(np.abs(raw) < ZERO_DB, 0.0, np.round(raw, 9))  # rounding must not split ties
        self.differences: Array = np.clip(unbounded(found), -PERFECT_DB, PERFECT_DB)


def _stacked(windows: list[Any]) -> Array | None:
    """`(seed, window)` in dB; None where a seed's windows are not known."""
    if not all(isinstance(of, np.ndarray) for of in windows) or len(set(map(len, windows))) > 1:
        return None
    return np.clip(np.array(windows), -PERFECT_DB, PERFECT_DB)


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
            f"the {side} has no scores of metric {metric!r} of {source}, only {', '.join(sorted(there[source]))}; scores with different definitions are never compared."
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
            f"{run.name} was scored as {run.protocol} and {base.name} as {base.protocol}: they count different windows, so score both with one protocol before comparing."
        )
    if run.origin != base.origin:
        message = f"the accompaniment of {run.name} is {run.origin or 'of unknown origin'} and that of {base.name} {base.origin or 'of unknown origin'}: compare runs whose accompaniment comes about in one way, or compare their vocals."
        raise SepkitError(message)
    only = (("run", run.songs - base.songs), ("base", base.songs - run.songs))
    listed = "; ".join(f"only in the {side}: {', '.join(sorted(songs))}" for side, songs in only if songs)
    if listed:
        raise SepkitError(f"both sides must hold the same songs; {listed}: score what is missing.")
