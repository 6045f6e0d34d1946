"""Checkpoint + mixture -> estimate -> metrics -> statistics.

bss_eval.py and metrics.py score one song, evaluate.py a run, statistics.py compares runs.
"""

from sepkit.evaluation.bss_eval import bss_eval
from sepkit.evaluation.evaluate import estimates, evaluate, reference
from sepkit.evaluation.statistics import Comparison, compare_scores, holm, summary

__all__ = [
    "Comparison",
    "bss_eval",
    "compare_scores",
    "estimates",
    "evaluate",
    "holm",
    "reference",
    "summary",
]
