"""The one timer of training steps, for plans and for equal minutes."""

import time
from collections.abc import Callable
from typing import Any

import torch

from sepkit import models
from sepkit.devices import autocast, pick_device
from sepkit.experiments.settings import Experiment, resolve
from sepkit.profiles import Profile

STEPS = 3  # steps that count, after one that warms up


class StepTimer:
    """Times whole training steps: clips, loss, gradient, optimiser.

    On a CPU in seconds of CPU time, which a busy machine does not stretch; on a GPU in seconds of the clock.
    task: a `SeparationTask`; draw: makes a batch on the CPU.
    """

    def __init__(self, task: Any, draw: Callable[[], dict[str, Any]], device: str) -> None:
        self.task, self.draw, self.device = task.to(device), draw, device
        self.optimizer = task.configure_optimizers()["optimizer"]
        self.seconds: list[float] = []

    @property
    def step_s(self) -> float:
        """The median, without the first step."""
        return sorted(self.seconds[1:])[(len(self.seconds) - 1) // 2]

    def step(self) -> None:
        drawn = self.to_device(self.draw()) if self.device == "cuda" else None  # workers draw there meanwhile

        def work() -> None:
            self.optimizer.zero_grad()
            self.task.train().evaluated(drawn or self.draw())[2].backward()
            self.optimizer.step()

        self.seconds.append(self.timed(work))

    def timed(self, work: Callable[[], None]) -> float:
        """Seconds of `work` in training's precision."""
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        start = clock()
        with autocast(self.device, bfloat16=self.task.settings["bfloat16"]):
            work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    def to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {key: value if key == "track" else value.to(self.device) for key, value in batch.items()}


def step_seconds(experiment: Experiment, profile: Profile, device: str | None = None) -> float:
    """Seconds of one training step, measured on random clips: no songs are needed."""
    from sepkit.training.fit import computing  # with Lightning, which takes seconds to import
    from sepkit.training.losses import make_loss
    from sepkit.training.step import SeparationTask

    device, settings = pick_device(device), resolve(experiment, profile)
    training = settings["training"]
    with computing(device):
        torch.manual_seed(0)
        model = models.build(**settings["model"])
        shape = (len(model.sources), model.channels, round(training["segment_s"] * model.sample_rate))
        sources = 0.1 * torch.randn(training["batch_size"], *shape)
        batch = {"mixture": sources.sum(dim=1), "sources": sources, "track": []}
        picks = list(range(len(model.sources)))
        timer = StepTimer(SeparationTask(model, make_loss(**settings["loss"]), picks, training), lambda: batch, device)
        for _ in range(STEPS + 1):
            timer.step()
    return timer.step_s
