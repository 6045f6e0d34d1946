"""What trainings cost in minutes before they are spent, and how many epochs take the same minutes."""

import math
import time
from collections.abc import Callable, Iterable
from functools import cache as memory
from functools import partial
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from sepkit.data.folds import FOLDS, split_songs
from sepkit.devices import autocast, device_name, pick_device
from sepkit.errors import UsageError
from sepkit.experiments import BASE, MENU, Line, choose_week, get_experiment, plain
from sepkit.experiments.settings import Experiment, resolve
from sepkit.parallel import progress
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike, hours_left
from sepkit.storage.ledger import spending, week_hours
from sepkit.training.asked import checked, trial
from sepkit.training.train import training_cache

STEPS = 3  # steps that count, after one that warms up
VALID_STEP = 1 / 3  # of a training step: validation of a batch, which has no gradient
# Seconds of scoring a second of a song in one run, on a T4 and two cores: 4 minutes take 6 s
SCORE_S, TRAIN_SONGS = 6 / 240, 86


def plan(
    *,
    profile: ProfileLike = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    root: RootLike = None,
    device: str | None = None,
    seeds: Iterable[int] = (0,),
    folds: Iterable[int | None] = (None,),
) -> pd.DataFrame:
    """Predicted minutes of the picked experiments, or of the default week (`sepkit.experiments.choose_week`).

    seeds, folds: of each pick, as for `train_many`; folds have a row of their own.  Columns: experiment, runs, train_min
    (validation included), score_min (test songs, of Base validation songs too), minutes (both, of all runs), plan_min
    (the plan's own figure), total_h (hours spent by then: those in the ledger and what the rows before still take),
    `within` (whether total_h stays within `hours`, by default those of `week_hours`), steps and step_s of a run, basis
    ("measured in <run>" from its history, "measured now", or "estimate for a T4" where no GPU is here and the profile
    is as planned), vram_mib (the most that its runs took).  All epochs count; early stopping only makes an experiment cheaper.
    """
    profile, root = get_profile(profile), Root.at(root, profile)
    limit, seeds, folds = week_hours(hours), list(seeds), list(folds)
    total, costs = limit - hours_left(root, hours=limit), memory(partial(_cost, profile, root, device))
    if pick is None:
        lines = [(line.experiment, line.folds) for line in week_lines(profile, root, hours, costs)]
    else:
        names = {name: get_experiment(name) for name in [BASE, *pick]}
        lines = [(name, fold) for name in names for fold in dict.fromkeys(each is not None for each in folds)]
    rows = []
    for name, folded in lines:
        of_folds = tuple(range(FOLDS)) if pick is None else tuple(each for each in folds if each is not None)
        cost = costs(name, tuple(seeds), of_folds if folded else (None,))
        within = total + cost["left_h"] <= limit
        total += cost["left_h"] if within else 0.0
        minutes = cost["train_min"] + cost["score_min"]
        rows.append({
            "experiment": f"{plain(name)} folds" if folded else plain(name), "runs": cost["runs"],
            **{key: round(cost[key], 1) for key in ("train_min", "score_min")}, "minutes": round(minutes, 1),
            "plan_min": None if folded else get_experiment(name).plan_min, "total_h": round(total, 2), "within": within,
            "steps": cost["steps"], "step_s": round(cost["step_s"], 3), "basis": cost["basis"],
            "vram_mib": cost["vram_mib"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def week_lines(
    profile: ProfileLike = None, root: RootLike = None, hours: float | None = None, costs: Any = None, pick: Any = None
) -> list[Line]:
    """The picked or the default week within the hours that are left; costs from histories and estimates, nothing is measured now."""
    profile = get_profile(profile)
    root = Root.at(root, profile)
    costs = costs or memory(partial(_cost, profile, root, None, measure=False))
    own = [run for run in root.runs() if run.finished and run.config.get("fold") is None and "best_sdr" in run.status]
    own = [run for run in own if run.config["experiment"] in MENU and run.config.get("start_from") != "umxhq"]
    best = max(own, key=lambda run: run.status["best_sdr"], default=None)  # umxhq was trained on the folds' songs

    def cost_h(name: str, folds: bool) -> float:
        return costs(name, (0,), tuple(range(FOLDS)) if folds else (None,))["left_h"]

    left = hours_left(root, hours=hours)
    return choose_week(cost_h, left, best.config["experiment"] if best else BASE, pick)


def _cost(
    profile: Profile, root: Root, device: str | None, name: str, seeds: tuple, folds: tuple, measure: bool = True
) -> dict[str, Any]:
    """What the runs of an experiment take, in minutes, and what of it is still to come, in hours."""
    experiment = get_experiment(name)
    training = resolve(experiment, profile)["training"]
    epochs, steps = 0 if experiment.weights_of else training["epochs"], training["steps_per_epoch"]
    batches = math.ceil(profile.valid_songs * profile.valid_segments / training["batch_size"])
    step_s, basis = _step_cost(experiment, profile, root, device, measure)
    epoch_s = step_s * (steps if basis.startswith("measured in") else steps + VALID_STEP * batches)
    songs = profile.test_songs + (profile.valid_songs if name == BASE else 0)
    if folds != (None,):
        songs = round((TRAIN_SONGS + profile.valid_songs) / len(folds))
    train_s, score_s = epochs * epoch_s, songs * SCORE_S * profile.song_s
    left_s, vram_mib = 0.0, 0.0
    for run in (root.run_of(experiment.name, seed, fold) for seed in seeds for fold in folds):
        history = run.history() if (run.path / "history.csv").exists() else pd.DataFrame()
        vram_mib = max(vram_mib, *history.get("vram_mib", (0.0,)))
        left_s += 0.0 if run.finished else max(0, epochs - len(history)) * epoch_s
        left_s += 0.0 if run.scored else score_s
    count = len(seeds) * len(folds)
    return {
        "runs": count, "train_min": count * train_s / 60, "score_min": count * score_s / 60, "left_h": left_s / 3600,
        "steps": epochs * steps, "step_s": step_s, "basis": basis, "vram_mib": vram_mib,
    }  # fmt: skip


def _step_cost(
    experiment: Experiment, profile: Profile, root: Root, device: str | None, measure: bool = True
) -> tuple[float, str]:
    """(seconds a step, where the figure comes from); of a history, with the validation's share."""
    run = root.run_of(experiment.name)
    if (run.path / "history.csv").exists():
        steps = resolve(experiment, profile)["training"]["steps_per_epoch"]
        history = run.history()
        return float((history["seconds"] * history["ranks"]).median()) / steps, f"measured in {run.name}"
    device = pick_device(device)
    if (profile.as_planned and device == "cpu") or not measure:
        return experiment.t4_step_s, "estimate for a T4"
    # only now, where minutes are spent, is the root made
    with spending(Root.open(root.path), stage="plan", device=device_name(device)):
        return step_seconds(experiment, profile, device), f"measured now on {device_name(device)}"


def step_seconds(experiment: Experiment, profile: Profile, device: str) -> float:
    """Seconds of one training step, measured on random clips: no songs are needed."""
    from sepkit.training.ranks import computing  # with Lightning, which takes seconds to import

    settings = resolve(experiment, profile)
    with computing(device):
        torch.manual_seed(0)
        checked(settings)
        task, batch = trial(settings, settings["training"]["batch_size"])
        step = _stepper(task, lambda: batch, device)
        return median([step() for _ in range(STEPS + 1)][1:])


def equal_epochs(
    experiments: Iterable[str | Experiment],
    *,
    minutes: float,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    device: str | None = None,
) -> pd.DataFrame:
    """How many epochs of each experiment take at most `minutes`, validation included.

    Times full training steps at the final clip length, the experiments taking turns, and a validation.  The epochs go
    into the entries of the menu, `profiles`, so that `train` repeats a run to the bit.

    Columns: experiment, step_s, valid_s (a whole validation), epoch_s, epochs, minutes (of these epochs).
    Raises UsageError where one epoch takes longer than that.
    """
    from sepkit.training.ranks import computing

    if not minutes > 0:  # nan included
        raise UsageError(f"Expected minutes above 0, got {minutes}.")
    profile, device = get_profile(profile), pick_device(device)
    root, rows = Root.open(root, profile), []
    with computing(device), spending(root, stage="plan", device=device_name(device)):
        work = {it.name: _prepared(it, profile, data, root, device) for it in map(get_experiment, experiments)}
        seconds: dict[str, list[float]] = {name: [] for name in work}
        turns = list(work) * (STEPS + 1)
        for name in progress(turns, doing="measure", total=len(turns)):
            seconds[name].append(work[name][0]())
        for name, (_, task, valid) in work.items():
            step_s, valid_s = median(seconds[name][1:]), _validation_s(task, valid, device)
            epoch_s = step_s * task.settings["steps_per_epoch"] + valid_s
            if not (epochs := int(60 * minutes / epoch_s)):
                raise UsageError(
                    f"One epoch of {name} takes {epoch_s / 60:.2f} minutes, more than the {minutes:g} given."
                )
            rows.append((name, step_s, valid_s, epoch_s, epochs, epochs * epoch_s / 60))
    table = pd.DataFrame(rows, columns=["experiment", "step_s", "valid_s", "epoch_s", "epochs", "minutes"])
    return table.round({"step_s": 3, "valid_s": 2, "epoch_s": 3, "minutes": 2})


def _prepared(
    experiment: Experiment, profile: Profile, data: DataLike, root: Root, device: str
) -> tuple[Callable[[], float], Any, DataLoader]:
    """(what makes and times a step of an experiment, its `SeparationTask`, its validation clips)."""
    from sepkit.training.fit import prepare

    settings = resolve(experiment, profile)
    checked(settings)
    cache = training_cache(settings, profile, data, root)
    task, loader, valid = prepare({**settings, "seed": 0, "data": split_songs(cache, None)}, cache, device)
    batches: Any = loader.batch_sampler
    batches.set_epoch(settings["training"]["epochs"] - 1)
    clips, collate = loader.dataset, loader.collate_fn
    return _stepper(task, lambda: collate([clips[key] for key in next(iter(batches))]), device), task, valid


def _stepper(task: Any, draw: Callable[[], dict[str, Any]], device: str) -> Callable[[], float]:
    """A function that makes one whole training step (clips, loss, gradient, optimiser) and gives its seconds.

    task: a `SeparationTask`; draw: makes a batch on the CPU.
    """
    optimizer = task.to(device).configure_optimizers()["optimizer"]

    def step() -> float:
        drawn = _moved(task, draw(), device) if device == "cuda" else None  # workers draw there meanwhile

        def work() -> None:
            optimizer.zero_grad()
            task.train().evaluated(drawn or draw())[2].backward()
            optimizer.step()

        return _timed(work, task, device)

    return step


@torch.no_grad()
def _validation_s(task: Any, clips: DataLoader, device: str) -> float:
    return _timed(lambda: [task.eval().judge(_moved(task, batch, device)) for batch in clips], task, device)


def _moved(task: Any, batch: dict[str, Any], device: str) -> dict[str, Any]:
    return task.transfer_batch_to_device(batch, torch.device(device), 0)


def _timed(work: Callable[[], Any], task: Any, device: str) -> float:
    """Seconds of `work` in training's precision: of CPU time, which a busy machine does not stretch; a GPU's by the clock."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    with autocast(device, bfloat16=task.settings["bfloat16"]):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start
