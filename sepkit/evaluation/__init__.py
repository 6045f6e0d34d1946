"""Checkpoint + mixture -> estimate -> metrics -> statistics.

bss_eval.py and metrics.py score one song, evaluate.py a run; statistics.py compares runs over songs
(paired.py) and methods over seeds (methods.py), power.py says what that can show; museval_json.py writes
and reads museval's format.
"""

from sepkit.evaluation.bss_eval import bss_eval
from sepkit.evaluation.evaluate import estimates, evaluate, reference
from sepkit.evaluation.museval_json import read_museval, write_museval
from sepkit.evaluation.power import power_table
from sepkit.evaluation.statistics import Comparison, compare_scores, holm, summary

__all__ = [
    "Comparison",
    "bss_eval",
    "compare_scores",
    "estimates",
    "evaluate",
    "holm",
    "power_table",
    "read_museval",
    "reference",
    "summary",
    "write_museval",
]
