"""Runs and their songs -> estimates -> scores.csv and frames.csv.

Work goes song by song over all runs that wait: a song is decoded once, and what depends on its targets alone is computed
once for all estimates. Songs are spread over joblib's workers, or those of a dask cluster, and kept
as they come (`score_files`), so a kill loses at most the songs in progress, and the next call goes on with the rest.
Scores depend neither on the number of workers nor on which runs are scored together. A song whose estimate can't be
scored becomes rows that are undefined with the reason, one that can't be used is left out with a line, and the others go
on. Scores of songs that lie elsewhere stay; songs that a run was trained on never get any. A run is scored with the protocol of the
sources that it needs (`cache_sources`): 4stem where its network estimates drums, bass or other, else 2stem. `mixture`
and `oracle` are runs without training: the mixture as the estimate of every source, and the ideal ratio mask.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache as memory
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed

from sepkit.data.cache import Cache, CacheSettings, scoring_cache_settings
from sepkit.data.folds import scored_songs
from sepkit.data.locate import given_songs
from sepkit.data.manifest import read_manifest
from sepkit.data.opening import open_cache
from sepkit.devices import device_name, give_back_memory, one_thread, pick_device
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation import given
from sepkit.evaluation.estimators import Estimator, ModelEstimate, accompaniment_of, files_of, make_estimator
from sepkit.evaluation.files import FileEstimate
from sepkit.evaluation.score_files import Origin, ScoreFiles, Song, read_origins
from sepkit.evaluation.track import Targets
from sepkit.experiments import REFERENCES, plain
from sepkit.models import refuse_contaminated
from sepkit.parallel import on_cluster, progress, spread
from sepkit.profiles import PROTOCOLS, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike, Run, drive, named, spending
from sepkit.storage.checkpoints import best_checkpoint, kept
from sepkit.storage.repair import mend

PROTOCOL_OF = {sources: protocol for protocol, sources in PROTOCOLS.items()}
SHIFTED = "ok, but "  # begins the status of scores of a file that is shifted in time
PORTION_BYTES = 2**28  # of estimates that a GPU has made and that travel to a worker together


def evaluate(run: Run | str, **options: Any) -> pd.DataFrame:
    """Scores `run` on its test songs and returns scores.csv as a table; options as in `evaluate_many`."""
    return evaluate_many([run], **options)[0]


def evaluate_many(
    runs: Iterable[Run | str],
    *,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    split: str = "test",
    device: str | None = None,
    n_jobs: int | None = None,
    cluster: str | None = None,
) -> list[pd.DataFrame]:
    """Scores runs on their test songs (or split="valid") and returns their scores.csv as tables.

    runs: or names, `mixture` and `oracle` among them; profile, root: where these lie; data: the folder of songs, where
    the profile does not know it; n_jobs: songs at a time, None for one a core; cluster: see `on_cluster`. Songs that are scored already are not
    scored again unless they or the weights have changed. A table's `.attrs["unscored"]` is {song: reason}.

    Raises SepkitError where a run is not finished or no song can be used.
    """
    if split not in ("test", "valid"):
        raise UsageError(f"Expected split test or valid, got {split!r}.")
    device, open_once = pick_device(device), memory(open_scored)
    found = [_ready(run, root, profile) for run in runs]
    with on_cluster(cluster, *{run.root.path for run in found}, given_songs(data)):
        scorings = [Scoring(run, data, split, device, open_once) for run in found]
        for cache in {id(scoring.cache): scoring.cache for scoring in scorings}.values():
            _score_runs(cache, [scoring for scoring in scorings if scoring.cache is cache], split, device, n_jobs)
    try:
        return [scoring.table() for scoring in scorings]
    finally:
        _push([scoring.run for scoring in scorings if scoring.todo or scoring.files.changed])


def reference(name: str, **options: Any) -> Run:
    """The run `mixture` or `oracle`, scored (options as in `evaluate_many`): between them a system should lie."""
    refuse_contaminated(name)
    if name not in REFERENCES:
        raise UsageError(f"There is no reference {name!r}; expected one of {', '.join(REFERENCES)}.")
    evaluate(name, **options)
    return Root.open(options.get("root"), options.get("profile")).run(name)


class Scoring:
    """A run that is being scored: its songs, those that are done, and what makes its estimates."""

    def __init__(self, run: Run, data: DataLike, split: str, device: str, open_cache: Any) -> None:
        if run.config and not run.finished:  # without a configuration there is no run, and that says so
            raise SepkitError(f"{run.name} {run.standing}; train it to its end before it is scored.")
        self.run = run
        self.estimator: Any = files_of(run)
        self.cache, songs = scoring_songs(run, data, split, open_cache)
        self.unscored, trained_on = dict(self.cache.unusable), contaminated(run, self.cache, songs, split)
        self.songs = [song for song in songs if song not in trained_on]
        for song, why in trained_on.items():
            print(f"{run.name}: {song} is left out: {why}", flush=True)
        if not self.songs:
            raise SepkitError(f"{run.name} can't be scored: of {len(songs)} {split} songs it was trained on all.")
        lines, protocol = run.root.excluded(), PROTOCOL_OF[self.cache.settings.sources]
        unwanted = {*lines, *named(lines, {**self.cache.songs, **self.cache.excluded})[0], *trained_on}
        self.files = ScoreFiles(run, split, protocol, self._origins(split), unwanted)
        self.todo = [song for song in self.songs if song not in self.files.done]
        if self.todo:
            self.estimator = self.estimator or make_estimator(run, device)
            self.files.facts["accompaniment"] = accompaniment_of(self.estimator)

    def _origins(self, split: str) -> dict[str, Origin]:
        known = {origin.get("weights") for origin in read_origins(self.run, split).values()} - {None}
        weights = self.run.weights()
        if known - {weights}:  # before scores are dropped, a damaged checkpoint is brought back or named
            best_checkpoint(self.run)
            weights = self.run.weights()
        facts = {"weights": weights, "sample_rate": self.cache.sample_rate}
        found = {song: {"source": self.cache.songs[song].get("source"), **facts} for song in self.songs}
        if isinstance(self.estimator, FileEstimate):
            self.estimator.require_some(self.songs)
            found = {song: {**of, "estimates": self.estimator.fingerprint(song)} for song, of in found.items()}
        return found

    def add(self, song: str, found: Song | SepkitError) -> None:
        if isinstance(found, SepkitError):
            self.unscored[song] = str(found)
        else:
            self.files.add(song, *found)

    def table(self) -> pd.DataFrame:
        """scores.csv; a line for each song without scores that a person should look at."""
        if not self.files.done:
            song, why = next(iter(self.unscored.items()))
            raise SepkitError(f"{self.run.name}: none of {len(self.songs)} songs could be scored: {song}: {why}")
        table = self.files.write(self.songs)
        lost = table["value"].isna().groupby(table["track"], sort=False).transform("all")
        unscored = {**dict(table.loc[lost, ["track", "status"]].values), **self.unscored}
        for song, why in unscored.items():
            print(f"{self.run.name}: {song} has no scores: {why}", flush=True)
        shifted = table.loc[table["status"].str.startswith(SHIFTED), ["track", "status"]]
        for song, status in dict(shifted.values).items():
            print(f"{self.run.name}: {song}: {status.removeprefix(SHIFTED)}; it is scored as it is", flush=True)
        table.attrs["unscored"] = unscored
        return table


def contaminated(run: Run, cache: Cache, songs: Iterable[str], split: str) -> dict[str, str]:
    """{song: reason} of those songs of `cache` that `run`, or a run whose weights it began with, was trained on.

    A song is known by its name, or, under another name, by its files.
    """
    found, config = dict[str, str](), run.config
    while data := config.get("data"):
        names = {*data.get("train", ()), *(data.get("valid", ()) if split == "test" else ())}
        made = read_manifest(run.root.path / "cache" / str(data.get("cache"))).get("songs", {})
        files = {made[name].get("source"): name for name in names & made.keys()}
        of = "" if config["run"] == run.name else f", as {config['run']} was, with whose weights it began"
        for song in songs:
            known = song if song in names else files.get(cache.songs[song].get("source", ""))
            if known and song not in found:
                found[song] = f"{run.name} was trained on it{of}" + (f" (called {known})" if known != song else "")
        start = config.get("start_from") or config.get("weights_of") or ""
        before = run.root.run_of(plain(start), config["seed"], config["fold"])
        if not (before.path / "config.json").exists():
            break
        config = before.config
    return found


def _score_runs(cache: Cache, scorings: list[Scoring], split: str, device: str, n_jobs: int | None) -> None:
    """Scores the songs that runs of one cache wait for."""
    waiting = {song: [each for each in scorings if song in each.todo] for song in cache.songs}
    estimators = {song: [each.estimator for each in those] for song, those in waiting.items() if those}
    names = [each.run.name for each in scorings if each.todo]
    if not names:
        return
    run, doing = (names[0], names[0]) if len(names) == 1 else ("shared", f"{len(names)} runs")
    with spending(scorings[0].run.root, run=run, stage=f"evaluate {split}", device=device_name(device)):
        results = score_songs(estimators, cache, device, n_jobs)
        for song, found in progress(results, doing=f"score {doing}", total=len(estimators), name=itemgetter(0)):
            for scoring, result in zip(waiting[song], found, strict=True):
                scoring.add(song, result)
            _push([each.run for each in waiting[song]])


def _ready(run: Run | str, root: RootLike, profile: ProfileLike) -> Run:
    """The run as its copy on Drive has it, damaged files mended; the references are made where they are absent."""
    if not isinstance(run, Run):
        refuse_contaminated(run)
        run = Root.open(root, profile).run(run)
    drive.tell(run.name, drive.pull(run.root, only=kept(run)))
    mend(run)
    return given.reference(run, profile)


def _push(runs: list[Run]) -> None:
    """Copies the runs' scores to Drive, those in the journal too."""
    for root in {run.root for run in runs}:
        paths = dict.fromkeys(path for run in runs if run.root == root for path in kept(run))
        drive.tell("scores", drive.push(root, only=tuple(paths)))


def open_scored(root: Root, profile: str, data: DataLike, settings: CacheSettings, splits: tuple[str, ...]) -> Cache:
    """The cache of the songs of `splits`; those that can't be used stand in its `unusable`, with the reason."""
    return open_cache(get_profile(profile), data, root, settings, splits, "Evaluation", whole=False)


def scoring_songs(
    run: Run, data: DataLike, split: str = "test", open_cache: Callable[..., Cache] = open_scored
) -> tuple[Cache, list[str]]:
    """(cache at the rate of scores with the sources of the run's protocol, names of the songs of its fold, or of the split)."""
    config = run.config
    splits = ("train", "valid") if config.get("fold") is not None else (split,)
    cache = open_cache(run.root, config["profile"], data, scoring_cache_settings(config), splits)
    return cache, scored_songs(cache, config, split)


def score_songs(
    waiting: Mapping[str, Sequence[Estimator]], cache: Cache, device: str, n_jobs: int | None = None
) -> Iterator[tuple[str, list[Song | SepkitError]]]:
    """Yields (song, [(scores, frames) of each of its estimators]), in order; an error where the song can't be used.

    On a GPU the parent separates while workers score; there a song's estimates go to workers in portions, since those
    of whole songs take 170 MB each.
    """

    def calls() -> Iterator[Any]:
        for song, estimators in waiting.items():
            if device != "cuda":
                yield delayed(_score)(cache, song, estimators)
                continue
            try:
                audio = cache.song(song)
            except SepkitError as error:
                yield delayed(_score)(cache, song, [error] * len(estimators))
                continue
            most = max(1, PORTION_BYTES // (8 * cache.n_samples(song) * len(cache.settings.sources)))
            for start in range(0, len(estimators), most):
                portion = estimators[start : start + most]
                made = [_made(each, *audio, song) if isinstance(each, ModelEstimate) else each for each in portion]
                yield delayed(_score)(cache, song, made)

    results = spread(calls(), n_jobs=n_jobs or os.cpu_count() or 1, ahead="n_jobs")
    for song, estimators in waiting.items():
        found: list[Song | SepkitError] = []
        while len(found) < len(estimators):
            found += next(results)
        yield song, found


def _made(estimate: Any, mixture: np.ndarray, target: dict[str, np.ndarray], song: str) -> Any:
    """The estimates of a song, made here where they are an estimator still; or the error why there are none."""
    try:
        return estimate(mixture, target, song) if callable(estimate) else estimate
    except SepkitError as error:
        return error


def _score(cache: Cache, song: str, estimates: Sequence[Any]) -> list[Song | SepkitError]:
    """(scores, frames) of one song for each of the estimates, which are estimators or what `_made` made of them."""
    give_back_memory()  # of the song before: a thousand short songs held 2.6 GB
    with one_thread("cpu"):
        try:
            mixture, target = cache.song(song)
            targets = Targets(target, cache.sample_rate, PROTOCOL_OF[cache.settings.sources], song)
        except SepkitError as error:  # this song is lost, the others are not
            return [error] * len(estimates)
        found: list[Song | SepkitError] = []
        for each in estimates:
            try:
                estimate = _made(each, mixture, target, song)
                if isinstance(estimate, SepkitError):
                    raise estimate
                rows, frames = targets.score({name: estimate[name] for name in target if name in estimate})
                if isinstance(each, FileEstimate) and (shift := each.shifted(song, estimate, target)):
                    rows = [{**row, "status": SHIFTED + shift} if row["status"] == "ok" else row for row in rows]
                found.append((rows, frames))
            except SepkitError as error:  # this estimate is lost, the others are not
                found.append(targets.undefined(str(error)))
    return found
