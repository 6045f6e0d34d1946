"""What is written after each epoch: a row in history.csv, the minutes, checkpoints, the copy on Drive.

Files are written aside, flushed and renamed: Lightning's own writes are not atomic on a mounted Drive.
"""

import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch import Tensor

from sepkit.parallel import bar, logs
from sepkit.storage import Run, drive, write_csv, writing
from sepkit.storage.checkpoints import kept, load_checkpoint
from sepkit.storage.ledger import out_of_time, spending


class AtomicCheckpointIO(CheckpointIO):
    """How Lightning reads and writes checkpoint files here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        path = Path(path)
        with writing(path) as part:
            torch.save(checkpoint, part)
            if path.name == "last.ckpt" and path.exists():
                path.replace(path.with_name("previous.ckpt"))

    def load_checkpoint(self, path, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        handed = Path(path).name == ".temp.ckpt"  # by rank 0 to the caller: weights alone
        return torch.load(path, weights_only=True) if handed else load_checkpoint(Path(path))

    def remove_checkpoint(self, path) -> None:
        Path(path).unlink(missing_ok=True)


class BestAndLast(Checkpoint):
    """Saves last.ckpt after each epoch, and before it best.ckpt where `valid_sdr` rose; then syncs to Drive."""

    def __init__(self, run: Run) -> None:
        self.run, self.best_sdr, self.best_epoch = run, float("-inf"), -1

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        sdr = float(trainer.callback_metrics["valid_sdr"])
        if sdr > self.best_sdr:
            self.best_sdr, self.best_epoch = sdr, trainer.current_epoch
            trainer.save_checkpoint(self.run.best)
        trainer.save_checkpoint(self.run.last)
        if trainer.is_global_zero:
            drive.tell(self.run.name, drive.push(self.run.root, only=kept(self.run)))

    def state_dict(self) -> dict[str, Any]:
        return {"best_sdr": self.best_sdr, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_sdr, self.best_epoch = state_dict["best_sdr"], state_dict["best_epoch"]


class Recorder(Callback):
    """After each epoch: a row in history.csv, and a bar or a line on the screen; the minutes go to budget.csv meanwhile.

    It runs before the checkpoint is written; a resumed run cuts the rows of history.csv that came after its checkpoint.
    The budget keeps all rows, but of several ranks only their caller's.  `spent` is to be closed by the caller.
    """

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.device, self.spent, self.shown = run, device, ExitStack(), ExitStack()
        self.rows: list[dict[str, Any]] = []
        self.bar: Any = None

    def on_train_start(self, trainer, pl_module) -> None:
        file = self.run.path / "history.csv"
        past: Any = pd.read_csv(file).to_dict("records") if file.exists() else []
        self.rows = [row for row in past if row["epoch"] <= trainer.current_epoch]
        for logger in trainer.loggers:
            logger.log_hyperparams(self.run.config)
        self._log(trainer, self.rows)
        self.bar = self.shown.enter_context(bar(self.run.name, trainer.max_epochs * trainer.num_training_batches))
        self.bar.initial = self.bar.n = trainer.current_epoch * trainer.num_training_batches
        if trainer.world_size > 1:  # Lightning's handler would tell ranks of it that may be gone
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # a run killed between its early stop and the state "finished" must not go on training
        for stopper in trainer.early_stopping_callbacks:
            trainer.should_stop |= stopper.wait_count >= stopper.patience

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        of = {"run": self.run.name, "stage": "train", "device": self.device, "epoch": trainer.current_epoch + 1}
        if trainer.world_size == 1:
            self.spent.enter_context(spending(self.run.root, **of))

    def on_train_end(self, trainer, pl_module) -> None:
        self.shown.close()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.bar.update()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.spent.close()
        seconds, cpu_s = time.perf_counter() - self.start, time.process_time() - self.cpu_start
        loss = pl_module.mean_over_ranks(torch.stack(pl_module.train_losses))
        cpu_s = trainer.world_size * float(pl_module.mean_over_ranks(loss.new_tensor([cpu_s])))
        if not trainer.is_global_zero:
            return
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(loss),
            **{name: float(trainer.callback_metrics[name]) for name in ("valid_loss", "valid_sdr")},
            "learning_rate": self.learning_rate,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_s, 3),
            "vram_mib": round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else 0,
            "ranks": trainer.world_size,
        }
        self.rows.append(row)
        write_csv(self.run.path / "history.csv", pd.DataFrame(self.rows))
        self._log(trainer, [row])
        said = f"epoch {row['epoch']}/{trainer.max_epochs} train {row['train_loss']:.4f} valid {row['valid_loss']:.4f} "
        said += f"sdr {row['valid_sdr']:.2f} dB"
        self.bar.set_postfix_str(said)
        if logs():
            print(f"{self.run.name} {said} lr {row['learning_rate']:.2e} {seconds:.1f} s", flush=True)

    def _log(self, trainer, rows: list[dict[str, Any]]) -> None:
        """Into the loggers, if any; a run that goes on begins with the epochs before."""
        for logger in trainer.loggers:
            for row in rows:
                logger.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=row["epoch"])
            logger.save()


class InTime(Callback):
    """Ends the training after an epoch where the next one, if it took as long, would pass the hours or the session."""

    def __init__(self, run: Run, limits: dict[str, float | None]) -> None:
        self.run, self.limits, self.since, self.reason = run, limits, 0.0, ""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.since = self.since or time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        now = time.perf_counter()
        seconds, self.since = now - self.since, now  # the copy on Drive of the epoch before included
        if not trainer.should_stop and trainer.current_epoch + 1 < trainer.max_epochs:
            if trainer.is_global_zero:
                self.reason = out_of_time(self.run.root, seconds, trainer.world_size, **self.limits) or ""
            if self.reason:  # for the caller of several ranks
                self.run.write_status(**{**self.run.status, "state": "stopped", "reason": self.reason})
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(bool(self.reason), all=False)


def averaged(decay: float) -> WeightAveraging:
    """An exponential average of the weights, updated at each step; the average is validated and kept.

    After n steps the average moves by 1 − min(decay, (1 + n) / (10 + n)) towards the weights, so that short runs forget
    their first weights (the warm-up of TensorFlow's ExponentialMovingAverage).
    """
    return WeightAveraging(avg_fn=partial(_average, decay))


def _average(decay: float, kept: Tensor, new: Tensor, steps: Any) -> Tensor:
    share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
    return kept + share * (new - kept)  # exact where they are equal: frozen weights, windows
