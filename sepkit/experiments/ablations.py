"""Ablations: each changes one setting of an experiment of the week; `train NAME` runs them, no week does."""

from collections.abc import Mapping
from typing import Any

from sepkit.experiments.menu import WEEK
from sepkit.experiments.settings import ONE_LEVEL, Experiment, preview
from sepkit.profiles import STEMS

DEFAULT_ELSEWHERE = "the default in openunmix and Demucs; its gain is not known"


def variant(of: str, name: str, change: str, hypothesis: str, **settings: Any) -> Experiment:
    """The week's experiment `of` with other `settings`; a mapping without a name of its own adds to the old one."""
    base = next(experiment for experiment in WEEK if experiment.name == of)
    facts = {
        "name": name, "change": change, "hypothesis": hypothesis, "plan": Experiment.plan, "extras": change,
        "literature": Experiment.literature, "default_week": False, "plan_min": None, "variant_of": of,
    }  # fmt: skip
    return Experiment(**_merged({**vars(base), **facts}, settings))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    added = {key: value for key, value in new.items() if isinstance(value, Mapping) and "name" not in value}
    return {**old, **new, **{key: _merged(old.get(key, {}), value) for key, value in added.items()}}


# fmt: off
ABLATIONS = (
    variant("Base", "Base-2048", "STFT 2048/512", "Bins of 22 Hz tell voices from other instruments better than bins of 43 Hz.",
        model={"n_fft": 2048, "hop_length": 512}, profiles=preview(54)),
    variant("Base", "Base-4096", "STFT 4096/1024",
        "Bins of 11 Hz, as umxhq's, resolve a voice's harmonics; frames 23 ms apart are enough.",
        literature="openunmix's own choice (Stöter et al., JOSS 2019), without a comparison",
        model={"n_fft": 4096, "hop_length": 1024}, t4_step_s=0.15, profiles=preview(74)),
    variant("Base", "Base-uniform", "uniform sampling: clips with and without vocals as often as songs have them",
        "Balanced clips, with vocals in every batch, teach more than songs as they are.",
        literature="removing silence entirely cost 0.5 dB (magronp/bsrnn, arXiv 2603.09187)",
        extras="uniform sampling", sampling="uniform"),
    variant("Base", "Base-flat", "α flat",
        "Weighting the low bins, where the energy is, gives more than equal weights.", loss={"alpha": "flat"}),
    variant("Base", "Base-sqrt", "α √f", "The plan's √f, which weights 10 kHz ten times 100 Hz, loses where the energy is.",
        plan="more weight on low frequencies, which √f does not give", loss={"alpha": "sqrt"}),
    variant("Base", "Base-loud", "training clips as loud as they are; one level in separation alone",
        "Clips of all levels add variety that the training songs lack.",
        extras="clips as loud as they are", model={"levelled": "separation"}),
    variant("Base", "Base-relu", "ReLU mask, as openunmix's",
        "A mask without an upper bound helps in bins whose ideal mask is above 1.",
        literature="22 % of bins have an ideal mask above 1 (Kong et al., arXiv 2109.05418)",
        extras="ReLU mask", model={"mask_bound": "relu"}),
    variant("Base", "Base-clamp", "mask clamped to 0 … 1",
        "A clamp has no gradient where the mask is below 0 or above 1, so it learns more slowly.",
        extras="clamped mask", model={"mask_bound": "clamp"}),
    variant("Base", "Base-32k", "training at 32 kHz; scores stay at 44.1 kHz", "Nothing above 16 kHz is worth its training time.",
        literature="within 0.1 dB expected: umxhq itself uses nothing above 16 kHz", extras="32 kHz", sample_rate=32000,
        t4_step_s=0.15, profiles=preview(43)),
    variant("Base", "Base-remix0", "no remixing", "Vocals over other songs' accompaniments make up for few training songs.",
        literature=f"random remixing is {DEFAULT_ELSEWHERE}", remix=0.0),
    variant("Base", "Base-remix1", "remixing: every clip's stems come from several songs",
        "Vocals over other songs' accompaniments make up for few training songs.",
        literature=f"random remixing is {DEFAULT_ELSEWHERE}", extras="remixing", remix=1.0),
    variant("Base", "D-gain", "gains ±6 dB on each stem of a training clip",
        "Stems at other levels add mixes that the training songs lack.",
        literature=f"gains of 0.25 to 1.25 are {DEFAULT_ELSEWHERE}", extras="gains ±6 dB", augment={"gain_db": 6.0}),
    variant("Base", "D-swap", "each stem of a training clip has its channels swapped half of the time",
        "An instrument's side says nothing about what it is.",
        literature=DEFAULT_ELSEWHERE, extras="channels swapped", augment={"swap_channels": 0.5}),
    variant("Base", "C-wave", "waveform L1 instead of the loss on magnitudes",
        "A loss on the waveform suits a real mask as well; C2's further gain comes from its mask.",
        literature="+0.2 dB with complex masks (magronp/bsrnn, arXiv 2603.09187)", extras="waveform L1", loss={"name": "waveform_l1"}),
    variant("F", "F-all", "starts from umxhq's weights; trains all layers, batch-norm statistics frozen",
        "The layers below the last one limit what the last layer can learn.",
        literature="0 ± 0.1 dB against umxhq; per-stem fine-tuning of htdemucs +0.14 to +0.66 with 800 more songs",
        extras="fine-tuned, all layers", model={"trainable": "all"}, t4_step_s=0.15),
    variant("A", "A-nolstm", "no BiLSTM: Demucs with three layers and 64 channels, as the package builds it",
        "Without its BiLSTM the network hears 12 ms at once, too little to tell instruments apart.",
        literature="drums −0.80, bass −1.21 dB for full Demucs v2 without its BiLSTM (facebookresearch/demucs, results)",
        extras="no BiLSTM", model={"lstm_layers": 0}, t4_step_s=0.9),
    variant("Base", "Base-4", "four heads on the trunk, with equal weights",
        "The reference for A-4: the same four sources from masks with the mixture's phase.",
        literature="below umxhq's 6.25, 6.04, 5.07 and 4.28 dB for vocals, drums, bass, other (sigsep/open-unmix-pytorch)",
        extras="four heads", model={"name": "openunmix-multitask", "sources": STEMS, **ONE_LEVEL}, t4_step_s=0.25, profiles=preview(22)),
    variant("A", "A-4", "A on vocals, drums, bass and other; compared with Base-4",
        "On four sources too, a network on the waveform keeps transients that a mask smears.", plan="+1 dB SDR on drums and bass",
        literature="full Demucs v2 against UMX: drums +0.99 [0.60, 1.39], bass +1.41 [0.94, 1.90], after 257 GPU-hours",
        extras="four sources", model={"sources": STEMS}, profiles=preview(11)),
    variant("B", "B-wiener", "B's weights without more training; its estimates pass openunmix's Wiener filter once",
        "With estimates of both sources, a Wiener filter can use their places in the stereo image.",
        literature="+0.3 dB with four targets, +2.1 for the accompaniment (sigsep/open-unmix-pytorch #7, #34)",
        extras="two heads, Wiener", model={"wiener": True}, weights_of="B"),
    variant("Best", "Best-long", "2.25 times the epochs",
        "Augmented clips never repeat exactly, so more epochs than Best's keep helping.", epochs=45, profiles=preview(56)),
    variant("Best", "Best-average", "an exponential average of the weights, decay 0.995, is validated and kept",
        "The average of the last weights generalises better than each of them.", extras="averaged weights", ema=0.995),
)
# fmt: on
