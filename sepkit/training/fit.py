"""One run through Lightning: network, clips and checkpoints in, a finished run out."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, WeightAveraging
from torch import Tensor, nn
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
from sepkit.training.loop import Recorder, SeparationTask
from sepkit.training.losses import make_loss
from sepkit.training.saving import AtomicCheckpointIO, BestAndLast


def build_model(config: dict[str, Any], cache: Cache) -> Any:
    """The network with weights drawn from the seed and the statistics of the training songs."""
    torch.manual_seed(config["seed"])
    model = models.build(**config["model"])
    if model.stft:
        clips = FixedClips(
            cache, seconds=config["training"]["segment_s"], count=2, names=config["data"]["train"]
        )
        model.set_statistics(*magnitude_statistics(_mixture_magnitudes(model.stft, clips)))
    return model


def _mixture_magnitudes(stft: nn.Module, clips: FixedClips) -> Iterator[Tensor]:
    """|X| (channel, freq, frame) of each clip's mixture, from either kind of cache."""
    for index in range(len(clips)):
        mixture = clips[index]["mixture"]
        yield mixture if mixture.ndim == 3 else stft(mixture).abs()


def fit(
    run: Run, config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None = None
) -> None:
    """Trains `run` to its end, from its newest checkpoint where it has one, else from `start`.

    start: weights of another run or of a published network, by the names of this network's; None
    draws them from the seed.
    """
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        one_thread(device),
        kept_memory(device),
        quiet_lightning(),
    ):
        _fit(run, config, cache, device, start)


def prepare(
    config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None = None
) -> tuple[SeparationTask, DataLoader, DataLoader]:
    """(the task, batches of training clips, batches of validation clips) of a run's configuration."""
    training, seed = config["training"], config["seed"]
    model = build_model(config, cache)
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
    fixed = FixedClips(
        cache,
        seconds=training["valid_segment_s"],
        count=training["valid_segments"],
        names=config["data"]["valid"],
    )
    loader = training_loader(
        clips,
        batch_size=training["batch_size"],
        steps=training["steps_per_epoch"],
        workers=2 if device == "cuda" else 0,
    )
    held = cache.settings.sources
    if missing := sorted(set(model.sources) - set(held)):
        raise UsageError(
            f"{config['experiment']} estimates {', '.join(missing)}, but its clips are made of {', '.join(held)}; "
            "change its sources, or its setting stems."
        )
    picks = [held.index(source) for source in model.sources]
    task = SeparationTask(model, make_loss(**config["loss"]), picks, training, seed)
    return task, loader, DataLoader(fixed, batch_size=training["batch_size"])


def _fit(
    run: Run, config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None
) -> None:
    training = config["training"]
    task, loader, valid_loader = prepare(config, cache, device, start)
    checkpoint, computing = newest(run), precision(device, bfloat16=training["bfloat16"])
    where = {"device": device_name(device), "precision": computing}
    if checkpoint is not None:  # Lightning says it too late, when workers have drawn their first batches
        batches: Any = loader.batch_sampler
        batches.sampler.set_epoch(load_checkpoint(checkpoint)["epoch"] + 1)
    stopping = EarlyStopping(monitor="valid_sdr", mode="max", patience=training["patience"])
    keeper = BestAndLast(run)
    averaging: list[Callback] = [averaged(training["ema"])] if training["ema"] else []
    trainer = L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=computing,
        max_epochs=training["epochs"],
        callbacks=[*averaging, Recorder(run, where["device"]), stopping, keeper],
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
        trainer.fit(task, loader, valid_loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from error
    except Exception as error:
        run.write_status(state="failed", **where, reason=str(error))
        raise
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
        best_sdr=round(keeper.best_sdr, 3),
        minutes=round(float(history["seconds"].sum()) / 60, 3),
        cpu_min=round(float(history["cpu_seconds"].sum()) / 60, 3),
        gpu_min=round(float(history["seconds"].sum()) / 60, 3) if torch.cuda.is_available() else 0.0,
        vram_mib=int(history["vram_mib"].max()),
        **where,
        parameters=sum(parameter.numel() for parameter in task.parameters()),
    )
    print(
        f"{run.name} {run.status['stopped']}: {len(history)} epochs, best {keeper.best_epoch + 1} ({keeper.best_sdr:.2f} dB), "
        f"last learning rate {history['learning_rate'].iloc[-1]:.2e}, {run.status['minutes']:.1f} min",
        flush=True,
    )


def averaged(decay: float) -> WeightAveraging:
    """An exponential average of the weights, a step at a time; what is validated and kept is the average.

    After n steps the average moves by 1 − min(decay, (1 + n) / (10 + n)) towards the weights, so that
    a short run does not keep its first ones (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def average(kept: Tensor, new: Tensor, steps: Any) -> Tensor:
        share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        return kept + share * (new - kept)  # exact where they are the same: frozen weights, windows

    return WeightAveraging(avg_fn=average)


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
