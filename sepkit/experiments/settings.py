"""What a row of the menu is, and what it becomes under a profile: the settings of a run, as config.json keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sepkit.profiles import Profile

LEARNING_RATE = 3e-4  # the plan's, for AdamW


@dataclass(frozen=True)
class Experiment:
    """One row of the menu.

    plan: the gain on vocals that the plan expects; literature: what is realistic, with its source.
    backbone, domain, extras: how the scoreboard words it.
    model, loss: a name and the settings that differ from its defaults.
    augment: settings of `sepkit.data.augment`; empty for none.
    start_from: what the weights are before training: None drawn from the seed, "umxhq" the
        published ones, otherwise those of this menu row, of the same seed and fold.
    weights_of: the row whose weights it takes as they are, of the same seed and fold; nothing is trained.
    learning_rate: None leaves it to the profile, then to `LEARNING_RATE`.
    max_segment_s: clips are no longer than this, whatever the profile says.
    remix: share of the clips whose stems come from several songs; None leaves it to the profile.
    stems: whether clips are made of the four stems, each remixed and augmented by itself, instead of vocals and
        accompaniment.
    sample_rate: Hz, of training and network; None leaves it to the profile.
    curriculum: shorter clips at first, as (share of the epochs, share of the usual length) in turn;
        the batch grows by as much as the clips shrink.
    ema: decay of the average of the weights that is validated and kept; None keeps the last ones.
    default_week: whether a week of 8 GPU-hours holds it where nobody picks.
    variant_of: of an ablation, the row that it changes, whose settings in a profile hold for it too.
    t4_step_s: seconds of a step of the full profile on a T4, estimated from its operations, or from an H100's time (A).
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
    start_from: str | None = None
    weights_of: str | None = None
    epochs: int = 20
    patience: int = 3
    learning_rate: float | None = None
    weight_decay: float = 0.01
    max_segment_s: float | None = None
    remix: float | None = None
    stems: bool = False
    sample_rate: int | None = None
    curriculum: tuple[tuple[float, float], ...] = ()
    ema: float | None = None
    sampling: str = "balanced"
    default_week: bool = False
    variant_of: str | None = None
    t4_step_s: float = 0.2

    @property
    def ablation(self) -> bool:
        """A row that no week asks for; `train` runs it by its name."""
        return self.variant_of is not None


def resolve(experiment: Experiment, profile: Profile) -> dict[str, Any]:
    """Every setting of a run as plain data, for config.json: the entry, then what the profile changes."""
    changed: dict[str, Any] = {}
    for row in filter(None, (experiment.variant_of, experiment.name)):
        for key, value in profile.rows.get(row, {}).items():
            changed[key] = {**changed.get(key, {}), **value} if isinstance(value, Mapping) else value
    training = {
        "epochs": min(experiment.epochs, profile.epochs or experiment.epochs),
        "patience": profile.patience or experiment.patience,
        "learning_rate": experiment.learning_rate or profile.learning_rate or LEARNING_RATE,
        "weight_decay": experiment.weight_decay,
        "batch_size": profile.batch_size,
        "steps_per_epoch": profile.steps_per_epoch,
        "segment_s": min(profile.segment_s, experiment.max_segment_s or profile.segment_s),
        "valid_segments": profile.valid_segments,
        "valid_segment_s": profile.segment_s,  # the same clips judge all rows
        "sampling": experiment.sampling,
        "remix": profile.remix if experiment.remix is None else experiment.remix,
        "stems": experiment.stems,
        "augment": dict(experiment.augment),
        "ema": experiment.ema,
        "cache_kind": profile.cache_kind,
        "bfloat16": profile.bfloat16,
        **changed.get("training", {}),
    }
    shorter = [  # [[epochs, seconds], …]
        [round(share * training["epochs"]), length * training["segment_s"]]
        for share, length in experiment.curriculum
    ]
    return {
        "experiment": experiment.name,
        "profile": profile.name,
        "model": {
            "name": experiment.model,
            "sample_rate": experiment.sample_rate or profile.sample_rate,
            **profile.models.get(experiment.model, {}),
            **experiment.model_settings,
        },
        "loss": {"name": experiment.loss, **experiment.loss_settings},
        "start_from": changed.get("start_from", experiment.start_from),
        "weights_of": experiment.weights_of,
        "training": {**training, "curriculum": shorter or None},
    }
