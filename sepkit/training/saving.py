"""What is written after each epoch: history.csv, the minutes, checkpoints, the copy on Drive.

Files are written aside, flushed and renamed: Lightning's own writes are not atomic on a mounted Drive.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch import Tensor

from sepkit.errors import SepkitError
from sepkit.storage import Run, drive, write_csv, writing
from sepkit.storage.checkpoints import kept, load_checkpoint
from sepkit.storage.ledger import spending


class AtomicCheckpointIO(CheckpointIO):
    """How Lightning reads and writes checkpoint files here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        path = Path(path)
        with writing(path) as part:
            torch.save(checkpoint, part)
            if path.name == "last.ckpt" and path.exists():
                path.replace(path.with_name("previous.ckpt"))

    def load_checkpoint(self, path, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return load_checkpoint(Path(path))

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
        copied = drive.push(self.run.root, only=kept(self.run))
        if copied is not None and not copied.safe:
            print(f"{self.run.name}: Drive: {copied}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best_sdr": self.best_sdr, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "best_sdr" not in state_dict:
            raise SepkitError(
                f"{self.run.name} was begun when the lowest validation loss made the best epoch; expected valid_sdr in "
                f"its checkpoint: delete {self.run.path} and train it again."
            )
        self.best_sdr, self.best_epoch = state_dict["best_sdr"], state_dict["best_epoch"]


class Recorder(Callback):
    """After each epoch: a row in history.csv and a line on the screen; the minutes go to budget.csv meanwhile.

    It runs before the checkpoint is written; a resumed run cuts the rows of history.csv that came after its checkpoint.
    The budget keeps all rows.  `spent` is to be closed by the caller.
    """

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.device, self.spent = run, device, ExitStack()
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        file = self.run.path / "history.csv"
        past: Any = pd.read_csv(file).to_dict("records") if file.exists() else []
        self.rows = [row for row in past if row["epoch"] <= trainer.current_epoch]
        # a run killed between its early stop and the state "finished" must not go on training
        for stopper in trainer.early_stopping_callbacks:
            trainer.should_stop |= stopper.wait_count >= stopper.patience

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        of = {"run": self.run.name, "stage": "train", "device": self.device, "epoch": trainer.current_epoch + 1}
        self.spent.enter_context(spending(self.run.root, **of))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.spent.close()
        seconds = time.perf_counter() - self.start
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(torch.stack(pl_module.train_losses).mean()),
            **{name: float(trainer.callback_metrics[name]) for name in ("valid_loss", "valid_sdr")},
            "learning_rate": self.learning_rate,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(time.process_time() - self.cpu_start, 3),
            "vram_mib": round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else 0,
        }
        self.rows.append(row)
        write_csv(self.run.path / "history.csv", pd.DataFrame(self.rows))
        print(
            f"{self.run.name} epoch {row['epoch']}/{trainer.max_epochs} train {row['train_loss']:.4f} "
            f"valid {row['valid_loss']:.4f} sdr {row['valid_sdr']:.2f} dB lr {row['learning_rate']:.2e} {seconds:.1f} s",
            flush=True,
        )


def averaged(decay: float) -> WeightAveraging:
    """An exponential average of the weights, updated at each step; the average is validated and kept.

    After n steps the average moves by 1 − min(decay, (1 + n) / (10 + n)) towards the weights, so that short runs forget
    their first weights (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def average(kept: Tensor, new: Tensor, steps: Any) -> Tensor:
        share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        return kept + share * (new - kept)  # exact where they are equal: frozen weights, windows

    return WeightAveraging(avg_fn=average)
