"""The profiles, the same notebooks: which songs, how long, how wide; and what the week's songs are made of.

To add a profile, add an entry; an experiment's own settings under a profile stand in its entry of the menu.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sepkit.errors import UsageError

SAMPLE_RATE = 44100  # Hz: of MUSDB18-HQ, all scores, and networks whose experiment names no other
# The sources that are scored together, by the protocol's name; the first is the week's subject.
PROTOCOLS = {"2stem": ("vocals", "accompaniment"), "4stem": ("vocals", "drums", "bass", "other")}
STEMS = PROTOCOLS["4stem"]


@dataclass(frozen=True)
class Profile:
    """Settings that belong to the songs and the machine rather than to an experiment."""

    name: str
    songs: str  # its songs in words
    reduced: str  # what it changes against the plan, in words
    songs_from: Literal["made", "downloaded", "given"] = "given"  # made here, by musdb, by --data or fetch
    # the plan's songs and settings: its 8 GPU-hours, default week, T4 estimates and expected gains apply
    as_planned: bool = False
    test_songs: int = 50
    valid_songs: int = 14
    song_s: float = 240.0  # mean length of a song
    sample_rate: int = SAMPLE_RATE  # Hz, of the training cache
    scored_at: int = SAMPLE_RATE  # Hz, of scores, estimates and players; songs have 44.1 kHz
    segment_s: float = 6.0  # length of a clip
    batch_size: int = 8
    steps_per_epoch: int = 300
    valid_segments: int = 4  # fixed validation segments a song
    epochs: int | None = None  # upper limit; None leaves it and the patience to the experiment
    patience: int | None = None  # epochs without improvement that end a run
    learning_rate: float | None = None  # for experiments without their own; None takes the plan's
    remix: float = 0.0  # share of the training clips whose stems come from two songs
    cache_kind: str = "wave"  # wave or stft, what training reads (day 1 measures both)
    left_out: tuple[str, ...] = ()  # experiments that a week runs only where they are picked
    bfloat16: bool = False  # train in mixed precision on CPUs that have BF16 instructions, too; GPUs always do
    # settings of networks, by name; an experiment's own take precedence
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# fmt: off
DEMO = Profile(
    name="demo", songs="procedural songs, 24 train / 6 validation / 20 test", songs_from="made", test_songs=20,
    valid_songs=6, song_s=9.0,
    reduced="synthetic songs; narrower networks at 22.05 kHz, Open-Unmix's with two layers and half the frames, 1.5 s "
    "clips, at most 6 epochs of 12 steps (UMX, C2: of 24; A, G, H, Best: of 16 to 40, all clips with vocals), patience "
    "6, higher learning rates; fine-tuning starts from a network trained here instead of umxhq; D-pitch, D-time, G, H and E "
    "run only where they are picked",
    left_out=("D-pitch", "D-time", "G", "H", "E"), sample_rate=22050, segment_s=1.5, steps_per_epoch=12, epochs=6, patience=6, learning_rate=3e-3,
    models={
        "openunmix-small": {"hop_length": 512, "hidden_size": 128, "layers": 2},
        "openunmix-complex": {"hop_length": 512, "hidden_size": 128, "layers": 2},
        "openunmix-multitask": {"hop_length": 512, "hidden_size": 128, "layers": 2},
        "umxhq": {"n_fft": 2048, "hop_length": 1024, "hidden_size": 128},
        "demucs-tiny": {"channels": 8, "resample": False},
        "band-split": {
            "n_fft": 2048, "hop_length": 1024, "features": 32, "hidden_size": 32, "layers": 1, "mask_hidden_size": 48,
        },
        "tfc-tdf": {"n_fft": 2048, "hop_length": 1024, "bins": 512, "features": 16, "growth": 8},
    },
)
PREVIEW = Profile(
    name="preview", songs="MUSDB18 7-second excerpts, 80 train / 14 validation / 50 test", songs_from="downloaded",
    song_s=7.0,
    reduced="9 minutes of music; epochs of 10 steps (the TFC-TDF U-Net: 40 of 4 clips of 3 s, Demucs-tiny: 2 clips of "
    "3 s), as many epochs as fit into 20 minutes of one core, learning rates of 1e-3 to 3e-3, no early stopping (an "
    "epoch is too short to judge), half of the clips remixed from two songs, bfloat16 on CPUs with BF16 instructions",
    steps_per_epoch=10, valid_segments=1, patience=100, learning_rate=3e-3, remix=0.5, bfloat16=True,
)
FULL = Profile(
    name="full", songs="MUSDB18-HQ, 86 train / 14 validation / 50 test", as_planned=True,
    reduced="nothing: the plan's settings",
)
FULL_32K = replace(
    FULL, name="full-32k", sample_rate=32000, scored_at=32000,
    reduced="trained and scored at 32 kHz: nothing above 16 kHz, scores are comparable with those of this profile alone; "
    "F starts from a network trained here instead of umxhq",
)
# fmt: on
PROFILES = {profile.name: profile for profile in (DEMO, PREVIEW, FULL, FULL_32K)}
ProfileLike = str | Profile | None  # of calls: a profile, its name, or None for the default


def get_profile(name: ProfileLike = None) -> Profile:
    """The profile `name`, else the one that SEPKIT_PROFILE names, else demo; UsageError for an unknown name."""
    if isinstance(name, Profile):
        return name
    name = name or os.environ.get("SEPKIT_PROFILE") or "demo"
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}; expected one of {', '.join(PROFILES)}.")
    return PROFILES[name]
