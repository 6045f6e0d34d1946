"""Checkpoint + mixture -> estimate -> metrics -> scores.csv -> statistics.

bsseval.py and metrics.py score one song, scoring.py runs; statistics.py compares runs over songs, and methods over
seeds (paired.py), power.py says what that can show; museval_json.py writes and reads museval's format. Reading scores
needs no network and no signal processing, so `bss_eval` is loaded where it is first used.
"""


def __getattr__(name: str) -> object:
    if name != "bss_eval":
        raise AttributeError(f"sepkit.evaluation has no {name!r}; it has bss_eval.")
    from sepkit.evaluation.bsseval import bss_eval

    return bss_eval
