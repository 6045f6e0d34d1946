"""How Lightning writes checkpoints here: complete or absent, the best epoch and the last one.

Each is written aside, flushed and renamed: Lightning's own writes are not atomic on a mounted Drive.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from sepkit.errors import SepkitError
from sepkit.storage import Run, drive, writing
from sepkit.storage.checkpoints import kept, load_checkpoint


class AtomicCheckpointIO(CheckpointIO):
    """How Lightning reads and writes checkpoint files here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        path = Path(path)
        with writing(path) as part:
            torch.save(checkpoint, part)
            if path.name == "last.ckpt" and path.exists():
                path.replace(path.with_name("previous.ckpt"))

    def load_checkpoint(
        self, path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path) -> None:
        Path(path).unlink(missing_ok=True)


class BestAndLast(Checkpoint):
    """Saves last.ckpt after each epoch, and before it best.ckpt where `valid_sdr` rose.

    Then what is new of the run goes to the synced copy on Drive, where there is one.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.best_sdr, self.best_epoch = run, float("-inf"), -1

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        sdr = float(trainer.callback_metrics["valid_sdr"])
        if sdr > self.best_sdr:
            self.best_sdr, self.best_epoch = sdr, trainer.current_epoch
            trainer.save_checkpoint(self.run.best)
        trainer.save_checkpoint(self.run.last)
        if trainer.is_global_zero:
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
