"""sepkit, a one-week laboratory for music source separation.

    songs -> cache -> train -> checkpoint -> evaluate -> scores.csv -> scoreboard, report

The calls below are what notebooks and scripts rely on; they are loaded where they are first used.
"""

import importlib
from typing import Any

_CALLS = {
    "doctor": "sepkit.commands.doctor",
    "demo": "sepkit.commands.demo",
    "cache": "sepkit.commands.cache",
    "train": "sepkit.training.train",
    "train_many": "sepkit.training.train",
    "grid": "sepkit.commands.grid",
    "out_of_fold": "sepkit.commands.grid",
    "equal_epochs": "sepkit.training.equal",
    "evaluate": "sepkit.evaluation.scoring",
    "evaluate_many": "sepkit.evaluation.scoring",
    "reference": "sepkit.evaluation.scoring",
    "estimates": "sepkit.evaluation.scoring",
    "separate": "sepkit.commands.separate",
    "compare": "sepkit.commands.compare",
    "scoreboard": "sepkit.reporting.scoreboard",
    "report": "sepkit.reporting.report",
    "player": "sepkit.reporting.player",
    "budget": "sepkit.storage.ledger",
    "plan": "sepkit.training.plan",
    "week": "sepkit.commands.week",
}
_MODULES = ("data", "evaluation", "experiments", "models", "profiles", "reporting", "storage", "training")

__version__ = "0.1.0"
__all__ = [*_CALLS, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _CALLS:
        return getattr(importlib.import_module(_CALLS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"sepkit.{name}")
    raise AttributeError(f"sepkit has no {name!r}; it has {', '.join(__all__)}")
