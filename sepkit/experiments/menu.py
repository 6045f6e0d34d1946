"""The menu: every row as data, one entry each.

Adding an experiment is adding an entry: it says its hypothesis, its one change against Base, what
the plan and the literature expect, and the settings in which it differs.
"""

from collections.abc import Iterable

from sepkit.errors import UsageError
from sepkit.experiments.ablations import variants
from sepkit.experiments.settings import Experiment
from sepkit.profiles import Profile

# α(f) of the loss on magnitudes: chosen once on the preview's validation songs (LOG.md), for all rows
ALPHA = "inverse_sqrt"


PITCH = {"pitch_semitones": 2.0}
TEMPO = {"tempo": 0.1}

BASE = "Base"
BASES = {"2stem": BASE, "4stem": "Base-4"}  # what the experiments of a protocol are tested against
REFERENCES = ("mixture", "oracle")  # scored without training; the mixture itself, and the ideal ratio mask

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
        loss_settings={"alpha": ALPHA},
        default_week=True,
    )
)
_add(
    Experiment(
        name="UMX",
        day=2,
        title="Open-Unmix as published, trained from the start",
        hypothesis="openunmix's own recipe (BiLSTM, STFT 4096/1024, unbounded mask, squared error) is the reference for F.",
        change="openunmix's network and loss; where umxhq's weights can't be had, F starts from this row",
        plan="not in the plan",
        literature="under 6.25 dB (umxhq: up to 1000 epochs, best of 4 seeds; sigsep/open-unmix-pytorch)",
        backbone="Open-Unmix (BiLSTM)",
        extras="squared error",
        model="umxhq",
        model_settings={"trainable": "all", "frozen_statistics": False},
        loss="magnitude_mse",
        learning_rate=1e-3,
        weight_decay=1e-5,
        t4_step_s=0.15,
    )
)
_add(
    Experiment(
        name="F",
        day=2,
        title="umxhq, last layer fine-tuned",
        hypothesis="A network trained for longer than this week affords gains from a few more epochs of its last BiLSTM layer.",
        change="starts from umxhq's weights; only its last BiLSTM layer learns, batch-norm statistics stay frozen",
        plan="+0.8 dB SDR",
        literature="0 ± 0.1 dB against umxhq itself, which has seen these songs already; UMXL's +0.96 came from private data",
        backbone="umxhq (BiLSTM)",
        extras="fine-tuned",
        model="umxhq",
        model_settings={"trainable": "last_layer"},
        loss="magnitude_mse",  # umxhq's own: another loss would move it for a reason of its own
        start_from="umxhq",
        epochs=10,
        learning_rate=1e-5,
        default_week=True,
        t4_step_s=0.1,
    )
)
_add(
    Experiment(
        name="C",
        day=3,
        title="Phase-aware loss",
        hypothesis="A loss on the phase that is heard after iSTFT and STFT leaves fewer artefacts.",
        change="adds 0.1 · (1 − cos Δφ) on a random half of the bins to the loss",
        plan="higher SAR",
        literature="0 ± 0.1 dB: a real mask moves that phase by 0.006 to 0.021 in 1 − cos, of 0.29; SAR alone can be gamed",
        extras="phase loss",
        loss="magnitude_phase",
        loss_settings={"alpha": ALPHA},
        t4_step_s=0.25,
    )
)
_add(
    Experiment(
        name="C2",
        day=3,
        title="Complex mask, waveform loss",
        hypothesis="A mask that can turn the phase, trained on what is heard, does what C's loss alone can't.",
        change="a complex mask, not bounded, the spectrum's real and imaginary part as input besides, waveform L1",
        plan="not in the plan; the fair test of C's hypothesis, higher SAR",
        literature="+0.2 dB (waveform or complex L1 with complex masks: magronp/bsrnn, arXiv 2603.09187)",
        domain="STFT complex mask",
        extras="waveform L1",
        model="openunmix-complex",
        loss="waveform_l1",
        t4_step_s=0.25,
    )
)
_add(
    Experiment(
        name="D-pitch",
        day=3,
        title="Augmentation: pitch",
        hypothesis="Songs moved by up to two semitones stand in for singers and keys that the training songs lack.",
        change="each training clip's stems are shifted together by up to ±2 semitones",
        plan="+0.3 dB SDR, with D-time",
        literature="−0.1 to +0.2 dB at 20 epochs (Demucs v2, pitch and tempo: +0.34 [0.19, 0.53] after 180 epochs)",
        extras="pitch ±2",
        loss_settings={"alpha": ALPHA},
        augment=PITCH,
    )
)
_add(
    Experiment(
        name="D-time",
        day=3,
        title="Augmentation: tempo",
        hypothesis="Songs played 10 % slower or faster stand in for rhythms that the training songs lack.",
        change="each training clip's stems are played together at 0.9 to 1.1 times their tempo",
        plan="+0.3 dB SDR, with D-pitch",
        literature="−0.1 to +0.2 dB at 20 epochs (Demucs v2, pitch and tempo: +0.34 [0.19, 0.53] after 180 epochs)",
        extras="tempo ±10 %",
        loss_settings={"alpha": ALPHA},
        augment=TEMPO,
    )
)
_add(
    Experiment(
        name="C+D",
        day=3,
        title="Phase-aware loss and augmentation",
        hypothesis="The phase loss and the augmentation, pitch and tempo, add up.",
        change="C's loss, and the stems of D-pitch and D-time",
        plan="higher SAR and +0.3 dB SDR",
        literature="−0.1 to +0.2 dB: the sum of two effects near zero",
        extras="phase loss, pitch ±2, tempo ±10 %",
        loss="magnitude_phase",
        loss_settings={"alpha": ALPHA},
        augment={**PITCH, **TEMPO},
        epochs=15,
        default_week=True,
        t4_step_s=0.25,
    )
)
_add(
    Experiment(
        name="A",
        day=4,
        title="Demucs-tiny, waveform",
        hypothesis="A network on the waveform keeps transients that a mask on the mixture's phase smears.",
        change="Demucs with three layers, 64 channels and a BiLSTM, trained on waveforms",
        plan="+1 dB SDR on drums and bass",
        literature="−3 to 0 dB (full Demucs v2 against UMX: vocals +0.73 [0.25, 1.43], after 257 GPU-hours)",
        backbone="Demucs-tiny",
        domain="waveform",
        model="demucs-tiny",
        loss="waveform_l1",
        epochs=15,
        max_segment_s=6.0,
        default_week=True,
        t4_step_s=2.2,
    )
)
_add(
    Experiment(
        name="G",
        day=4,
        title="Band-split recurrent network",
        hypothesis="Recurrence over narrow bands shares what it learns across pitch and level, where Base's layers see all bins at once.",
        change="a band-split BiLSTM network at STFT 4096/1024 with a complex mask, L1 on spectrum and waveform",
        plan="not in the plan",
        literature=(
            "+1.5 dB and more after long training (magronp/bsrnn, arXiv 2603.09187: 7.7 to 8.6 dB uSDR on validation; "
            "the full BSRNN 10.01, arXiv 2209.15174); unknown at 20 epochs"
        ),
        backbone="Band-split RNN, small",
        domain="STFT complex mask",
        extras="spectrum and waveform L1",
        model="band-split",
        loss="spectrum_waveform_l1",
        t4_step_s=0.5,
    )
)
_add(
    Experiment(
        name="H",
        day=4,
        title="TFC-TDF U-Net",
        hypothesis="Convolutions over time and frequency learn from few songs what recurrent layers need many for.",
        change="a convolutional U-Net at STFT 4096/1024 that gives the spectrum itself, L1 on spectrum and waveform",
        plan="not in the plan",
        literature="after long training 10.12 dB with recurrent layers besides (DTTNet, arXiv 2309.08684); unknown at 20 epochs",
        backbone="TFC-TDF U-Net, small",
        domain="STFT spectrum",
        extras="spectrum and waveform L1",
        model="tfc-tdf",
        loss="spectrum_waveform_l1",
        t4_step_s=0.25,
    )
)
_add(
    Experiment(
        name="B",
        day=5,
        title="Two heads, vocals and accompaniment",
        hypothesis="Learning the accompaniment besides teaches the shared trunk what is not voice.",
        change="a second head for the accompaniment, at half the loss weight",
        plan="+0.5 dB SDR",
        literature="0 ± 0.3 dB (X-UMX 6.61 against 6.32; an independent version 5.53 against 6.14)",
        extras="two heads",
        model="openunmix-multitask",
        loss_settings={"alpha": ALPHA, "weights": (1.0, 0.5)},
        t4_step_s=0.22,
    )
)
_add(
    Experiment(
        name="E",
        day=5,
        title="Length curriculum",
        hypothesis="Many short clips at first show more songs a second of sound, so the network settles sooner.",
        change="clips half as long in batches twice as large for the first quarter of the epochs",
        plan="the same SDR in less time",
        literature="0 ± 0.2 dB; no study of a clip-length curriculum for separation was found",
        extras="curriculum",
        loss_settings={"alpha": ALPHA},
        curriculum=((0.25, 0.5),),
    )
)


# What validation songs chose, LOG.md: change these settings, and nothing else, when they choose otherwise.
_add(
    Experiment(
        name="Best",
        day=6,
        title="The best settings of the week",
        hypothesis="What helped one at a time on the validation songs helps together.",
        change="H's network and loss, all clips remixed, half of them with another pitch and tempo",
        plan="the best of the rows before",
        literature="H's, and +0.3 dB for pitch and tempo after long training (Demucs v2)",
        backbone="TFC-TDF U-Net, small",
        domain="STFT spectrum",
        extras="spectrum and waveform L1, remixed, pitch ±2, tempo ±10 %",
        model="tfc-tdf",
        loss="spectrum_waveform_l1",
        augment={**PITCH, **TEMPO, "probability": 0.5},
        remix=1.0,
        t4_step_s=0.25,
    )
)

MENU.update({row.name: row for row in variants(MENU)})


def week_rows() -> list[str]:
    """The rows that a week can run: all but the ablations."""
    return [name for name, experiment in MENU.items() if not experiment.ablation]


def picked_rows(pick: Iterable[str] | None, profile: Profile) -> list[str]:
    """The rows of a week: those of `pick`; where nobody picks, all that a week can run, with the full profile
    the default week.

    Raises UsageError for an unknown name.
    """
    if pick is not None:
        return [get_experiment(name).name for name in pick]
    return [name for name in week_rows() if profile.name != "full" or MENU[name].default_week]


def get_experiment(name: "str | Experiment") -> Experiment:
    """The menu's entry; UsageError for an unknown name."""
    if isinstance(name, Experiment):
        return name
    if name not in MENU:
        raise UsageError(f"There is no experiment {name!r}; expected one of {', '.join(MENU)}.")
    return MENU[name]
