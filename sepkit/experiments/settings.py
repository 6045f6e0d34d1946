"""What an experiment is, and the settings of its runs under a profile, as config.json keeps them."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from sepkit.profiles import Profile

FREQUENCY_WEIGHT = "inverse_sqrt"  # α(f) of losses on magnitudes: chosen once on validation songs (LOG.md)
MAGNITUDE_L1 = {"name": "magnitude_l1", "alpha": FREQUENCY_WEIGHT}
# what networks on openunmix's layers hear: chosen on validation songs (LOG.md)
ONE_LEVEL = {"levelled": "always"}
LEARNING_RATE = 3e-4  # the plan's, for AdamW
# what the configuration of a run keeps of an experiment that the menu lacks: words, and how it is named in a call
WORDS = ("change", "hypothesis", "plan", "literature", "backbone", "domain", "extras")
ABOUT = (*WORDS, "called", "changes")


def preview(epochs: int) -> dict[str, Any]:
    """The profile's epochs of an experiment, 20 minutes of a CPU; `plan --minutes` measures them."""
    return {"preview": {"training": {"epochs": epochs}}}


@dataclass(frozen=True)
class Experiment:
    """One entry of the menu: what it tries, and the settings in which it differs from the defaults."""

    name: str
    change: str
    hypothesis: str
    day: int = 0  # of the week, whose notebook runs it; 0: none
    plan: str = "not in the plan"  # the gain on vocals that the plan expects
    literature: str = "no figure found"  # a realistic figure, with its source
    backbone: str = "Open-Unmix-small"  # this and the next two: the scoreboard's columns
    domain: str = "STFT mask"
    extras: str = "—"
    # model, loss: a name, and the settings that differ from that network's or loss's own
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "openunmix-small", **ONE_LEVEL})
    loss: Mapping[str, Any] = field(default_factory=lambda: MAGNITUDE_L1)
    augment: Mapping[str, Any] = field(default_factory=dict)  # settings of `sepkit.data.augment`
    # initial weights: None = random; "umxhq" = published; a file = its; else that experiment's best checkpoint of the seed and fold
    start_from: str | None = None
    weights_of: str | None = None  # the experiment whose weights are used as they are; nothing is trained
    epochs: int = 20
    patience: int = 3
    learning_rate: float | None = None  # None takes the profile's, here and for remix and sample_rate
    weight_decay: float = 0.01
    max_segment_s: float | None = None  # clips are no longer than this under any profile
    remix: float | None = None  # share of the training clips whose stems come from several songs
    stems: bool = False  # make clips from four stems, each remixed and augmented separately, not from two sources
    sample_rate: int | None = None  # Hz
    # shorter clips first: (share of the epochs, share of the clip length); batches grow to match
    curriculum: tuple[tuple[float, float], ...] = ()
    ema: float | None = None  # decay of the average of the weights that is validated and kept; None: the last weights
    sampling: str = "balanced"
    default_week: bool = False  # part of the default week of 8 GPU-hours
    plan_min: float | None = None  # the plan's own GPU minutes, illustrative
    t4_step_s: float = 0.2  # estimated seconds of a training step on a T4, with the plan's settings
    variant_of: str | None = None  # of an ablation, which runs only where it is picked: the experiment that it changes
    # its own settings under a profile: {"demo": {"training": {…}, "model": {…}, "start_from": …}, …}
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    called: str = ""  # what names it in a call, where its own name does not: package.module:NAME
    changes: Mapping[str, Any] = field(default_factory=dict)  # {"training.batch_size": 4, …} of `with_changes`


def with_weights(experiment: Experiment, file: Path | str | None) -> Experiment:
    """`experiment` on the network in a checkpoint of openunmix or demucs, from its weights, under a name of its own; None changes nothing."""
    if file is None:
        return experiment
    file = Path(file).expanduser().absolute()
    from sepkit.models.files import read_weights  # with torch, which the menu alone does not need

    changes = {f"model.{name}": value for name, value in read_weights(file)[0].items()} | {"start_from": str(file)}
    return replace(experiment, name=f"{experiment.name}+{file.stem}", changes=changes)


def resolve(experiment: Experiment, profile: Profile) -> dict[str, Any]:
    """All settings of a run as plain data: the profile's, the experiment's, its own under that profile, its changes."""
    own, changes, model = experiment.profiles.get(profile.name, {}), experiment.changes, experiment.model
    network, loss = changes.get("model.name", model["name"]), changes.get("loss.name", experiment.loss["name"])
    training = _changed(
        "training",
        changes,
        {
            "epochs": min(experiment.epochs, profile.epochs or experiment.epochs),
            "patience": profile.patience or experiment.patience,
            "learning_rate": experiment.learning_rate or profile.learning_rate or LEARNING_RATE,
            "weight_decay": experiment.weight_decay,
            "batch_size": profile.batch_size,
            "steps_per_epoch": profile.steps_per_epoch,
            "segment_s": min(profile.segment_s, experiment.max_segment_s or profile.segment_s),
            "valid_segments": profile.valid_segments,
            "valid_segment_s": profile.segment_s,  # validation clips are the same for all experiments
            "sampling": experiment.sampling,
            "remix": profile.remix if experiment.remix is None else experiment.remix,
            "stems": experiment.stems,
            "augment": dict(experiment.augment),
            "ema": experiment.ema,
            "cache_kind": profile.cache_kind,
            "bfloat16": profile.bfloat16,
            **own.get("training", {}),
        },
    )
    shorter = [  # [[epochs, seconds], …]
        [round(share * training["epochs"]), length * training["segment_s"]] for share, length in experiment.curriculum
    ]
    return {
        "experiment": experiment.name,
        "profile": profile.name,
        # settings of another network or loss than the changes name are not its own
        "model": _changed(
            "model",
            changes,
            {
                "name": network,
                "sample_rate": experiment.sample_rate or profile.sample_rate,
                **profile.models.get(network, {}),
                **({**model, **own.get("model", {})} if network == model["name"] else {}),
            },
        ),
        "loss": _changed("loss", changes, experiment.loss if loss == experiment.loss["name"] else {}),
        "start_from": changes.get("start_from", own.get("start_from", experiment.start_from)),
        "weights_of": experiment.weights_of,
        "training": {"curriculum": shorter or None, **training},
    }


def _changed(section: str, changes: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the values of the changes whose names begin with this section."""
    changed = deepcopy(dict(settings))
    for (begin, *path), value in ((name.split("."), value) for name, value in changes.items()):
        if begin == section:
            reduce(dict.__getitem__, path[:-1], changed)[path[-1]] = value
    return changed
