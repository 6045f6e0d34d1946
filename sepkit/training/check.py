"""Whether a run's network, loss and settings fit together, asked before any work where this package's tests can't know."""

from typing import Any

import torch

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.data.cache import training_sources
from sepkit.errors import SepkitError, UsageError
from sepkit.models import own
from sepkit.training.losses import make_loss


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
    with torch.random.fork_rng(devices=[]):
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
