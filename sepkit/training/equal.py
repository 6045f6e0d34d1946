"""Equal minutes: how many epochs each row gets for the same time, measured side by side.

On a CPU a second is one of CPU time, which a busy machine does not stretch; on a GPU one of the clock.
The epochs go into the entries of the menu, `profiles`, so that `train` repeats a run to the bit.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sepkit.data.folds import split_songs
from sepkit.devices import autocast, kept_memory, one_thread, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.parallel import progress
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root
from sepkit.training.fit import prepare, quiet_lightning
from sepkit.training.train import training_cache

ROUNDS = 3  # steps of each row that count, after one that warms up


def equal_epochs(
    rows: Iterable[str | Experiment],
    *,
    minutes: float,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """How many epochs of each row take at most `minutes`, validation included.

    A step is all that a run does: clips drawn, augmented and collated, loss, gradient, optimiser, in
    its last epoch's form.  The rows take turns, and the median of a row counts.  Nothing is written
    but the caches.

    Columns: row, step_s, valid_s (a whole validation), epoch_s, epochs, minutes (of these epochs).
    Raises UsageError where one epoch of a row takes longer than that.
    """
    if not minutes > 0:  # nan included
        raise UsageError(f"Expected minutes above 0, got {minutes}.")
    profile, device = get_profile(profile), pick_device(device)
    root = Root.open(root, profile)
    work = {}
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        one_thread(device),
        kept_memory(device),
        quiet_lightning(),
    ):
        for row in map(get_experiment, rows):
            work[row.name] = _Work(row, profile, data, root, device)
        turns = [(number, name) for number in range(ROUNDS + 1) for name in work]
        for _, name in progress(turns, doing="measure", total=len(turns), name=lambda turn: turn[1]):
            work[name].step()
        return pd.DataFrame([_line(name, of, minutes) for name, of in work.items()])


def _line(name: str, work: "_Work", minutes: float) -> dict[str, Any]:
    step, valid = sorted(work.seconds[1:])[ROUNDS // 2], work.validation()
    epoch = step * work.training["steps_per_epoch"] + valid
    epochs = int(60 * minutes / epoch)
    if not epochs:
        raise UsageError(
            f"One epoch of {name} takes {epoch / 60:.2f} minutes, more than the {minutes:g} given."
        )
    return {
        "row": name, "step_s": round(step, 3), "valid_s": round(valid, 2), "epoch_s": round(epoch, 2),
        "epochs": epochs, "minutes": round(epochs * epoch / 60, 2),
    }  # fmt: skip


class _Work:
    """One row's network, clips and optimiser, ready for steps that are timed."""

    def __init__(
        self, row: Experiment, profile: Profile, data: Path | str | None, root: Root, device: str
    ) -> None:
        settings = resolve(row, profile)
        cache, _ = training_cache(settings, profile, data, root)
        config = {**settings, "seed": 0, "data": split_songs(cache, None)}
        self.training, self.device = settings["training"], device
        self.task, loader, self.valid = prepare(config, cache, device)
        self.task.to(device)
        batches: Any = loader.batch_sampler
        self.batches = batches
        self.batches.sampler.set_epoch(self.training["epochs"] - 1)
        self.clips, self.collate = loader.dataset, loader.collate_fn
        self.optimizer: Any = self.task.configure_optimizers()["optimizer"]
        self.seconds: list[float] = []

    def _timed(self, work: Callable[[], None]) -> float:
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        start = clock()
        with autocast(self.device, bfloat16=self.training["bfloat16"]):
            work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    def _to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {key: value if key == "track" else value.to(self.device) for key, value in batch.items()}

    def _batch(self) -> dict[str, Any]:
        return self._to_device(self.collate([self.clips[key] for key in next(iter(self.batches))]))

    def step(self) -> None:
        drawn = self._batch() if self.device == "cuda" else None  # there, workers draw beside the steps

        def work() -> None:
            self.optimizer.zero_grad()
            self.task.train().loss_of(drawn or self._batch()).backward()
            self.optimizer.step()

        self.seconds.append(self._timed(work))

    @torch.no_grad()
    def validation(self) -> float:
        def work() -> None:
            for batch in self.valid:
                self.task.judge(self._to_device(batch))

        self.task.eval()
        return self._timed(work)
