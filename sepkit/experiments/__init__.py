"""The menu (menu.py: the week's experiments, ablations.py: their variants), what an entry of it is (settings.py), and
what fits into a week (week.py)."""

from collections.abc import Iterable

from sepkit.errors import UsageError
from sepkit.experiments.ablations import ABLATIONS
from sepkit.experiments.menu import BASE, BASES, BOUNDS, REFERENCES, UMXHQ, WEEK
from sepkit.experiments.settings import Experiment, resolve
from sepkit.experiments.week import CORE, Line, choose_week
from sepkit.profiles import Profile

__all__ = [
    "BASE", "BASES", "BOUNDS", "MENU", "REFERENCES", "UMXHQ", "Experiment", "Line", "choose_week", "get_experiment", "picked", "resolve",
    "week_experiments",
]  # fmt: skip

MENU = {experiment.name: experiment for experiment in (*WEEK, *ABLATIONS)}


def get_experiment(name: str | Experiment) -> Experiment:
    """The menu's entry; UsageError for an unknown name."""
    if isinstance(name, Experiment):
        return name
    if name not in MENU:
        raise UsageError(f"There is no experiment {name!r}; expected one of {', '.join(MENU)}.")
    return MENU[name]


def week_experiments() -> list[str]:
    """All experiments that a week can run, in the order of its days: all but the ablations."""
    return [name for name, experiment in MENU.items() if experiment.variant_of is None]


def picked(pick: Iterable[str] | None, profile: Profile) -> list[str]:
    """Those of `pick`, or what the plan's default week may hold (full), or all but what the profile leaves out.

    Raises UsageError for an unknown name.
    """
    if pick is not None:
        return [get_experiment(name).name for name in pick]
    every = [name for name in week_experiments() if name not in profile.left_out]
    return [*CORE, "B", "Best"] if profile.as_planned else every
