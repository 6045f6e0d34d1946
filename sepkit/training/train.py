"""Train one row of the menu: songs -> cache -> network -> checkpoints.

A run is resumed where it was and a finished one is returned as it is.  All randomness comes from
(seed, epoch); the caller's random state is put back.
"""

import logging
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from joblib import delayed
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.data.batches import FixedClips, TrainingClips, training_loader
from sepkit.data.cache import Cache, CacheSettings, build_cache
from sepkit.data.check import require_headers
from sepkit.data.folds import split_songs
from sepkit.data.locate import locate_songs
from sepkit.errors import SepkitError
from sepkit.experiments import Experiment, get_experiment, resolve
from sepkit.models.mask import magnitude_statistics
from sepkit.parallel import spread
from sepkit.profiles import Profile, get_profile
from sepkit.progress import progress
from sepkit.storage import Root, Run, write_json
from sepkit.training.checkpoints import AtomicCheckpointIO, BestAndLast, newest
from sepkit.training.devices import device_name, one_thread, pick_device
from sepkit.training.loop import Recorder, SeparationTask
from sepkit.training.losses import make_loss


def train(
    experiment: str | Experiment,
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    seed: int = 0,
    fold: int | None = None,
    device: str | None = None,
) -> Run:
    """Trains `experiment`, or goes on with it, and returns its run.

    profile: demo, preview or full (SEPKIT_PROFILE, else demo); data: the folder of songs; root:
    where everything is written; seed: of weights, clips and dropout; fold: 0, 1 or 2 of the
    cross-validation by artist, None for the usual split; device: cpu or cuda, None for the best.

    Raises SepkitError, in one sentence, where songs, settings or checkpoints do not allow the work.
    """
    experiment, profile = get_experiment(experiment), get_profile(profile)
    device = pick_device(device)
    root = Root.open(root, profile)
    settings = resolve(experiment, profile)
    run = root.run(run_name(experiment.name, seed, fold))
    if run.finished:
        _same_settings(run, settings)
        return run
    cache, layout = training_cache(settings, profile, data, root)
    names = split_songs(cache, fold)
    config = {
        "run": run.name,
        **settings,
        "seed": seed,
        "fold": fold,
        "data": {"cache": cache.fingerprint, "layout": layout, **names},
    }
    if (run.path / "config.json").exists():
        _same_settings(run, config)
    else:
        write_json(run.path / "config.json", config)
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        one_thread(device),
        quiet_lightning(),
    ):
        _fit(run, config, cache, device)
    return run


def training_cache(
    settings: dict[str, Any], profile: Profile, data: Path | str | None, root: Root
) -> tuple[Cache, str]:
    """(cache of the training and validation songs that `settings` need, layout of the songs)."""
    folder = locate_songs(profile, data, root)
    require_headers(folder, "Training")
    wanted = CacheSettings(sample_rate=profile.sample_rate, sources=cache_sources(settings))
    return build_cache(folder, root, wanted, splits=("train", "valid")), folder.layout


def train_many(
    experiments: Iterable[str | Experiment],
    *,
    seeds: Iterable[int] = (0,),
    folds: Iterable[int | None] = (None,),
    n_jobs: int | None = None,
    **where: Any,
) -> list[Run]:
    """Trains rows × seeds × folds and returns their runs in that order; resumable at any point.

    n_jobs: runs at a time, None for one a core without a GPU and one with it; `where` as for `train`.
    """
    todo = [(row, seed, fold) for row in experiments for seed in seeds for fold in folds]
    jobs = n_jobs or (1 if pick_device(where.get("device")) == "cuda" else os.cpu_count() or 1)
    if jobs > 1 and len(todo) > 1:  # runs side by side find their caches built
        profile = get_profile(where.get("profile"))
        for settings in {
            str(s): s for s in (resolve(get_experiment(row), profile) for row, _, _ in todo)
        }.values():
            training_cache(settings, profile, where.get("data"), Root.open(where.get("root"), profile))
    runs = spread(
        (delayed(train)(row, seed=seed, fold=fold, **where) for row, seed, fold in todo),
        n_jobs=min(jobs, max(1, len(todo))),
    )
    name = lambda run: f"{run.name} {run.status['stopped']}, {run.status['minutes']:.1f} min"  # noqa: E731
    return list(progress(runs, doing="train", total=len(todo), name=name))


def run_name(experiment: str, seed: int, fold: int | None = None) -> str:
    return f"{experiment}-s{seed}" + (f"-f{fold}" if fold is not None else "")


def cache_sources(settings: dict[str, Any]) -> tuple[str, ...]:
    """Two stems, or four where the network estimates drums, bass or other."""
    wanted = settings["model"].get("sources", ("vocals",))
    two = ("vocals", "accompaniment")
    return two if set(wanted) <= set(two) else ("vocals", "drums", "bass", "other")


def build_model(config: dict[str, Any], cache: Cache) -> nn.Module:
    """The network with weights drawn from the seed and the statistics of the training songs."""
    torch.manual_seed(config["seed"])
    model = models.build(**config["model"])
    if hasattr(model, "stft"):
        clips = FixedClips(
            cache, seconds=config["training"]["segment_s"], count=2, names=config["data"]["train"]
        )
        mixtures = (clips[index]["sources"].sum(dim=0) for index in range(len(clips)))
        model.set_statistics(*magnitude_statistics(model.stft, mixtures))
    return model


def _fit(run: Run, config: dict[str, Any], cache: Cache, device: str) -> None:
    training, seed = config["training"], config["seed"]
    model = build_model(config, cache)
    clips = TrainingClips(
        cache,
        seconds=training["segment_s"],
        seed=seed,
        sampling=training["sampling"],
        remix=training["remix"],
        augment=make_augment(training["augment"]),
        names=config["data"]["train"],
    )
    fixed = FixedClips(
        cache, seconds=training["segment_s"], count=training["valid_segments"], names=config["data"]["valid"]
    )
    workers = 2 if device == "cuda" else 0
    picks = [cache.settings.sources.index(source) for source in model.sources]
    task = SeparationTask(model, make_loss(**config["loss"]), picks, training, seed)
    checkpoint = newest(run)
    stopping = EarlyStopping(monitor="valid_loss", patience=training["patience"])
    keeper = BestAndLast(run.path)
    trainer = L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="16-mixed" if device == "cuda" else "32-true",
        max_epochs=training["epochs"],
        callbacks=[Recorder(run, device_name(device)), stopping, keeper],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run.path,
    )
    loader = training_loader(
        clips, batch_size=training["batch_size"], steps=training["steps_per_epoch"], workers=workers
    )
    valid_loader = DataLoader(fixed, batch_size=training["batch_size"])
    run.write_status(state="running", device=device_name(device), started=time.strftime("%Y-%m-%dT%H:%M:%S"))
    trainer.fit(task, loader, valid_loader, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    history = run.history()
    early = stopping.stopped_epoch > 0 and len(history) < training["epochs"]
    run.write_status(
        state="finished",
        epochs=len(history),
        best_epoch=keeper.best_epoch + 1,
        stopped=f"early, after {training['patience']} epochs without improvement"
        if early
        else "all epochs done",
        last_learning_rate=float(history["learning_rate"].iloc[-1]),
        minutes=round(float(history["seconds"].sum()) / 60, 3),
        gpu_min=round(float(history["seconds"].sum()) / 60, 3) if torch.cuda.is_available() else 0.0,
        vram_mib=int(history["vram_mib"].max()),
        device=device_name(device),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    print(
        f"{run.name} {run.status['stopped']}: {len(history)} epochs, best {keeper.best_epoch + 1}, "
        f"last learning rate {history['learning_rate'].iloc[-1]:.2e}, {run.status['minutes']:.1f} min",
        flush=True,
    )


def _same_settings(run: Run, wanted: dict[str, Any]) -> None:
    """SepkitError where a run under this name was made with other settings."""
    have = run.config
    flat_have, flat_wanted = _flatten(have), _flatten(wanted)
    different = [key for key in flat_wanted if flat_have.get(key) != flat_wanted[key]]
    if different:
        key = different[0]
        raise SepkitError(
            f"{run.name} under {run.root.path} was made with {key} = {flat_have.get(key)!r}, but {flat_wanted[key]!r} is "
            f"asked for now ({len(different)} differences); give another --root, or delete {run.path}."
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: leaf
            for name, child in value.items()
            for key, leaf in _flatten(child, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): list(value) if isinstance(value, tuple) else value}


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice on loaders and its banner; what matters is printed an epoch a line."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings(
                "ignore", message=r".*(does not have many workers|isinstance\(treespec|LeafSpec).*"
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
