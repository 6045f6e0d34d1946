"""One run through Lightning: network, clips and checkpoints in, a finished run out."""

import time
from pathlib import Path
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
from sepkit.devices import device_name, precision
from sepkit.errors import OutOfTime, UsageError
from sepkit.models.mask import magnitude_statistics
from sepkit.models.weights import load_weights
from sepkit.storage import Run, drive
from sepkit.storage.checkpoints import kept, load_checkpoint, newest
from sepkit.storage.ledger import spending
from sepkit.training.epochs import AtomicCheckpointIO, BestAndLast, InTime, Recorder, averaged
from sepkit.training.losses import make_loss
from sepkit.training.nodes import Shared, lend_to, node_rank
from sepkit.training.ranks import Together, computing, ranks_of
from sepkit.training.step import SeparationTask


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
            f"{config['experiment']} estimates {', '.join(missing)}, but its clips are made of {', '.join(held)}; change its sources, or its setting stems."
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


def fit(
    run: Run,
    config: dict[str, Any],
    cache: Cache,
    device: str,
    start: dict[str, Tensor] | None,
    limits: dict[str, float | None],
    shared: Shared,
    logger: Any = False,
) -> None:
    """Trains `run` to its end, from its newest checkpoint where it has one, otherwise from `start`.

    start: the weights of another run or published ones; None draws them from the seed.  limits: as for `out_of_time`.
    shared: the devices that take part; logger: as for Lightning's Trainer.
    Raises OutOfTime, all being saved, after an epoch that is the last for which there is time.
    """
    name, mixed = device_name(device), precision(device, bfloat16=config["training"]["bfloat16"])
    where = {"device": name, "precision": mixed, "ranks": shared.ranks}
    checkpoint = newest(run)
    if checkpoint is not None and (before := run.status.get("ranks", 1)) != shared.ranks:
        print(f"{run.name}: begun on {before} device(s), goes on with {shared.ranks}: same clips, other dropout")
    with spending(run.root, run=run.name, stage="train", device=name, gpus=shared.ranks):
        run.write_status(state="running", **where, started=time.strftime("%Y-%m-%dT%H:%M:%S"))
        try:
            task, stopping = take_part(run, config, cache, checkpoint, device, shared, start, limits, logger)
        except SystemExit as error:  # Lightning turns Ctrl-C into it
            raise KeyboardInterrupt from error
        except Exception as error:
            run.write_status(state="failed", **where, reason=str(error))
            raise
    if reason := run.status.get("reason"):
        run.write_status(state="stopped", **where, reason=reason)
        copied = drive.push(run.root, only=kept(run))
        saved = "everything is saved" + (" and in the copy on Drive" if copied is not None and copied.safe else "")
        raise OutOfTime(f"{run.name} {run.standing}: {reason}. {saved[0].upper()}{saved[1:]}.")
    _finish(run, stopping, **where, parameters=sum(parameter.numel() for parameter in task.parameters()))


def take_part(
    run: Run,
    config: dict[str, Any],
    cache: Cache,
    checkpoint: Path | None,
    device: str,
    shared: Shared,
    start: dict[str, Tensor] | None = None,
    limits: dict[str, float | None] | None = None,
    logger: Any = False,
) -> tuple[SeparationTask, EarlyStopping]:
    """This machine's part of a training, whose files node 0 writes; arguments as for `fit`."""
    training = config["training"]
    stopping = EarlyStopping(monitor="valid_sdr", mode="max", patience=training["patience"])
    recorder, in_time = Recorder(run, device_name(device)), InTime(run, limits or {})
    averaging: list[Callback] = [averaged(training["ema"])] if training["ema"] else []
    with computing(device), recorder.spent, recorder.shown, ranks_of(run, shared.num_nodes):
        task, loader, valid_loader = prepare(config, cache, device, start)
        if checkpoint is not None:  # Lightning sets the epoch too late, after workers drew their first batches
            batches: Any = loader.batch_sampler
            batches.set_epoch(load_checkpoint(checkpoint)["epoch"] + 1)
        trainer = L.Trainer(
            accelerator=device, devices=shared.devices, num_nodes=shared.num_nodes, use_distributed_sampler=False,
            strategy=Together(device, shared) if shared.ranks > 1 else "auto", max_epochs=training["epochs"],
            precision=precision(device, bfloat16=training["bfloat16"]), num_sanity_val_steps=0,
            callbacks=[*averaging, recorder, stopping, in_time, BestAndLast(run)], plugins=[AtomicCheckpointIO()],
            logger=logger, enable_progress_bar=False, enable_model_summary=False, default_root_dir=run.path,
        )  # fmt: skip
        if shared.num_nodes > 1 and not node_rank():
            lend_to((run, config, cache, checkpoint), shared.num_nodes)
        trainer.fit(task, loader, valid_loader, ckpt_path=checkpoint, weights_only=True)
    return task, stopping


def _finish(run: Run, stopping: EarlyStopping, **facts: Any) -> None:
    """Writes the status of a finished run and prints its line."""
    history, stopped = run.history(), "all epochs done"
    if len(history) < run.config["training"]["epochs"]:
        stopped = f"early, after {stopping.patience} epochs without improvement"
    history["gpu_seconds"] = history["seconds"] * history["ranks"] * torch.cuda.is_available()
    minutes, cpu_min, gpu_min = (round(float(history[f"{key}seconds"].sum()) / 60, 3) for key in ("", "cpu_", "gpu_"))
    rate, best_sdr = float(history["learning_rate"].iloc[-1]), float(history["valid_sdr"].max())
    best_epoch = int(history["epoch"].iloc[history["valid_sdr"].argmax()])
    run.write_status(
        state="finished", stopped=stopped, epochs=len(history), last_learning_rate=rate,
        best_epoch=best_epoch, best_sdr=round(best_sdr, 3), vram_mib=int(history["vram_mib"].max()),
        minutes=minutes, cpu_min=cpu_min, gpu_min=gpu_min, **facts,
    )  # fmt: skip
    drive.tell(run.name, drive.push(run.root, only=kept(run)))  # before it is said
    print(
        f"{run.name} {stopped}: {len(history)} epochs, best {best_epoch} ({best_sdr:.2f} dB), "
        f"last learning rate {rate:.2e}, {minutes:.1f} min",
        flush=True,
    )
