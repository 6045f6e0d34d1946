"""sepkit, a one-week laboratory for music source separation.

    songs -> cache -> train -> checkpoint -> evaluate -> scores.csv -> scoreboard, report

The calls below are what notebooks and scripts rely on; each is imported when it is first used.
"""

import importlib
from typing import Any

_HOMES = {
    "storage.ledger": ("budget",),
    "training.train": ("train", "train_many"),
    "training.plan": ("plan", "equal_epochs"),
    "evaluation.scoring": ("evaluate", "evaluate_many", "reference"),
    "evaluation.given": ("given",),
    "evaluation.listening": ("estimates", "excerpts"),
    "reporting.scoreboard": ("scoreboard",),
    "reporting.report": ("report",),
    "reporting.player": ("player",),
    "commands.grid": ("grid", "out_of_fold"),
    **{
        f"commands.{name}": (name,)
        for name in ("doctor", "demo", "fetch", "cache", "separate", "export", "compare", "week")
    },
}
_CALLS = {call: home for home, calls in _HOMES.items() for call in calls}
_MODULES = ("data", "evaluation", "experiments", "models", "profiles", "reporting", "storage", "training")

__version__ = "0.1.0"
__all__ = [*_CALLS, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _CALLS:
        return getattr(importlib.import_module(f"sepkit.{_CALLS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"sepkit.{name}")
    raise AttributeError(f"sepkit has no {name!r}; it has {', '.join(__all__)}")
