"""scores.csv and frames.csv of a run, what they were made from, and the journal of songs before these are written.

frames.csv has the windows whose medians are in scores.csv: track, source, frame (the second at which it begins) and the
four BSS Eval scores in dB, empty where undefined. scored.json says for each song which files, weights and sample rate
its scores belong to, as fingerprints: a song is scored again where one of them has changed. While a run is scored, each
song is appended to the journal as one line of JSON; the three files are written once, whole, at the end. A line that a
kill cut short is no JSON and is skipped, so a song is there whole or not at all.
"""

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sepkit.errors import SepkitError
from sepkit.storage import Run, read_json, write_csv, write_json
from sepkit.storage.files import to_disk
from sepkit.storage.scores import FRAME_COLUMNS, SCORE_COLUMNS, SCORE_DECIMALS, frames_beside, read_frames, read_scores

COLUMNS = [*SCORE_COLUMNS[:-1], "frames", "frames_dropped", SCORE_COLUMNS[-1], "accompaniment"]
Rows = list[dict[Any, Any]]
Song = tuple[Rows, Rows]  # rows of scores.csv and of frames.csv
Origin = dict[str, Any]  # what a song's scores were made from: source, weights, estimates (fingerprints), sample_rate
CHANGES = {
    "source": "its files", "weights": "the run's weights", "sample_rate": "the sample rate of scoring",
    "estimates": "its estimates",
}  # fmt: skip


def scores_path(run: Run, split: str = "test") -> Path:
    return run.scores_path if split == "test" else run.path / "valid_scores.csv"


def read_origins(run: Run, split: str = "test") -> dict[str, Origin]:
    """What the scores of each song were made from; without songs of which that is not known."""
    path = scores_path(run, split)
    path = path.with_name(path.name.replace("scores.csv", "scored.json"))
    found: Any = {}
    with contextlib.suppress(SepkitError):  # without it scores are taken as they are
        found = read_json(path, "what scores were made from") if path.exists() else {}
    return {song: of for song, of in found.items() if isinstance(of, dict)} if isinstance(found, dict) else {}


class ScoreFiles:
    """The songs of one run that are scored, in `done` and on the disk.

    protocol: songs that were scored with another one do not count; origins: what scores would be made
    from now, of the songs at hand; unwanted: songs whose scores are dropped; facts: in every row of scores.csv.
    """

    def __init__(
        self, run: Run, split: str, protocol: str, origins: Mapping[str, Origin], unwanted: Collection[str] = ()
    ) -> None:
        self.run, self.now, self.scores = run, origins, scores_path(run, split)
        self.frames = frames_beside(self.scores)
        self.journal = self.scores.with_name(self.scores.name.replace("scores.csv", "scores.part.jsonl"))
        self.record = self.scores.with_name(self.scores.name.replace("scores.csv", "scored.json"))
        self.facts = {key: run.config.get(key) for key in ("run", "experiment", "seed", "fold")}
        self.done, self.origins = self._written(), read_origins(run, split)
        self.written, self.changed = (list(self.done), dict(self.origins)), False
        for line in self.journal.read_text("utf-8", "replace").split("\n") if self.journal.exists() else ():
            with contextlib.suppress(ValueError, TypeError):  # cut short by a kill
                song, scores, frames, origin = json.loads(line)
                self.done[song], self.origins[song] = (scores, frames), origin
        for song, (scores, _) in list(self.done.items()):
            if song in unwanted or {row.get("protocol", protocol) for row in scores} != {protocol}:
                del self.done[song]
        self._forget_changed()

    def _written(self) -> dict[str, Song]:
        """The songs in scores.csv."""
        if not self.scores.exists():
            return {}
        try:
            rows, windows = (
                {str(song): part.to_dict("records") for song, part in table.groupby("track", sort=False)}
                for table in (read_scores(self.scores), read_frames(self.frames))
            )
            if set(rows) & {"", "nan"} or self.facts["run"] not in {
                row["run"] for part in rows.values() for row in part
            }:
                raise ValueError("it has no rows of this run")
        except (SepkitError, ValueError, KeyError) as error:
            print(f"{self.run.name}: its songs are scored again: {error}", flush=True)
            return {}
        return {song: (scores, windows.get(song, [])) for song, scores in rows.items()}

    def _forget_changed(self) -> None:
        """Drops songs whose files, weights or sample rate have changed since; says so, and what is not known."""
        changed, unknown = dict[str, list[str]](), 0
        weights = {origin["weights"] for origin in self.now.values()}  # one value, also for songs of another folder
        # a renamed song of these; in a folder without any of the others it is a song elsewhere
        here = self.now.values() if self.now.keys() & self.done.keys() else ()
        sources = {origin["source"] for origin in here} - {None}
        for song in list(self.done):
            kept, now = self.origins.get(song, {}), self.now.get(song) or {"weights": next(iter(weights), None)}
            now = {key: value for key, value in now.items() if value is not None}
            unlike = [CHANGES[key] for key, value in now.items() if kept.get(key, value) != value]
            if song not in self.now and kept.get("source", "") in sources:
                unlike = ["its name"]
            if unlike:
                changed.setdefault(unlike[0], []).append(song)
                del self.done[song]
            else:
                unknown += not now.keys() <= kept.keys()
                self.origins[song] = {**kept, **now}
        for what, songs in changed.items():
            shown = ", ".join(songs[:3]) + (" …" if len(songs) > 3 else "")
            print(f"{self.run.name}: {what} changed since {shown} was scored: those scores are dropped", flush=True)
        if unknown:
            print(
                f"{self.run.name}: {self.record.name} does not say from which files and weights {unknown} songs were "
                f"scored; they count as scored from today's. If those have changed, delete {self.scores} and evaluate again.",
                flush=True,
            )

    def add(self, song: str, scores: Rows, frames: Rows) -> None:
        """Keeps a song, its values rounded, in `done` and in the journal."""
        scores = [{**self.facts, "track": song, **_rounded(row)} for row in scores]
        frames = [{"track": song, **_rounded(row)} for row in frames]
        self.done[song], self.origins[song] = (scores, frames), dict(self.now[song])
        with self.journal.open("a", encoding="utf-8") as file:
            line = json.dumps((song, scores, frames, self.now[song]))
            file.write(f"\n{line}")  # after a line that was cut short, too
            file.flush()
            to_disk(file)

    def write(self, songs: list[str]) -> pd.DataFrame:
        """Writes the files, in the order of `songs` where these are all, else by name; returns scores.csv."""
        order = [song for song in songs if song in self.done]
        order = order if len(order) == len(self.done) else sorted(self.done)
        now = order, {song: self.origins[song] for song in order}
        anew = order != self.written[0] or not self.scores.exists() or self.journal.exists()
        kept = [self.done[song] for song in order] if anew else []
        if anew:
            write_csv(self.frames, pd.DataFrame([row for _, rows in kept for row in rows], columns=FRAME_COLUMNS))
        if now != self.written:
            write_json(self.record, now[1])
        if anew:
            write_csv(self.scores, pd.DataFrame([row for rows, _ in kept for row in rows], columns=COLUMNS))
            self.journal.unlink(missing_ok=True)
        self.changed |= anew or now != self.written
        self.written = now
        return read_scores(self.scores)


def _rounded(row: dict[Any, Any]) -> dict[Any, Any]:
    return {key: round(value, SCORE_DECIMALS) if isinstance(value, float) else value for key, value in row.items()}
