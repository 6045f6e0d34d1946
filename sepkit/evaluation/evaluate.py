"""A run and its songs -> estimates -> scores.csv, song by song.

Songs are spread over joblib's workers (a dask cluster under `joblib.parallel_config`) and written as
they come, so a kill loses at most the songs in work, and the next call goes on with the rest.  The
result does not depend on the number of workers.  `mixture` and `oracle` are runs without training:
the mixture as the estimate of every source, and the ideal ratio mask.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed

from sepkit.data.cache import Cache, CacheSettings, build_cache
from sepkit.data.check import require_headers
from sepkit.data.locate import locate_songs
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.metrics import PROTOCOLS, score_track
from sepkit.models import refuse_contaminated
from sepkit.models.separation import separate
from sepkit.models.stft import STFT
from sepkit.parallel import spread
from sepkit.profiles import Profile, get_profile
from sepkit.progress import progress
from sepkit.storage import Root, Run, write_csv, write_json
from sepkit.training.checkpoints import load_model
from sepkit.training.devices import device_name, one_thread, pick_device

COLUMNS = [
    "run", "experiment", "seed", "fold", "track", "source", "metric", "value",
    "protocol", "frames", "frames_dropped", "status", "accompaniment",
]  # fmt: skip
SCORE_RATE = 44100
DECIMALS = 6  # of a dB; beyond them a sum's order decides
REFERENCES = ("mixture", "oracle")
# (mixture, targets) -> estimates, each {source: (channel, time)} or (channel, time), at SCORE_RATE
Estimator = Callable[[np.ndarray, dict[str, np.ndarray]], dict[str, np.ndarray]]


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
    done: dict[str, list[dict[Any, Any]]] = {}
    if path.exists():
        rows = read_scores(path).groupby("track", sort=False)
        done = {str(song): scores.to_dict("records") for song, scores in rows}
    todo = [song for song in songs if song not in done]
    if todo:
        device = pick_device(device)
        estimator = make_estimator(run, device)
        facts = {key: config.get(key) for key in ("run", "experiment", "seed", "fold")}
        facts["accompaniment"] = accompaniment_of(estimator)
        start = time.perf_counter()
        try:
            for song, scores in progress(
                score_songs(estimator, cache, todo, device, n_jobs),
                doing=f"score {run.name}", total=len(todo), name=lambda item: item[0],
            ):  # fmt: skip
                done[song] = [{**facts, "track": song, **score} for score in scores]
                _write_scores(path, done, songs)
                start = _spend(run, split, device, start)
        finally:
            _spend(run, split, device, start)
    elif done.keys() != set(songs):  # a song was excluded since then
        _write_scores(path, done, songs)
    return read_scores(path)


def scores_path(run: Run, split: str = "test") -> Path:
    return run.scores_path if split == "test" else run.path / "valid_scores.csv"


def read_scores(path: Path) -> pd.DataFrame:
    """scores.csv, every value as it was written; undefined ones are NaN with a reason in `status`."""
    table = pd.read_csv(path, dtype={"track": str, "run": str})
    table["value"] = table["value"].round(DECIMALS)  # pandas before 3 reads some a bit beside
    return table


def _write_scores(path: Path, done: dict[str, list[dict[Any, Any]]], songs: list[str]) -> None:
    """The rows of the songs that are done, in the order of `songs`."""
    write_csv(path, pd.DataFrame([row for song in songs for row in done.get(song, [])], columns=COLUMNS))


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
    """(cache at 44.1 kHz, names) of the songs that `run` is scored on: its fold, or the split."""
    config = run.config
    profile = get_profile(config["profile"])
    folder = locate_songs(profile, data, run.root)
    require_headers(folder, "Evaluation")
    fold = config.get("fold") is not None and split == "test"
    splits = ("train", "valid") if config.get("fold") is not None else (split,)
    cache = build_cache(folder, run.root, CacheSettings(sample_rate=SCORE_RATE), splits=splits)
    if fold:
        return cache, config["data"]["test"]
    return cache, config["data"]["valid"] if config.get("fold") is not None else cache.names(split)


def make_estimator(run: Run, device: str = "cpu") -> Estimator:
    """What turns a mixture into estimates: the run's best weights, or a reference."""
    experiment = run.config["experiment"]
    if experiment == "mixture":
        return mixture_estimate
    if experiment == "oracle":
        return oracle_estimate
    return ModelEstimate(load_model(run), device)


class ModelEstimate:
    """The estimates of a network; a class and not a closure, so that it travels to workers."""

    def __init__(self, model: torch.nn.Module, device: str) -> None:
        self.model, self.device = model, device

    def __call__(self, mixture: np.ndarray, target: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return separate(self.model, mixture, SCORE_RATE, device=self.device)


def accompaniment_of(estimator: Estimator) -> str:
    """How the accompaniment comes about: modelled, or residual, the mixture minus the vocals."""
    sources: Any = estimator.model.sources if isinstance(estimator, ModelEstimate) else ("vocals",)
    return "residual" if tuple(sources) == ("vocals",) else "modelled"


def mixture_estimate(mixture: np.ndarray, target: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mixture as the estimate of every source."""
    return dict.fromkeys(target, mixture)


def oracle_estimate(
    mixture: np.ndarray, target: dict[str, np.ndarray], n_fft: int = 1024, hop_length: int = 256
) -> dict[str, np.ndarray]:
    """Ideal ratio mask |V| / (|V| + |A|) times the mixture's spectrum; accompaniment is the rest.

    |A| is the magnitude of the spectrum of the summed other stems; Hann window.
    """
    stft = STFT(n_fft, hop_length)
    vocals, accompaniment, whole = (
        stft(torch.from_numpy(audio)) for audio in (target["vocals"], target["accompaniment"], mixture)
    )
    mask = vocals.abs() / (vocals.abs() + accompaniment.abs()).clamp_min(1e-10)
    estimate = stft.inverse(mask * whole, mixture.shape[-1]).numpy()
    return {"vocals": estimate, "accompaniment": mixture - estimate}


def song_audio(cache: Cache, song: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(mixture (channel, time), {source: (channel, time)}) of a whole song."""
    sources = cache.sources(song)
    return cache.mixture(song), {name: sources[number] for number, name in enumerate(cache.settings.sources)}


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


def score_songs(estimator: Estimator, cache: Cache, songs: list[str], device: str, n_jobs: int | None):
    """Yields (song, rows) in order.  On a GPU the parent separates while workers score."""
    n_jobs = n_jobs or os.cpu_count() or 1
    on_gpu = device == "cuda" and isinstance(estimator, ModelEstimate)

    def jobs():
        for song in songs:
            if on_gpu:
                yield delayed(_score)(cache, song, None, estimator(*song_audio(cache, song)))
            else:
                yield delayed(_score)(cache, song, estimator, None)

    results = spread(jobs(), n_jobs=n_jobs, ahead="n_jobs")
    return zip(songs, results, strict=True)


def _score(cache: Cache, song: str, estimator: Estimator | None, estimate: dict[str, np.ndarray] | None):
    """The rows of one song, rounded."""
    with one_thread("cpu"):
        mixture, target = song_audio(cache, song)
        if estimate is None:
            assert estimator is not None
            estimate = estimator(mixture, target)
        rows = score_track(
            estimate={source: estimate[source] for source in PROTOCOLS["2stem"]},
            target=target, sample_rate=SCORE_RATE, track=song,
        )  # fmt: skip
    return [{**row, "value": round(row["value"], DECIMALS)} for row in rows]
