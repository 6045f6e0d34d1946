"""Three profiles, the same notebooks: which songs, how long, how wide.

Every number that sepkit makes carries its profile's name, and `reduced` says what the profile
changes against the plan.  A profile never changes what an experiment is about.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sepkit.errors import UsageError

SAMPLE_RATE = (
    44100  # Hz: of MUSDB18-HQ, of every score, and of a network unless its experiment says otherwise
)
# the sources that are scored together, by the protocol's name; the first is the one that the week is about
PROTOCOLS = {"2stem": ("vocals", "accompaniment"), "4stem": ("vocals", "drums", "bass", "other")}
STEMS = PROTOCOLS["4stem"]


@dataclass(frozen=True)
class Profile:
    """Settings that belong to the songs and the machine rather than to an experiment.

    sample_rate: Hz, of the training cache; scores are always measured at the songs' own rate.
    segment_s, batch_size, steps_per_epoch: seconds and counts of one training epoch.
    valid_segments: fixed validation segments a song.
    epochs: at most as many; None leaves it to the experiment.
    patience: epochs without improvement that end a run; None leaves it to the experiment.
    learning_rate: of rows that name none; None leaves it to the plan.
    remix: share of the training clips whose stems come from two songs.
    cache_kind: wave or stft, what training reads (day 1 measures both).
    bfloat16: whether training on a CPU that gains from it runs in mixed precision too, as it always does on a GPU.
    models: what changes in a network, by its name, whichever row trains it; a row's own settings go before.
    rows: what changes in single rows of the menu, and in the ablations of these:
        {row: {"training": …, "start_from": …}}.
    """

    name: str
    songs: str
    reduced: str
    sample_rate: int = SAMPLE_RATE
    segment_s: float = 6.0
    batch_size: int = 8
    steps_per_epoch: int = 300
    valid_segments: int = 4
    epochs: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    remix: float = 0.0
    cache_kind: str = "wave"
    bfloat16: bool = False
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# networks narrow enough for the demo's minutes
DEMO_MODELS = {
    "openunmix-small": {"hidden_size": 128},
    "openunmix-complex": {"hidden_size": 128},
    "openunmix-multitask": {"hidden_size": 128},
    "umxhq": {"hidden_size": 128},
    "demucs-tiny": {"channels": 8, "resample": False},
    "band-split": {
        "n_fft": 2048, "hop_length": 1024, "features": 24, "hidden_size": 24, "layers": 2, "mask_hidden_size": 48,
    },
    "tfc-tdf": {"n_fft": 2048, "hop_length": 512, "bins": 512, "features": 16, "growth": 8},
}  # fmt: skip

# on a CPU: batches that fit into memory (A) and into the processor's cache (H), where a step takes an eighth
SHORT_CLIPS = MappingProxyType(
    {"batch_size": 4, "segment_s": 3.0, "steps_per_epoch": 40, "learning_rate": 2e-3}
)
PREVIEW_CLIPS = {"A": {"batch_size": 2, "segment_s": 3.0}, "H": SHORT_CLIPS, "Best": SHORT_CLIPS}
# 20 CPU minutes a row on one core of an AMD EPYC: `plan --minutes` measures them
PREVIEW_EPOCHS = {
    "Base": 31, "UMX": 93, "C": 24, "C2": 26, "D-pitch": 28, "D-time": 31, "C+D": 22, "A": 24, "G": 44, "H": 25,
    "B": 27, "E": 33, "Best": 25, "Base-2048": 54, "Base-4096": 74, "Base-32k": 43, "Best-long": 56,
}  # fmt: skip

PROFILES = {
    "demo": Profile(
        name="demo",
        songs="procedural songs, 18 train / 4 validation / 12 test",
        reduced=(
            "synthetic songs; networks at 22.05 kHz with 128 hidden units, 1.5 s clips, at most 8 epochs of 20 steps, "
            "patience 8, learning rates of their own; Demucs-tiny with 8 channels, a narrow G, H and Best on 4 clips a step; F "
            "starts from UMX instead of umxhq"
        ),
        sample_rate=22050,
        segment_s=1.5,
        steps_per_epoch=20,
        valid_segments=4,
        epochs=8,
        patience=8,
        learning_rate=3e-3,
        models=DEMO_MODELS,
        rows={
            "UMX": {"training": {"learning_rate": 4e-3}},
            "F": {"start_from": "UMX", "training": {"learning_rate": 2e-4}},
            "A": {"training": {"learning_rate": 2e-2}},
            "G": {"training": {"learning_rate": 5e-3}},
            **{row: {"training": {"batch_size": 4, "learning_rate": 5e-3}} for row in ("H", "Best")},
        },
    ),
    "preview": Profile(
        name="preview",
        songs="MUSDB18 7-second excerpts, 80 train / 14 validation / 50 test",
        reduced=(
            "9 minutes of music; 10 steps an epoch (H and Best 40 on clips of 3 s in batches of 4, A 10 in batches of 2), "
            "as many epochs as 20 minutes of one core allow, learning rates of 1e-3 to 3e-3, no early stopping (an "
            "epoch is too short to judge), half of the clips remixed from two songs (Best all), bfloat16 mixed on a CPU "
            "that gains from it"
        ),
        steps_per_epoch=10,
        valid_segments=1,
        patience=100,
        learning_rate=3e-3,
        remix=0.5,
        bfloat16=True,
        rows={
            row: {"training": {**PREVIEW_CLIPS.get(row, {}), "epochs": epochs}}
            for row, epochs in PREVIEW_EPOCHS.items()
        },
    ),
    "full": Profile(
        name="full",
        songs="MUSDB18-HQ, 86 train / 14 validation / 50 test",
        reduced="nothing: the plan's settings",
    ),
}


def get_profile(name: "str | Profile | None" = None) -> Profile:
    """The profile `name`, or the one that SEPKIT_PROFILE names, or demo.

    Raises UsageError for an unknown name.
    """
    if isinstance(name, Profile):
        return name
    name = name or os.environ.get("SEPKIT_PROFILE") or "demo"
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}; expected one of {', '.join(PROFILES)}.")
    return PROFILES[name]
