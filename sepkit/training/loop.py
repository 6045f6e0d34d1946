"""What Lightning is told: one training step, one validation, and what is noted after each epoch."""

import time
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sepkit.errors import SepkitError
from sepkit.storage import Run, write_csv
from sepkit.training.estimate import Estimate
from sepkit.training.losses import Loss


class SeparationTask(L.LightningModule):
    """A model, its loss and its optimiser; batches are those of `sepkit.data.batches`.

    `picks` are the positions of the model's sources among those of a batch.  A validation logs `valid_loss` and `valid_sdr`, the mean of `clip_sdr` over
    the vocals of all clips, or over all of the model's sources where it does not estimate vocals.
    """

    def __init__(self, model: Any, loss: Loss, picks: list[int], settings: dict[str, Any], seed: int) -> None:
        super().__init__()
        self.model, self.loss, self.picks, self.settings, self.seed = model, loss, picks, settings, seed
        self.train_losses: list[Tensor] = []
        self.valid_sdrs: list[Tensor] = []
        sources = list(model.sources)
        self.judged = [sources.index("vocals")] if "vocals" in sources else list(range(len(sources)))

    def on_train_epoch_start(self) -> None:
        self.train_losses.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # dropout draws from (seed, epoch, step), so a restart repeats what would have come; loaders
        # draw from the same generator when they begin, which a restart does at another moment
        draw = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx]).generate_state(1, np.uint64)
        torch.manual_seed(int(draw[0] >> 1))

    def _pair(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(mixture, target) as waveforms, or as the magnitudes of a stft cache."""
        return batch["mixture"], batch["sources"][:, self.picks]

    def loss_of(self, batch: dict[str, Any]) -> Tensor:
        mixture, target = self._pair(batch)
        return self.loss(Estimate(self.model, mixture), target)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self._finite(self.loss_of(batch), "training", batch, batch_idx)
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        loss, sdrs = self.judge(batch)
        self._finite(loss, "validation", batch, batch_idx)
        self.log("valid_loss", loss, on_epoch=True, batch_size=len(batch["track"]))
        self.valid_sdrs.append(sdrs)

    def judge(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(loss, `clip_sdr` of what counts) of a validation batch."""
        mixture, target = self._pair(batch)
        estimate = Estimate(self.model, mixture)
        loss = self.loss(estimate, target)
        guess = estimate.magnitudes if estimate.on_magnitudes else estimate.waveform
        return loss, clip_sdr(estimate=guess[:, self.judged], target=target[:, self.judged], mixture=mixture)

    def on_validation_epoch_start(self) -> None:
        self.valid_sdrs.clear()

    def on_validation_epoch_end(self) -> None:
        sdrs = torch.cat(self.valid_sdrs)
        if not len(sdrs):
            raise SepkitError(
                "No validation clip has a target that can be heard, so no epoch can be called the best: "
                "name validation songs with vocals in validation.txt."
            )
        self.log("valid_sdr", sdrs.mean())

    def _finite(self, loss: Tensor, which: str, batch: dict[str, Any], step: int) -> Tensor:
        if not torch.isfinite(loss):
            raise SepkitError(
                f"The {which} loss became {float(loss.detach())} in epoch {self.current_epoch + 1}, step {step + 1} "
                f"(clips of {', '.join(batch['track'])}); the checkpoints of the epoch before are kept: "
                "lower the learning rate or look at these songs."
            )
        return loss

    def configure_optimizers(self):
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=self.settings["learning_rate"], weight_decay=self.settings["weight_decay"]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.settings["epochs"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def clip_sdr(*, estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """The criterion of all rows: sdr_global of every clip and source whose target is heard, (n,), dB.

    10·log10(Σs² / Σ(s − ŝ)²) over channels and time, bounded to −10 … 100 dB: a clip with hardly any
    vocals would rule the mean.  A target 60 dB below its mixture, or silent, is left out.

    estimate, target: (batch, source, channel, time); mixture: (batch, channel, time).  Of a stft
    cache, which holds no phase, all are magnitudes (…, freq, frame): the SDR of magnitudes reads
    higher, and compares with that of other runs on such a cache alone.

    >>> target = torch.ones(2, 1, 2, 100) * torch.tensor([1.0, 0.0])[:, None, None, None]
    >>> clip_sdr(estimate=0.5 * target, target=target, mixture=torch.ones(2, 2, 100))
    tensor([6.0206])
    """
    energy = lambda x: x.float().square().flatten(2).sum(dim=-1)  # noqa: E731
    signal, error = energy(target), energy(target.float() - estimate.float())
    heard = signal > 1e-6 * energy(mixture.unsqueeze(1))
    return (10 * torch.log10(signal / error)[heard]).clamp(-10, 100)


class Recorder(Callback):
    """After each epoch: a row in history.csv, the minutes in budget.csv, a line on the screen.

    It runs before the checkpoint is written; a restart cuts the rows of history.csv that came after
    it.  The budget keeps all rows, and the minutes of an epoch that an error or Ctrl-C ended.
    """

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.device = run, device
        self.rows: list[dict[str, Any]] = []
        self.start: float | None = None

    def on_train_start(self, trainer, pl_module) -> None:
        file = self.run.path / "history.csv"
        past: list[dict[str, Any]] = pd.read_csv(file).to_dict("records") if file.exists() else []  # type: ignore[assignment]
        self.rows = [row for row in past if row["epoch"] <= trainer.current_epoch]
        # a run that was killed between its early stop and the word "finished" is not to train on
        for stopper in trainer.early_stopping_callbacks:
            trainer.should_stop |= stopper.wait_count >= stopper.patience

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if not trainer.is_global_zero:
            return
        cpu_seconds = time.process_time() - self.cpu_start
        seconds, vram_mib = self._spend(trainer.current_epoch + 1)
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(torch.stack(pl_module.train_losses).mean()),
            "valid_loss": float(trainer.callback_metrics["valid_loss"]),
            "valid_sdr": float(trainer.callback_metrics["valid_sdr"]),
            "learning_rate": self.learning_rate,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "vram_mib": vram_mib,
        }
        self.rows.append(row)
        write_csv(self.run.path / "history.csv", pd.DataFrame(self.rows))
        print(
            f"{self.run.name} epoch {row['epoch']}/{trainer.max_epochs} train {row['train_loss']:.4f} "
            f"valid {row['valid_loss']:.4f} sdr {row['valid_sdr']:.2f} dB lr {row['learning_rate']:.2e} {seconds:.1f} s",
            flush=True,
        )

    def on_exception(self, trainer, pl_module, exception) -> None:
        if self.start is not None and trainer.is_global_zero:
            self._spend(trainer.current_epoch + 1)

    def _spend(self, epoch: int) -> tuple[float, int]:
        """Writes the epoch's minutes into budget.csv; (seconds, peak GPU memory in MiB)."""
        assert self.start is not None
        seconds, self.start = time.perf_counter() - self.start, None
        cuda = torch.cuda.is_available()
        vram_mib = round(torch.cuda.max_memory_allocated() / 2**20) if cuda else 0
        self.run.root.add_minutes(
            run=self.run.name,
            stage="train",
            minutes=seconds / 60,
            device=self.device,
            gpu_attached=cuda,
            epoch=epoch,
            vram_mib=vram_mib,
        )
        return seconds, vram_mib
