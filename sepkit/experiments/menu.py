"""The week's experiments, one entry each: what it changes against Base, why, what to expect, its settings.

To add an experiment, add an entry; its own settings under a profile (preview epochs, demo settings) are in it.
The preview's epochs take 20 CPU minutes on one core of an AMD EPYC; `plan --minutes` measures them.
"""

from typing import Any

from sepkit.experiments.settings import FREQUENCY_WEIGHT, MAGNITUDE_L1, ONE_LEVEL, Experiment, preview

BASE = "Base"
BASES = {"2stem": BASE, "4stem": "Base-4"}  # what the experiments of a protocol are tested against
BOUNDS = ("mixture", "oracle")  # between which a system lies: the mixture itself, and the ideal ratio mask
REFERENCES = (*BOUNDS, "umxhq")  # scored without training; the last has published weights
UMXHQ = "umxhq: the plan expects 5.2 dB and names no protocol; published are 6.25 dB (four stems, Wiener filter, 50 whole songs; Stöter et al. 2019), and vocals with the residual, as here (2stem), read 5.4 to 5.6 dB there"

PITCH, TEMPO = {"pitch_semitones": 2.0}, {"tempo": 0.1}
PHASE = {"name": "magnitude_phase", "alpha": FREQUENCY_WEIGHT}
D_GAIN = "−0.1 to +0.2 dB at 20 epochs (Demucs v2, pitch and tempo: +0.34 [0.19, 0.53] after 180 epochs)"
# On a CPU small batches fit into the processor's cache, where a step of this network takes an eighth of the time.
# Networks that make their estimate from nothing stay silent for long where half of the clips have no vocals, so of the
# demo's songs they take those that have; none of the preview's clips is without (LOG.md).
# fmt: off
TFC_TDF: dict[str, Any] = {
    "backbone": "TFC-TDF U-Net, small", "domain": "STFT spectrum", "model": {"name": "tfc-tdf"},
    "loss": {"name": "spectrum_waveform_l1"}, "t4_step_s": 0.25,
    "profiles": {
        "demo": {"training": {"batch_size": 2, "steps_per_epoch": 40, "learning_rate": 3e-3, "sampling": "vocals"}},
        "preview": {"training": {
            "epochs": 25, "batch_size": 4, "segment_s": 3.0, "steps_per_epoch": 40, "learning_rate": 2e-3}},
    },
}

WEEK = (
    Experiment("Base", day=1, change="Open-Unmix-small: a sigmoid mask on the mixture's STFT 1024/256, heard at one level",
        hypothesis="Three bidirectional GRU layers on STFT magnitudes separate vocals well enough to compare with.",
        plan="4.8 dB SDR, 5.1 dB SI-SDR", literature="3.5 to 5 dB at 20 epochs on MUSDB18-HQ (umxhq: 6.25 dB after up to 1000 epochs)",
        default_week=True, plan_min=35, profiles=preview(31)),
    Experiment("UMX", day=2, backbone="Open-Unmix (BiLSTM)", extras="squared error",
        change="openunmix's own network and loss, trained from random weights; F starts from it where umxhq is absent",
        hypothesis="openunmix's recipe (BiLSTM, STFT 4096/1024, unbounded mask, squared error) is the reference for F.",
        literature="under 6.25 dB (umxhq: up to 1000 epochs, best of 4 seeds; sigsep/open-unmix-pytorch)",
        model={"name": "umxhq", "trainable": "all", "frozen_statistics": False}, loss={"name": "magnitude_mse"}, learning_rate=1e-3,
        weight_decay=1e-5, t4_step_s=0.15,
        profiles={"demo": {"training": {"steps_per_epoch": 24, "learning_rate": 4e-3}}, **preview(93)}),
    Experiment("F", day=2, backbone="umxhq (BiLSTM)", extras="fine-tuned",
        change="starts from umxhq's weights; trains only its last BiLSTM layer, batch-norm statistics frozen",
        hypothesis="A network trained for longer than a week allows gains from a few more epochs of its last layer.",
        plan="+0.8 dB SDR",
        literature="0 ± 0.1 dB against umxhq, which was trained on these songs; UMXL's +0.96 came from private data",
        model={"name": "umxhq", "trainable": "last_layer"},
        loss={"name": "magnitude_mse"},  # umxhq's own: with another loss two things would change
        start_from="umxhq", epochs=10, learning_rate=1e-5, default_week=True, plan_min=45, t4_step_s=0.1,
        profiles={
            "demo": {"start_from": "UMX", "training": {"learning_rate": 2e-4}}, "full-32k": {"start_from": "UMX"}}),
    Experiment("C", day=3, extras="phase loss", change="adds 0.1 · (1 − cos Δφ) on a random half of the bins to the loss",
        hypothesis="A loss on the phase after iSTFT and STFT leaves fewer artefacts.", plan="higher SAR",
        literature="0 ± 0.1 dB: a real mask changes that phase term by 0.006 to 0.021, of 0.29; SAR alone can be gamed", loss=PHASE,
        t4_step_s=0.25, profiles=preview(24)),
    Experiment("C2", day=3, domain="STFT complex mask", extras="waveform L1",
        change="an unbounded complex mask, real and imaginary parts as further input, waveform L1",
        hypothesis="A mask that can change the phase, trained on the waveform, achieves what C's loss alone can't.",
        plan="not in the plan; the fair test of C's hypothesis, higher SAR",
        literature="+0.2 dB (waveform or complex L1 with complex masks: magronp/bsrnn, arXiv 2603.09187)",
        model={"name": "openunmix-complex", **ONE_LEVEL}, loss={"name": "waveform_l1"}, t4_step_s=0.25,
        profiles={"demo": {"training": {"steps_per_epoch": 24}}, **preview(26)}),
    Experiment("D-pitch", day=3, extras="pitch ±2", change="each training clip's stems are shifted together by up to ±2 semitones",
        hypothesis="Songs shifted by up to two semitones add singers and keys that the training songs lack.",
        plan="+0.3 dB SDR, with D-time", literature=D_GAIN, augment=PITCH, profiles=preview(28)),
    Experiment("D-time", day=3, extras="tempo ±10 %",
        change="each training clip's stems are played together at 0.9 to 1.1 times their tempo",
        hypothesis="Songs played 10 % slower or faster add rhythms that the training songs lack.", plan="+0.3 dB SDR, with D-pitch",
        literature=D_GAIN, augment=TEMPO, profiles=preview(31)),
    Experiment("C+D", day=3, extras="phase loss, pitch ±2, tempo ±10 %", change="C's loss and the augmentation of D-pitch and D-time",
        hypothesis="The gains of the phase loss and of both augmentations add up.", plan="higher SAR and +0.3 dB SDR",
        literature="−0.1 to +0.2 dB: the sum of two effects near zero", loss=PHASE, augment={**PITCH, **TEMPO}, epochs=15,
        default_week=True, plan_min=40, t4_step_s=0.25, profiles=preview(22)),
    Experiment("A", day=4, backbone="Demucs-tiny", domain="waveform",
        change="Demucs with three layers, 64 channels and a BiLSTM, trained on waveforms",
        hypothesis="A network on the waveform keeps transients that a mask with the mixture's phase smears.",
        plan="+1 dB SDR on drums and bass",
        literature="−3 to 0 dB (full Demucs v2 against UMX: vocals +0.73 [0.25, 1.43], after 257 GPU-hours)",
        model={"name": "demucs-tiny"}, loss={"name": "waveform_l1"},
        epochs=15, max_segment_s=6.0, default_week=True, plan_min=80, t4_step_s=2.2,
        profiles={
            "demo": {"training": {"steps_per_epoch": 16, "learning_rate": 2e-2, "sampling": "vocals"}},
            "preview": {"training": {"epochs": 24, "batch_size": 2, "segment_s": 3.0}},  # for a CPU's memory
        }),
    Experiment("G", day=4, backbone="Band-split RNN, small", domain="STFT complex mask", extras="spectrum and waveform L1",
        change="a band-split BiLSTM network at STFT 4096/1024 with a complex mask, L1 on spectrum and waveform",
        hypothesis="Recurrence over narrow bands generalises over pitch and level; Base's layers see all bins at once.",
        literature="+1.5 dB and more after long training (magronp/bsrnn, arXiv 2603.09187: 7.7 to 8.6 dB uSDR on validation; the full BSRNN 10.01, arXiv 2209.15174); unknown at 20 epochs",
        model={"name": "band-split"}, loss={"name": "spectrum_waveform_l1"}, t4_step_s=0.5,
        profiles={"demo": { "training": {"batch_size": 4, "steps_per_epoch": 30, "learning_rate": 5e-3, "sampling": "vocals"}}, **preview(44)}),
    Experiment("H", day=4, extras="spectrum and waveform L1", **TFC_TDF,
        change="a convolutional U-Net at STFT 4096/1024 that predicts the spectrum, L1 on spectrum and waveform",
        hypothesis="Convolutions over time and frequency need fewer songs than recurrent layers.",
        literature="10.12 dB after long training, with recurrent layers (DTTNet, arXiv 2309.08684); unknown at 20 epochs"),
    Experiment("B", day=5, extras="two heads", change="a second head for the accompaniment, at half the loss weight",
        hypothesis="Learning the accompaniment too teaches the shared trunk what is not voice.", plan="+0.5 dB SDR",
        literature="0 ± 0.3 dB (X-UMX 6.61 against 6.32; an independent version 5.53 against 6.14)",
        model={"name": "openunmix-multitask", **ONE_LEVEL}, loss={**MAGNITUDE_L1, "weights": (1.0, 0.5)}, t4_step_s=0.22,
        profiles=preview(27)),
    Experiment("E", day=5, extras="curriculum",
        change="clips half as long in batches twice as large for the first quarter of the epochs",
        hypothesis="Many short clips at first show more songs a second of sound, so training converges sooner.",
        plan="the same SDR in less time", literature="0 ± 0.2 dB; no study of a clip-length curriculum for separation was found",
        curriculum=((0.25, 0.5),), profiles=preview(33)),
    # chosen on validation songs (LOG.md); when they choose otherwise, change this entry only
    Experiment("Best", day=5, extras="spectrum and waveform L1, remixed, pitch ±2, tempo ±10 %", **TFC_TDF,
        change="H's network and loss, all clips remixed, half of them with another pitch and tempo",
        hypothesis="Changes that help separately on the validation songs help together.", plan="the best of the experiments before",
        literature="H's, and +0.3 dB for pitch and tempo after long training (Demucs v2)",
        augment={**PITCH, **TEMPO, "probability": 0.5}, remix=1.0),
)
# fmt: on
