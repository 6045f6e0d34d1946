"""One run through Lightning: network, clips and checkpoints in, a finished run out."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


def prepare(
    config: dict[str, Any], cache: Cache, device: str, start: dict[str, Tensor] | None = None
) -> tuple[SeparationTask, DataLoader, DataLoader]:
    """(the task, batches of training clips, batches of validation clips) of a run's configuration.

    The network's weights are `start`, or drawn from the seed; its statistics are those of the training songs.
    """
    training, seed, held = config["training"], config["seed"], cache.settings.sources
    train_songs, valid_songs = config["data"]["train"], config["data"]["valid"]
    torch.manual_seed(seed)
    model = models.build(**config["model"])
    if missing := sorted(set(model.sources) - set(held)):
        raise UsageError(
            f"{config['experiment']} estimates {', '.join(missing)}, but its clips are made of {', '.join(held)}; "
            "change its sources, or its setting stems."
        )
    if model.stft:
        fixed = FixedClips(cache, seconds=training["segment_s"], count=2, names=train_songs)
        mixtures = (fixed[index]["mixture"] for index in range(len(fixed)))  # a stft cache holds magnitudes
        magnitudes = (mixture if mixture.ndim == 3 else model.stft(mixture).abs() for mixture in mixtures)
        model.set_statistics(*magnitude_statistics(magnitudes))
    if start is not None:
        load_weights(model, start, f"the weights of {config['start_from']}")
    drawn = {key: training[key] for key in ("sampling", "remix", "curriculum")}
    augment = make_augment(training["augment"])
    clips = TrainingClips(cache, seconds=training["segment_s"], seed=seed, names=train_songs, augment=augment, **drawn)
    size, steps, workers = training["batch_size"], training["steps_per_epoch"], 2 if device == "cuda" else 0
    loader = training_loader(clips, batch_size=size, steps=steps, workers=workers)
    fixed = FixedClips(cache, seconds=training["valid_segment_s"], count=training["valid_segments"], names=valid_songs)
    picks = [held.index(source) for source in model.sources]
    task = SeparationTask(model, make_loss(**config["loss"]), picks, training, seed)
    return task, loader, DataLoader(fixed, batch_size=size)


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
            accelerator=device,
            devices=1,
            precision=mixed,
            max_epochs=training["epochs"],
            callbacks=[*averaging, recorder, stopping, keeper],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
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
    _finish(run, keeper, stopping, **where, parameters=sum(parameter.numel() for parameter in task.parameters()))


def _finish(run: Run, best: BestAndLast, stopping: EarlyStopping, **facts: Any) -> None:
    """Writes the status of a finished run and prints its line."""
    history, stopped = run.history(), "all epochs done"
    if stopping.stopped_epoch > 0 and len(history) < run.config["training"]["epochs"]:
        stopped = f"early, after {stopping.patience} epochs without improvement"
    minutes, cpu_min = (round(float(history[key].sum()) / 60, 3) for key in ("seconds", "cpu_seconds"))
    rate, best_epoch = float(history["learning_rate"].iloc[-1]), best.best_epoch + 1
    run.write_status(
        state="finished", stopped=stopped, epochs=len(history), last_learning_rate=rate,
        best_epoch=best_epoch, best_sdr=round(best.best_sdr, 3), vram_mib=int(history["vram_mib"].max()),
        minutes=minutes, cpu_min=cpu_min, gpu_min=minutes if torch.cuda.is_available() else 0.0, **facts,
    )  # fmt: skip
    print(
        f"{run.name} {stopped}: {len(history)} epochs, best {best_epoch} ({best.best_sdr:.2f} dB), "
        f"last learning rate {rate:.2e}, {minutes:.1f} min",
        flush=True,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner and its advice on loaders."""
    with ExitStack() as after, warnings.catch_warnings():
        for logger in map(logging.getLogger, ("lightning.pytorch", "lightning.fabric")):
            after.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*(does not have many workers|isinstance\(treespec|LeafSpec).*")
        yield
