"""The menu (menu.py: the week's experiments, ablations.py: their variants), what an entry of it is (settings.py), and
what fits into a week (week.py)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sepkit.errors import UsageError
from sepkit.experiments.ablations import ABLATIONS
from sepkit.experiments.menu import BASE, BASES, BOUNDS, REFERENCES, UMXHQ, WEEK
from sepkit.experiments.settings import ABOUT, WORDS, Experiment, resolve
from sepkit.experiments.week import CORE, Line, choose_week
from sepkit.profiles import Profile

if TYPE_CHECKING:  # storage imports pandas, which the menu does without
    from sepkit.storage import Root, Run

__all__ = [
    "BASE",
    "BASES",
    "BOUNDS",
    "MENU",
    "REFERENCES",
    "UMXHQ",
    "Experiment",
    "Line",
    "about",
    "choose_week",
    "entry_of",
    "get_experiment",
    "picked",
    "plain",
    "resolve",
    "run_named",
    "week_experiments",
]

NOT_SAID = "—"
MENU = {experiment.name: experiment for experiment in (*WEEK, *ABLATIONS)}


def get_experiment(name: str | Experiment) -> Experiment:
    """The menu's entry, or what `package.module:NAME` names outside this package: an `Experiment`, or a network's class.

    Raises UsageError for an unknown name.
    """
    if isinstance(name, Experiment):
        return name
    if ":" in name:
        return _own(name)
    if name not in MENU:
        raise UsageError(
            f"There is no experiment {name!r}; expected one of {', '.join(MENU)}, or your own as module:NAME."
        )
    return MENU[name]


def _own(called: str) -> Experiment:
    from sepkit.models import own  # with torch, which the menu alone does not need

    found, name = own.imported(called), plain(called)
    if isinstance(found, type):
        own.network_class(called)
        change = f"the network {name}, trained with waveform L1"
        found = Experiment(name, change, NOT_SAID, model={"name": called}, loss={"name": "waveform_l1"})
    if not isinstance(found, Experiment):
        raise UsageError(
            f"Expected a sepkit Experiment or a network's class at {called}, found a {type(found).__name__}."
        )
    taken = next((each for each in (*MENU, *REFERENCES) if each.casefold() == name.casefold()), None)
    if found.name != name or taken:
        why = f"{taken} is sepkit's own" if taken else f"its name is {found.name!r}"
        raise UsageError(f"Expected {called} to be an experiment with the name of its variable, but {why}; rename it.")
    return replace(found, called=called)


def plain(name: str) -> str:
    """The name of the experiment or run that `name` calls: of package.module:NAME the last part."""
    return name.rpartition(":")[2]


def run_named(root: "Root", called: str, seed: int = 0, fold: int | None = None) -> "Run":
    """The run of this name, or that of the experiment of this name."""
    run, of = root.run(plain(called)), root.run_of(plain(called), seed, fold)
    return run if run.path.exists() or not (called in MENU or ":" in called or of.path.exists()) else of


def entry_of(config: Mapping[str, Any]) -> Experiment:
    """The menu's entry of a run, or what its configuration says of its experiment; — where that is nothing."""
    name, network = config["experiment"], (config.get("model") or {}).get("name", NOT_SAID)
    unknown = {**dict.fromkeys(WORDS, NOT_SAID), "backbone": network}
    return MENU.get(name) or Experiment(name, **{**unknown, **config.get("about", {})})


def about(experiment: Experiment, network: Any = None) -> dict[str, Any]:
    """What `entry_of` reads; network: the experiment's, where it is none of this package."""
    facts = {name: getattr(experiment, name) for name in ABOUT}
    if network is not None:
        own = {"backbone": plain(network.name), "domain": "STFT" if network.stft else "waveform"}
        facts |= {name: own[name] for name in own if facts[name] == getattr(Experiment, name)}
    return facts


def week_experiments() -> list[str]:
    """All experiments that a week can run, in the order of its days: all but the ablations."""
    return [name for name, experiment in MENU.items() if experiment.variant_of is None]


def picked(pick: Iterable[str] | None, profile: Profile) -> list[str]:
    """Those of `pick`, or what the plan's default week may hold (full), or all but what the profile leaves out.

    Raises UsageError for an unknown name.
    """
    if pick is not None:
        names = [get_experiment(name).name for name in pick]
        if not {*names} <= {*MENU}:
            raise UsageError(f"A week's days train the menu's experiments, not {names}; use `train` or `grid`.")
        return names
    every = [name for name in week_experiments() if name not in profile.left_out]
    return [*CORE, "B", "Best"] if profile.as_planned else every
