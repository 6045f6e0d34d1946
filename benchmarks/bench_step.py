"""CPU seconds of a training step: sepkit's, under Lightning with its callbacks, beside a bare PyTorch loop, in one run.

    python benchmarks/bench_step.py                                # demo songs at the preview's sizes, float32
    python benchmarks/bench_step.py --experiments Base,H --steps 6 --rounds 3

Both train the same network on the same clips with the same loss: the bare loop draws a batch, computes the loss,
goes backward and steps the optimiser, and does nothing else. Validation, checkpoints and the record of minutes are left out
of both. The two take turns, so that other work on the machine meets both; one thread. Median of the rounds, least and most
in brackets.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sepkit.data.demo.songs import make_demo_songs
from sepkit.data.folds import split_songs
from sepkit.experiments import get_experiment, resolve
from sepkit.profiles import PREVIEW
from sepkit.storage import Root
from sepkit.training.fit import computing, prepare
from sepkit.training.train import training_cache

PROFILE = replace(PREVIEW, name="preview", songs_from="given", bfloat16=False)


def configuration(experiment: str, songs: Path, root: Root, steps: int) -> tuple[dict[str, Any], Any]:
    settings = resolve(get_experiment(experiment), PROFILE)
    settings["training"] |= {"steps_per_epoch": steps, "epochs": 1}
    cache = training_cache(settings, PROFILE, songs, root)
    return {"run": experiment, **settings, "seed": 0, "fold": None, "data": split_songs(cache, None)}, cache


def under_lightning(task: Any, loader: Any) -> float:
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    clock = Clock()
    trainer.callbacks.append(clock)
    trainer.fit(task, loader)
    return clock.seconds


class Clock(L.Callback):
    """From the start of the epoch's first batch to the end of its last."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seconds = time.process_time() - self.start


def bare(task: Any, loader: Any) -> float:
    optimizer = task.configure_optimizers()["optimizer"]
    task.train()
    start = time.process_time()
    for batch in loader:
        optimizer.zero_grad()
        task.evaluated(batch)[2].backward()
        optimizer.step()
    return time.process_time() - start


def rows(experiments: list[str], steps: int, rounds: int) -> list[dict[str, Any]]:
    """A line an experiment: {line, ours, peer, unit, spread, note}."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        songs = make_demo_songs(Path(folder) / "songs", train=8, valid=2, test=1)
        for experiment in experiments:
            root = Root.open(Path(folder) / experiment, PROFILE)
            config, cache = configuration(experiment, songs, root, steps)
            seconds: dict[str, list[float]] = {"ours": [], "peer": []}
            with computing("cpu"):
                torch.set_num_threads(1)
                for turn in range(rounds + 1):
                    for name, call in (("ours", under_lightning), ("peer", bare)):
                        task, loader, _ = prepare(config, cache, "cpu")
                        taken = call(task, loader) / steps
                        if turn:  # the first warms up
                            seconds[name].append(taken)
            median = {name: statistics.median(of) for name, of in seconds.items()}
            spread = "; ".join(f"{min(of):.3f} to {max(of):.3f}" for of in seconds.values())
            more = 100 * (median["ours"] / median["peer"] - 1)
            note = f"{more:+.1f} % against a bare loop; batches of {config['training']['batch_size']} clips of {config['training']['segment_s']:g} s"
            found.append(
                {"line": f"training step of {experiment}", **median, "unit": "CPU s", "spread": spread, "note": note}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", default="Base,UMX,H")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for row in rows(arguments.experiments.split(","), arguments.steps, arguments.rounds):
        print(
            f"{row['line']}: {row['ours']:.3f} {row['unit']}, bare {row['peer']:.3f} ({row['spread']}); {row['note']}"
        )


if __name__ == "__main__":
    main()
