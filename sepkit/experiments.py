"""The menu: every row as data, one entry each.

Adding an experiment is adding an entry: it says its hypothesis, its one change against Base, what
the plan and the literature expect, and the settings in which it differs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sepkit.errors import UsageError
from sepkit.profiles import Profile


@dataclass(frozen=True)
class Experiment:
    """One row of the menu.

    model, loss: a name and the settings that differ from its defaults.
    augment: settings of `sepkit.data.augment`; empty for none.
    expected_db: the plan's expected gain on vocals; literature: what is realistic, with its source.
    """

    name: str
    day: int
    title: str
    hypothesis: str
    change: str
    plan: str
    literature: str
    backbone: str = "Open-Unmix-small"
    domain: str = "STFT mask"
    extras: str = "—"
    model: str = "openunmix-small"
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "magnitude_l1"
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 20
    patience: int = 3
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    sampling: str = "balanced"


MENU: dict[str, Experiment] = {}


def _add(experiment: Experiment) -> None:
    MENU[experiment.name] = experiment


_add(
    Experiment(
        name="Base",
        day=1,
        title="Open-Unmix-small, STFT mask",
        hypothesis="Three bidirectional GRU layers on 1024/256 magnitudes separate vocals well enough to compare with.",
        change="the baseline itself",
        plan="4.8 dB SDR, 5.1 dB SI-SDR",
        literature="3.5 to 5 dB at 20 epochs on MUSDB18-HQ (umxhq: 6.25 dB after up to 1000 epochs)",
    )
)


def get_experiment(name: "str | Experiment") -> Experiment:
    """The menu's entry; UsageError for an unknown name."""
    if isinstance(name, Experiment):
        return name
    if name not in MENU:
        raise UsageError(f"There is no experiment {name!r}; expected one of {', '.join(MENU)}.")
    return MENU[name]


def resolve(experiment: Experiment, profile: Profile) -> dict[str, Any]:
    """Every setting of a run as plain data, for config.json: the entry, then what the profile changes."""
    model = {"name": experiment.model, "sample_rate": profile.sample_rate, **experiment.model_settings}
    if profile.hidden_size and "hidden_size" not in experiment.model_settings:
        model["hidden_size"] = profile.hidden_size
    return {
        "experiment": experiment.name,
        "profile": profile.name,
        "model": model,
        "loss": {"name": experiment.loss, **experiment.loss_settings},
        "training": {
            "epochs": min(experiment.epochs, profile.epochs or experiment.epochs),
            "patience": experiment.patience,
            "learning_rate": profile.learning_rate or experiment.learning_rate,
            "weight_decay": experiment.weight_decay,
            "batch_size": profile.batch_size,
            "steps_per_epoch": profile.steps_per_epoch,
            "segment_s": profile.segment_s,
            "valid_segments": profile.valid_segments,
            "sampling": experiment.sampling,
            "remix": profile.remix,
            "augment": dict(experiment.augment),
            "cache_kind": profile.cache_kind,
        },
    }


def describe(experiment: Experiment) -> dict[str, Any]:
    return asdict(experiment)
