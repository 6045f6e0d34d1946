"""One run through Lightning: network, clips and checkpoints in, a finished run out."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.data.batches import FixedClips, TrainingClips, training_loader
from sepkit.data.cache import Cache
from sepkit.devices import device_name, kept_memory, one_thread, precision
from sepkit.errors import UsageError
from sepkit.models.mask import magnitude_statistics
from sepkit.models.weights import load_weights
from sepkit.storage import Run
from sepkit.storage.checkpoints import load_checkpoint, newest
from sepkit.storage.ledger import spending
from sepkit.training.losses import make_loss
from sepkit.training.saving import AtomicCheckpointIO, BestAndLast, Recorder, averaged
from sepkit.training.step import SeparationTask


@contextmanager
def computing(device: str) -> Iterator[None]:
    """How training computes on `device`; the caller's random state is put back, and Lightning is silent."""
    fork = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with fork, one_thread(device), kept_memory(device), quiet_lightning():
        yield


def build_model(config: dict[str, Any], cache: Cache) -> Any:
    """The network with weights drawn from the seed and the statistics of the training songs."""
    torch.manual_seed(config["seed"])
    model = models.build(**config["model"])
    if model.stft:
        clips = FixedClips(cache, seconds=config["training"]["segment_s"], count=2, names=config["data"]["train"])
        mixtures = (clips[index]["mixture"] for index in range(len(clips)))
        model.set_statistics(
            *magnitude_statistics(  # a stft cache holds magnitudes (channel, freq, frame)
                mixture if mixture.ndim == 3 else model.stft(mixture).abs() for mixture in mixtures
            )
        )
    return model


def prepare(
    config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None = None
) -> tuple[SeparationTask, DataLoader, DataLoader]:
    """(the task, batches of training clips, batches of validation clips) of a run's configuration."""
    training, seed, held = config["training"], config["seed"], cache.settings.sources
    model = build_model(config, cache)
    if missing := sorted(set(model.sources) - set(held)):
        raise UsageError(
            f"{config['experiment']} estimates {', '.join(missing)}, but its clips are made of {', '.join(held)}; "
            "change its sources, or its setting stems."
        )
    if start is not None:
        load_weights(model, start, f"the weights of {config['start_from']}")
    clips = TrainingClips(
        cache,
        seconds=training["segment_s"],
        seed=seed,
        sampling=training["sampling"],
        remix=training["remix"],
        augment=make_augment(training["augment"]),
        curriculum=training["curriculum"],
        names=config["data"]["train"],
    )
    loader = training_loader(
        clips,
        batch_size=training["batch_size"],
        steps=training["steps_per_epoch"],
        workers=2 if device == "cuda" else 0,
    )
    seconds, count = training["valid_segment_s"], training["valid_segments"]
    fixed = FixedClips(cache, seconds=seconds, count=count, names=config["data"]["valid"])
    picks = [held.index(source) for source in model.sources]
    task = SeparationTask(model, make_loss(**config["loss"]), picks, training, seed)
    return task, loader, DataLoader(fixed, batch_size=training["batch_size"])


def fit(run: Run, config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None = None) -> None:
    """Trains `run` to its end, from its newest checkpoint where it has one, otherwise from `start`.

    start: the weights of another run or published ones; None draws them from the seed.
    """
    training, name = config["training"], device_name(device)
    mixed = precision(device, bfloat16=training["bfloat16"])
    where = {"device": name, "precision": mixed}
    stopping = EarlyStopping(monitor="valid_sdr", mode="max", patience=training["patience"])
    keeper, recorder = BestAndLast(run), Recorder(run, name)
    averaging: list[Callback] = [averaged(training["ema"])] if training["ema"] else []
    with computing(device), spending(run.root, run=run.name, stage="train", device=name):
        task, loader, valid_loader = prepare(config, cache, device, start)
        checkpoint = newest(run)
        if checkpoint is not None:  # Lightning sets the epoch too late, after workers drew their first batches
            batches: Any = loader.batch_sampler
            batches.set_epoch(load_checkpoint(checkpoint)["epoch"] + 1)
        trainer = L.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision=mixed,
            max_epochs=training["epochs"],
            callbacks=[*averaging, recorder, stopping, keeper],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
        run.write_status(state="running", **where, started=time.strftime("%Y-%m-%dT%H:%M:%S"))
        try:
            with recorder.spent:
                trainer.fit(task, loader, valid_loader, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as error:  # Lightning turns Ctrl-C into it
            raise KeyboardInterrupt from error
        except Exception as error:
            run.write_status(state="failed", **where, reason=str(error))
            raise
    early = stopping.stopped_epoch > 0 and len(run.history()) < training["epochs"]
    reason = f"early, after {training['patience']} epochs without improvement" if early else "all epochs done"
    parameters = sum(parameter.numel() for parameter in task.parameters())
    _finish(run, keeper, **where, stopped=reason, parameters=parameters)


def _finish(run: Run, best: BestAndLast, *, stopped: str, **facts: Any) -> None:
    """Writes the status of a finished run and prints its line."""
    history = run.history()
    minutes, cpu_min = (round(float(history[key].sum()) / 60, 3) for key in ("seconds", "cpu_seconds"))
    rate = float(history["learning_rate"].iloc[-1])
    run.write_status(
        state="finished",
        epochs=len(history),
        best_epoch=best.best_epoch + 1,
        stopped=stopped,
        last_learning_rate=rate,
        best_sdr=round(best.best_sdr, 3),
        minutes=minutes,
        cpu_min=cpu_min,
        gpu_min=minutes if torch.cuda.is_available() else 0.0,
        vram_mib=int(history["vram_mib"].max()),
        **facts,
    )
    print(
        f"{run.name} {stopped}: {len(history)} epochs, best {best.best_epoch + 1} ({best.best_sdr:.2f} dB), "
        f"last learning rate {rate:.2e}, {minutes:.1f} min",
        flush=True,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner and its advice on loaders."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    advice = r".*(does not have many workers|isinstance\(treespec|LeafSpec).*"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=advice)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
