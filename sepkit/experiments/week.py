"""Which experiments a week of GPU hours holds: `plan`, `week`, the notebooks and `what_now` all ask here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sepkit.experiments.menu import BASE, WEEK

CORE = tuple(experiment.name for experiment in WEEK if experiment.default_week)
SHORT = (BASE, "F", "C", "D-pitch", "D-time")  # the plan's order where time is short


@dataclass(frozen=True)
class Line:
    """An experiment of the week, or three folds of one, and whether the hours allow it."""

    experiment: str
    folds: bool
    within: bool


def choose_week(
    cost_h: Callable[[str, bool], float], hours: float, best: str = BASE, pick: Sequence[str] | None = None
) -> list[Line]:
    """The picked or the default week within `hours`, Base first.

    cost_h: hours that an experiment, or its three folds, still takes; best: the experiment whose folds are trained.
    The default: Base, F, C+D and A where all of them fit; otherwise Base, F, C and D, as many as fit.  Then B where time
    is left, otherwise three folds of the best configuration; then Best.  A pick keeps its order where all of it fits;
    otherwise what the plan's short week has comes first.
    """
    week: list[Line] = []

    def add(name: str, folds: bool = False) -> bool:
        nonlocal hours
        cost = cost_h(name, folds)
        week.append(Line(name, folds, within=cost <= hours))
        hours -= cost if week[-1].within else 0.0
        return week[-1].within

    if pick is not None:
        fits = sum(cost_h(name, False) for name in pick) <= hours
        for name in pick if fits else sorted(pick, key=lambda name: (*SHORT, "C+D", name).index(name)):
            add(name)
        return week
    for name in CORE if sum(cost_h(name, False) for name in CORE) <= hours else SHORT:
        add(name)
    if not add("B"):
        add(best, folds=True)
    add("Best")
    return week
