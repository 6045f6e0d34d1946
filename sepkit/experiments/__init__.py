"""The menu as data: menu.py has the week's experiments, ablations.py their variants, settings.py what an entry
becomes under a profile.
"""

from sepkit.experiments.menu import BASE, BASES, MENU, REFERENCES, get_experiment, picked_rows, week_rows
from sepkit.experiments.settings import Experiment, resolve

__all__ = [
    "BASE",
    "BASES",
    "MENU",
    "REFERENCES",
    "Experiment",
    "get_experiment",
    "picked_rows",
    "resolve",
    "week_rows",
]
