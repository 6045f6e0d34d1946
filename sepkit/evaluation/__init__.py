"""Checkpoint + mixture -> estimate -> metrics -> scores.csv -> statistics.

bsseval.py and metrics.py score one song, scoring.py runs; statistics.py compares runs over songs, and methods over
seeds (paired.py), power.py says what that can show; museval_json.py writes and reads museval's format. Reading scores
needs no network and no signal processing, so the two calls below are loaded where they are first used.
"""

import importlib
from typing import Any

_CALLS = {"bss_eval": "bsseval", "power_table": "power"}
__all__ = list(_CALLS)


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"sepkit.evaluation has no {name!r}; it has {', '.join(_CALLS)}.")
    return getattr(importlib.import_module(f"sepkit.evaluation.{_CALLS[name]}"), name)
