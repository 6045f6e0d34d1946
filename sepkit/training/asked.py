"""What a call asks for beside an entry of the menu, and whether it fits, before any work: settings, networks, loggers."""

import difflib
import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import pandas as pd
import torch

from sepkit import models
from sepkit.data.augment import LIMITS, make_augment
from sepkit.data.cache import training_sources
from sepkit.devices import one_thread
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import NOT_SAID
from sepkit.experiments.settings import Experiment, resolve
from sepkit.models import own
from sepkit.profiles import Profile
from sepkit.storage import Run
from sepkit.training.losses import loss_settings, make_loss

KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "a mapping",
    "training.curriculum": "a list of pairs, [epochs, seconds]",
}
OPTIONAL = {"training.ema": float, "training.curriculum": list}  # or null
CHOICES = {"training.sampling": ("balanced", "uniform", "vocals"), "training.cache_kind": ("wave", "stft")}
MAY_BE_0 = ("training.remix", "training.weight_decay", *(f"training.augment.{name}" for name in LIMITS))
Changes = Mapping[str, Any] | Iterable[str] | None
LOGGERS = {"tensorboard": "lightning.pytorch.loggers:TensorBoardLogger"}


def with_changes(experiment: Experiment, given: Changes, profile: Profile) -> Experiment:
    """`experiment` with other settings under a name of its own, as Base+batch_size=4; None changes nothing.

    given: {"training.batch_size": 4}, or ["training.batch_size=4"] with values as JSON, otherwise text.
    Raises UsageError for a setting that its runs do not have, and for a value that it can't take.
    """
    changes = dict(given if isinstance(given, Mapping) else map(_parsed, given or ()))
    if not changes:
        return experiment
    names = {key: changes[key] for key in ("model.name", "loss.name") if key in changes}
    known = _known(resolve(replace(experiment, changes={**experiment.changes, **names}), profile))
    for key, value in changes.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 3, 0.5) or known
            raise UsageError(f"{experiment.name} has no setting {key!r}; expected {' or '.join(near)}.")
        if experiment.weights_of and key.startswith("training."):
            raise UsageError(
                f"{experiment.name} is not trained, so {key} changes nothing; change {experiment.weights_of}."
            )
        changes[key] = _checked(key, value, known[key])
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in sorted(changes.items())}
    said = [f"{key.removeprefix('training.')}={text}" for key, text in texts.items()]
    name = "+".join([experiment.name, *said])
    if (safe := re.sub(r"[^\w.+=-]+", "_", name, flags=re.ASCII)[:100]) != name:
        safe = f"{safe}~{blake2b(name.encode(), digest_size=3).hexdigest()}"
    return replace(
        experiment,
        name=safe,
        change=f"{experiment.name} with {', '.join(said)}",
        hypothesis=NOT_SAID,
        plan=Experiment.plan,
        literature=Experiment.literature,
        called=experiment.called or experiment.name,
        extras=", ".join([*[experiment.extras] * (experiment.extras != NOT_SAID), *said]),
        changes={**experiment.changes, **changes},
    )


def _parsed(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"Expected a setting and its value, as training.batch_size=4, got {text!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def flat(config: Mapping[str, Any]) -> Any:
    """{"model.hidden_size": 128, …}, values as JSON keeps them."""
    return pd.json_normalize(json.loads(json.dumps(config))).to_dict("records")[0]


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can be changed, each with its value."""
    parts = {name: settings[name] for name in ("training", "model", "loss")}
    others = {
        "training.augment": dict.fromkeys(LIMITS, 0.0),
        "model": models.settings_of(parts["model"]["name"]),
        "loss": loss_settings(parts["loss"]["name"]),
    }
    return {f"{part}.{name}": value for part, of in others.items() for name, value in of.items()} | flat(parts)


def _checked(key: str, value: Any, now: Any) -> Any:
    """`value` for a setting that is `now`; UsageError where it is of another type or out of range."""
    kind: Any = OPTIONAL.get(key, list if isinstance(now, tuple) else type(now))
    if kind not in KINDS or (value is None and key in OPTIONAL):
        return value
    value = float(value) if kind is float and type(value) is int else value
    fits, number = type(value) is kind, key.startswith("training.") and kind in (int, float)
    if fits and number:
        fits = 0 < value < math.inf or (value == 0 and key in MAY_BE_0)
    elif fits and key == "training.curriculum":
        fits = all(
            isinstance(pair, list) and [type(each) in (int, float) for each in pair] == [True, True] for pair in value
        )
    if not fits or value not in CHOICES.get(key, (value,)):
        expected = " or ".join(CHOICES.get(key, (KINDS.get(key, KINDS[kind]),))) + number * (
            ", 0 or more" if key in MAY_BE_0 else " above 0"
        )
        raise UsageError(f"Expected {key} to be {expected}, got {value!r}.")
    return value


def trial(settings: dict[str, Any], size: int = 2) -> tuple[Any, dict[str, Any]]:
    """(the `SeparationTask` of a run's settings, a batch of `size` random clips)."""
    from sepkit.training.step import SeparationTask  # with Lightning, which takes seconds to import

    model, training = models.build(**settings["model"]), settings["training"]
    shape = (len(model.sources), model.channels, round(training["segment_s"] * model.sample_rate))
    sources = 0.1 * torch.randn(size, *shape)
    task = SeparationTask(model, make_loss(**settings["loss"]), list(range(len(model.sources))), training)
    return task, {"mixture": sources.sum(dim=1), "sources": sources, "track": []}


def checked(settings: dict[str, Any], changed: bool = False) -> Any:
    """The network of a run where it is not this package's; UsageError where it, or `changed` settings, can't be trained with."""
    network, training, loss = settings["model"], settings["training"], settings["loss"]["name"]
    name = network["name"]
    if not (changed or ":" in name):
        return None
    make_augment(training["augment"])
    with torch.random.fork_rng(devices=[]), one_thread("cpu"):
        if ":" in name:
            own.check(models.build(**network), name, network["sample_rate"], training["segment_s"])
        try:
            task, batch = trial(settings)
            value = task.evaluated(batch)[2]
            value.backward()
        except SepkitError:
            raise
        except Exception as error:
            raise UsageError(f"The loss {loss} of {name} can't be computed: {own.said(error)}.") from error
    if not value.isfinite():
        raise UsageError(f"Expected the loss {loss} of {name} on noise to be finite, found {float(value)}.")
    if not {*(sources := task.model.sources)} <= {*training_sources(settings)}:
        raise UsageError(f"Expected the experiment to name the sources of {name}: model={{…, 'sources': {sources}}}.")
    return task.model if ":" in name else None


def make_logger(name: str | None, run: Run) -> Any:
    """The logger `tensorboard` or `package.module:Class` of a run, which writes to logs/<run> under the root; False for None.

    The copy on Drive leaves logs/ out: history.csv has the same figures.
    Raises UsageError where there is none of this name, or its own package is not installed.
    """
    if not name:
        return False
    from lightning.pytorch.loggers import Logger

    if name not in LOGGERS and ":" not in name:
        raise UsageError(f"There is no logger {name!r}; expected {', '.join(LOGGERS)}, or package.module:Class.")
    kind, where = own.imported(LOGGERS.get(name, name)), {"save_dir": str(run.root.path / "logs"), "name": run.name}
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        raise UsageError(f"Expected {name} to be a class of Lightning's loggers, found {kind!r}.")
    taken = inspect.signature(kind).parameters
    try:
        return kind(**{key: value for key, value in where.items() if key in taken})
    except ImportError as error:
        why = f"which is not here; pip install {name}" if name in LOGGERS else " ".join(str(error).split())
        raise UsageError(f"The logger {name} needs a package of its own, {why}.") from error
