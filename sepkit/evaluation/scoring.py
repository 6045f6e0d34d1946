"""A run and its songs -> estimates -> scores.csv and frames.csv, song by song.

Songs are spread over joblib's workers (a dask cluster under `joblib.parallel_config`) and written as
they come, so a kill loses at most the songs in work, and the next call goes on with the rest.  The
result does not depend on the number of workers.  A song whose estimate can't be scored becomes rows
that are undefined with the reason, and the others go on.  A run is scored with the protocol of the
sources that it needs (`cache_sources`): 4stem where its network estimates drums, bass or other, else
2stem.  `mixture` and `oracle` are runs without training: the mixture as the estimate of every source,
and the ideal ratio mask.

frames.csv holds what the medians of scores.csv are taken from: track, source, frame (the second that it
begins at) and the four BSS Eval scores in dB, empty where undefined.  It is written first, so that a song
in scores.csv is complete.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed

from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings, cache_sources
from sepkit.data.check import require_headers
from sepkit.data.folds import scored_songs
from sepkit.data.locate import locate_songs
from sepkit.devices import device_name, one_thread, pick_device
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.estimators import (
    SCORE_RATE,
    Estimator,
    ModelEstimate,
    accompaniment_of,
    make_estimator,
)
from sepkit.evaluation.metrics import BSS_EVAL_METRICS
from sepkit.evaluation.track import Targets
from sepkit.experiments import REFERENCES
from sepkit.models import refuse_contaminated
from sepkit.parallel import progress, spread
from sepkit.profiles import PROTOCOLS, Profile, get_profile
from sepkit.storage import SCORE_DECIMALS, Root, Run, read_scores, write_csv, write_json

COLUMNS = [
    "run", "experiment", "seed", "fold", "track", "source", "metric", "value",
    "protocol", "frames", "frames_dropped", "status", "accompaniment",
]  # fmt: skip
FRAME_METRICS = BSS_EVAL_METRICS
FRAME_COLUMNS = ["track", "source", "frame", *FRAME_METRICS]
PROTOCOL_OF = {sources: protocol for protocol, sources in PROTOCOLS.items()}
Rows = list[dict[Any, Any]]


def evaluate(
    run: Run | str,
    *,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    split: str = "test",
    device: str | None = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Scores `run` on its test songs (or split="valid") and returns scores.csv as a table.

    data: the folder of songs, where the profile does not know it; n_jobs: songs at a time, None for
    one a core.  Songs that are scored already are not scored again.

    Raises SepkitError where the run is not finished or songs can't be used.
    """
    run = run if isinstance(run, Run) else Root.open(root).run(run)
    config = run.config
    if not run.finished:
        raise SepkitError(
            f"{run.name} is {run.status['state']}, not finished; train it to its end before it is scored."
        )
    if split not in ("test", "valid"):
        raise UsageError(f"Expected split test or valid, got {split!r}.")
    path = scores_path(run, split)
    cache, songs = scoring_songs(run, data, split)
    done = _done(run, split)
    todo = [song for song in songs if song not in done]
    if todo:
        device = pick_device(device)
        estimator = make_estimator(run, device)
        facts = {key: config.get(key) for key in ("run", "experiment", "seed", "fold")}
        facts["accompaniment"] = accompaniment_of(estimator)
        start = time.perf_counter()
        try:
            for song, (scores, frames) in progress(
                score_songs(estimator, cache, todo, device, n_jobs),
                doing=f"score {run.name}", total=len(todo), name=lambda item: item[0],
            ):  # fmt: skip
                done[song] = (
                    [{**facts, "track": song, **score} for score in scores],
                    [{"track": song, **frame} for frame in frames],
                )
                _write(run, split, done, songs)
                start = _spend(run, split, device, start)
        finally:
            _spend(run, split, device, start)
    elif done.keys() != set(songs):  # a song was excluded since then
        _write(run, split, done, songs)
    return read_scores(path)


def scores_path(run: Run, split: str = "test") -> Path:
    return run.scores_path if split == "test" else run.path / "valid_scores.csv"


def frames_path(run: Run, split: str = "test") -> Path:
    path = scores_path(run, split)
    return path.with_name(path.name.replace("scores", "frames"))


def read_frames(path: Path) -> pd.DataFrame:
    """frames.csv as a table, undefined scores NaN; columns as above."""
    kinds: Any = {"track": str, **dict.fromkeys(FRAME_METRICS, float)}
    empty = {name: [""] for name in FRAME_METRICS}
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    return table.round(dict.fromkeys(FRAME_METRICS, SCORE_DECIMALS))  # as in `read_scores`


def _done(run: Run, split: str) -> dict[str, tuple[Rows, Rows]]:
    """{song: (its scores, its frames)} of what is scored already, with the protocol of the run."""
    path, frames = scores_path(run, split), frames_path(run, split)
    if not path.exists():
        return {}
    tables = [read_scores(path), read_frames(frames) if frames.exists() else pd.DataFrame({"track": []})]
    rows, windows = (
        {str(song): part.to_dict("records") for song, part in table.groupby("track", sort=False)}
        for table in tables
    )
    protocol = PROTOCOL_OF[cache_sources(run.config)]
    return {
        song: (scores, windows.get(song, []))
        for song, scores in rows.items()
        if {score.get("protocol", protocol) for score in scores} == {protocol}
    }


def _write(run: Run, split: str, done: dict[str, tuple[Rows, Rows]], songs: list[str]) -> None:
    """The rows of the songs that are done, in the order of `songs`."""
    kept = [done[song] for song in songs if song in done]
    frames = pd.DataFrame([row for _, rows in kept for row in rows], columns=FRAME_COLUMNS)
    scores = pd.DataFrame([row for rows, _ in kept for row in rows], columns=COLUMNS)
    write_csv(frames_path(run, split), frames)
    write_csv(scores_path(run, split), scores)


def _spend(run: Run, split: str, device: str, start: float) -> float:
    """Writes the minutes since `start` into budget.csv, song by song; the time now."""
    now = time.perf_counter()
    run.root.add_minutes(
        run=run.name, stage=f"evaluate {split}", minutes=(now - start) / 60, device=device_name(device),
        gpu_attached=torch.cuda.is_available(),
    )  # fmt: skip
    return now


def reference(
    name: str,
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    split: str = "test",
    n_jobs: int | None = None,
) -> Run:
    """The run `mixture` or `oracle`, scored: what any system should lie between."""
    refuse_contaminated(name)
    if name not in REFERENCES:
        raise UsageError(f"There is no reference {name!r}; expected one of {', '.join(REFERENCES)}.")
    profile = get_profile(profile)
    run = Root.open(root, profile).run(name)
    if not run.finished:
        write_json(
            run.path / "config.json",
            {"run": name, "experiment": name, "profile": profile.name, "seed": 0, "fold": None},
        )
        run.write_status(
            state="finished", epochs=0, minutes=0.0, gpu_min=0.0, vram_mib=0, device="cpu", parameters=0
        )
    evaluate(run, data=data, split=split, n_jobs=n_jobs)
    return run


def scoring_songs(run: Run, data: Path | str | None, split: str = "test") -> tuple[Cache, list[str]]:
    """(cache at 44.1 kHz, names) of the songs that `run` is scored on: its fold, or the split.

    The cache holds the sources of the run's protocol.
    """
    config = run.config
    profile = get_profile(config["profile"])
    folder = locate_songs(profile, data, run.root)
    require_headers(folder, "Evaluation")
    splits = ("train", "valid") if config.get("fold") is not None else (split,)
    settings = CacheSettings(sample_rate=SCORE_RATE, sources=cache_sources(config))
    cache = build_cache(folder, run.root, settings, splits=splits)
    return cache, scored_songs(cache, config, split)


def song_audio(cache: Cache, song: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(mixture (channel, time), {source: (channel, time)}) of a whole song."""
    return cache.song(song)


def estimates(
    run: Run, song: str, data: Path | str | None = None, split: str = "test"
) -> dict[str, np.ndarray]:
    """{"mixture", "<source>" (the truth), "<source> estimate"}, each (channel, time) at 44.1 kHz."""
    cache, songs = scoring_songs(run, data, split)
    if song not in songs:
        raise SepkitError(f"{song!r} is not among the {len(songs)} {split} songs of {run.name}.")
    mixture, target = song_audio(cache, song)
    with one_thread("cpu"):
        estimate = make_estimator(run)(mixture, target)
    clips = {"mixture": mixture}
    for source, truth in target.items():
        clips[source], clips[f"{source} estimate"] = truth, estimate[source]
    return clips


def score_songs(
    estimator: Estimator, cache: Cache, songs: list[str], device: str, n_jobs: int | None
) -> Iterator[tuple[str, tuple[Rows, Rows]]]:
    """Yields (song, (scores, frames)) in order.  On a GPU the parent separates while workers score."""
    n_jobs = n_jobs or os.cpu_count() or 1
    on_gpu = device == "cuda" and isinstance(estimator, ModelEstimate)

    def jobs():
        for song in songs:
            if on_gpu:
                yield delayed(_score)(cache, song, None, _estimate(estimator, *song_audio(cache, song)))
            else:
                yield delayed(_score)(cache, song, estimator, None)

    results = spread(jobs(), n_jobs=n_jobs, ahead="n_jobs")
    return zip(songs, results, strict=True)


def _estimate(
    estimator: Estimator, mixture: np.ndarray, target: dict[str, np.ndarray]
) -> dict[str, np.ndarray] | SepkitError:
    """The estimates, or why there are none."""
    try:
        return estimator(mixture, target)
    except SepkitError as error:
        return error


def _score(
    cache: Cache,
    song: str,
    estimator: Estimator | None,
    estimate: dict[str, np.ndarray] | SepkitError | None,
) -> tuple[Rows, Rows]:
    """(scores, frames) of one song, rounded."""
    sources = cache.settings.sources
    with one_thread("cpu"):
        mixture, target = song_audio(cache, song)
        targets = Targets(target, SCORE_RATE, PROTOCOL_OF[sources], song)
        if estimate is None:
            assert estimator is not None
            estimate = _estimate(estimator, mixture, target)
        try:
            if isinstance(estimate, SepkitError):
                raise estimate
            rows, windows = targets.score({name: estimate[name] for name in sources if name in estimate})
        except SepkitError as error:  # the song is lost, the others are not
            rows, windows = targets.undefined(str(error))
    frames = [
        {"source": source, "frame": frame}
        | {name: round(float(windows[name][i, frame]), SCORE_DECIMALS) for name in FRAME_METRICS}
        for i, source in enumerate(sources)
        for frame in range(targets.n_windows)
    ]
    return [{**row, "value": round(row["value"], SCORE_DECIMALS)} for row in rows], frames
