"""The menu's losses: values known by construction, gradients, silence, full scale, mixed precision."""

import math

import pytest
import torch

from sepkit import models
from sepkit.dsp import STFT
from sepkit.errors import UsageError
from sepkit.models.mask import MaskModel
from sepkit.training.losses import LOSSES, frequency_weights, make_loss, phase_loss
from sepkit.training.step import Estimate

RATE = 22050
SMALL = {
    "openunmix-small": {"hidden_size": 16},
    "openunmix-multitask": {"hidden_size": 16},
    "umxhq": {"hidden_size": 16, "n_fft": 1024, "hop_length": 256},
    "demucs-tiny": {"channels": 4, "resample": False},
    "openunmix-complex": {"hidden_size": 16},
    "band-split": {"features": 8, "hidden_size": 8, "layers": 1, "mask_hidden_size": 8},
    "tfc-tdf": {"bins": 256, "features": 4, "growth": 4, "scales": 2},
}
# every loss once, and every network once
PAIRS = [("openunmix-multitask", loss) for loss in LOSSES] + [
    ("openunmix-small", "magnitude_l1"), ("umxhq", "magnitude_mse"), ("demucs-tiny", "waveform_l1"),
    ("openunmix-complex", "waveform_l1"), ("band-split", "spectrum_waveform_l1"), ("tfc-tdf", "spectrum_waveform_l1"),
]  # fmt: skip


def tone(frequency_hz: float, phase: float = 0.0, seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return (0.3 * torch.sin(2 * math.pi * frequency_hz * time + phase)).expand(1, 2, -1)


def noise(seed: int, level: float = 0.1, batch: int = 1, samples: int = RATE) -> torch.Tensor:
    return level * torch.randn(batch, 2, samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def stft():
    return STFT(1024, 256)


@pytest.fixture(scope="module")
def voice_in_mixture(stft):
    """(mixture's spectrum, target's spectrum): two tones, and noise besides."""
    target = tone(440) + tone(1320, 0.7)
    return stft(target + noise(0, 0.2)), stft(target)


def test_a_real_mask_has_no_gradient_where_the_phase_is_compared_at_once_and_has_one_after_a_round_trip(
    voice_in_mixture,
):
    mixture, target = voice_in_mixture
    gradients = {}
    for name in ("naive", "round trip"):
        mask = torch.full(mixture.shape, 0.5, requires_grad=True)
        if name == "naive":
            difference = torch.angle(mask.double() * mixture) - torch.angle(target)
            (1 - torch.cos(difference)).mean().backward()
        else:
            phase_loss(estimate=mask * mixture, target=target).backward()
        gradients[name] = mask.grad.abs().max()
    assert gradients["naive"] < 1e-18  # zero, but for the rounding of doubles
    assert gradients["round trip"] > 1e-6


def test_following_the_gradient_brings_the_phases_closer(voice_in_mixture):
    mixture, target = voice_in_mixture
    logits = torch.zeros(mixture.shape, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)

    def loss():
        fixed = torch.Generator().manual_seed(1)
        return phase_loss(estimate=torch.sigmoid(logits) * mixture, target=target, generator=fixed)

    before = loss().item()
    for _ in range(15):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.8 * before


@pytest.mark.parametrize("consistent", [True, False], ids=["of a waveform", "of no waveform"])
def test_phase_loss_is_exactly_zero_where_estimate_is_target(stft, consistent):
    spectrum = stft(noise(1)) if consistent else torch.randn(2, 2, 513, 9, dtype=torch.complex64)
    estimate = spectrum.clone().requires_grad_()
    loss = phase_loss(estimate=estimate, target=spectrum)
    loss.backward()
    assert loss == 0
    assert estimate.grad.abs().max() == 0


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.0), (math.pi / 3, 0.5), (math.pi / 2, 1.0), (math.pi, 2.0)])
def test_phase_loss_of_a_shifted_tone_is_one_minus_the_cosine(stft, shift, expected):
    fixed = torch.Generator().manual_seed(0)
    loss = phase_loss(estimate=stft(tone(1000, shift)), target=stft(tone(1000)), generator=fixed)
    assert float(loss) == pytest.approx(expected, abs=0.02)  # the reflected ends shift otherwise


def test_phase_loss_agrees_with_angles_in_double_precision(voice_in_mixture):
    mixture, target = voice_in_mixture
    value = phase_loss(estimate=mixture, target=target, generator=torch.Generator().manual_seed(5))
    half = torch.rand(mixture.shape[-2:], generator=torch.Generator().manual_seed(5)) < 0.5
    window = torch.hann_window(1024, dtype=torch.float64)
    turned = []
    for spectrum in (mixture, target):
        wave = torch.istft(spectrum[0].to(torch.complex128), 1024, 256, window=window)
        turned.append(torch.stft(wave, 1024, 256, window=window, return_complex=True)[:, half])
    weight = turned[0].abs() * turned[1].abs()
    expected = (weight * (1 - torch.cos(turned[0].angle() - turned[1].angle()))).sum() / weight.sum()
    assert float(value) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-5, 0.1, 7.0, 1e4])
@pytest.mark.parametrize("which", ["estimate", "target"])
def test_phase_loss_is_blind_to_positive_scale(voice_in_mixture, scale, which):
    mixture, target = voice_in_mixture
    values = []
    for factor in (1.0, scale):
        spectra = {"estimate": mixture, "target": target}
        spectra[which] = factor * spectra[which]
        values.append(float(phase_loss(**spectra, generator=torch.Generator().manual_seed(2))))
    assert values[0] > 1e-3
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_bins_without_energy_add_no_noise(stft):
    target, estimate = stft(tone(1000)), stft(tone(1000) + noise(3, 1e-4))
    plain = (1 - torch.cos(estimate.angle() - target.angle())).mean()
    assert plain > 0.3  # most bins are empty, and their phases random
    assert phase_loss(estimate=estimate, target=target) < 1e-4


def test_a_silent_clip_does_not_change_the_phase_loss_of_the_others(voice_in_mixture):
    mixture, target = voice_in_mixture
    alone = phase_loss(estimate=mixture, target=target, generator=torch.Generator().manual_seed(2))
    both = phase_loss(
        estimate=torch.cat([mixture, mixture]),
        target=torch.cat([target, torch.zeros_like(target)]),
        generator=torch.Generator().manual_seed(2),
    )
    assert float(both) == pytest.approx(float(alone), rel=1e-5)


def test_the_half_of_the_bins_comes_from_the_generator_or_from_torch(voice_in_mixture):
    mixture, target = voice_in_mixture

    def value(seed, own):
        torch.manual_seed(0 if own else seed)
        generator = torch.Generator().manual_seed(seed) if own else None
        return float(phase_loss(estimate=mixture, target=target, generator=generator))

    for own in (True, False):
        assert value(1, own) == value(1, own)
        assert len({value(seed, own) for seed in range(4)}) == 4


@pytest.mark.parametrize(
    ("shape", "n_fft", "words"),
    [((1, 2, 513, 8), 1024, r"\(1, 2, 513, 8\).*\(1, 2, 513, 9\)"), ((1, 2, 513, 9), 2048, "1025")],
    ids=["other frames", "other n_fft"],
)
def test_spectra_that_do_not_fit_are_refused_with_both_shapes(shape, n_fft, words):
    zeros = torch.zeros(1, 2, 513, 9, dtype=torch.complex64)
    with pytest.raises(UsageError, match=words):
        phase_loss(estimate=torch.zeros(shape, dtype=torch.complex64), target=zeros, n_fft=n_fft)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_every_loss_is_finite_on_silence_and_at_full_scale(name, loss, autocast):
    torch.manual_seed(0)
    model = models.build(name, sample_rate=RATE, **SMALL[name]).train()
    clips = [noise(n, 1.0, batch=2, samples=RATE // 4).sign() for n in range(len(model.sources))]
    for level in (0.0, 1e-6, 1.0):  # square noise: the loudest there is
        model.zero_grad()
        target = level * torch.stack(clips, dim=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = make_loss(loss)(Estimate(model, target.sum(dim=1)), target)
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_a_network_on_waveforms_is_told_its_loss():
    model, target = models.build("demucs-tiny", **SMALL["demucs-tiny"]), torch.zeros(1, 2, 2, 8192)
    with pytest.raises(UsageError, match="demucs-tiny works on waveforms; train it with waveform_l1"):
        make_loss("magnitude_l1")(Estimate(model, target[:, 0]), target)


@pytest.mark.parametrize("which", ["estimate", "target", "both"])
def test_phase_loss_of_silence_is_zero_with_gradients_of_zero(stft, which):
    sound = stft(noise(1))
    estimate = (sound if which == "target" else torch.zeros_like(sound)).clone().requires_grad_()
    loss = phase_loss(estimate=estimate, target=sound if which == "estimate" else torch.zeros_like(sound))
    loss.backward()
    assert loss == 0
    assert estimate.grad.abs().max() == 0


class Fixed(MaskModel):
    """A network whose masks are given."""

    def __init__(self, stft, *masks: float) -> None:
        super().__init__(tuple("abcd"[: len(masks)]), RATE, stft.n_fft, stft.hop_length)
        self.masks = masks

    def mask(self, magnitude):
        return torch.stack([mask * torch.ones_like(magnitude) for mask in self.masks], dim=1)


def test_magnitude_losses_and_waveform_loss_of_known_masks(stft):
    mixture = noise(4, batch=2)
    spectrum = stft(mixture)
    magnitude = spectrum.abs()
    target = torch.stack([mixture, 0 * mixture], dim=1)  # the second source is silent
    model = Fixed(stft, 0.5, 0.25)
    expected = {
        "magnitude_l1": (0.5 + 0.25) * magnitude.mean(),
        "magnitude_mse": (0.5**2 + 0.25**2) / 2 * magnitude.square().mean(),
        "waveform_l1": (0.5 + 0.25) / 2 * mixture.abs().mean(),
        "spectrum_waveform_l1": (0.5 + 0.25)
        / 2
        * (mixture.abs().mean() + (spectrum.real.abs() + spectrum.imag.abs()).mean() / 32),
    }
    for name, value in expected.items():
        assert float(make_loss(name)(Estimate(model, mixture), target)) == pytest.approx(float(value), rel=1e-5), name
    weighted = make_loss("magnitude_l1", weights=(1.0, 0.5))(Estimate(model, mixture), target)
    assert float(weighted) == pytest.approx((0.5 + 0.5 * 0.25) * float(magnitude.mean()), rel=1e-5)
    low = make_loss("magnitude_l1", alpha="inverse_sqrt")(Estimate(model, mixture), target)
    profile = (magnitude.mean(dim=(0, 1, 3)) * frequency_weights(513, "inverse_sqrt")).mean()
    assert float(low) == pytest.approx(0.75 * float(profile), rel=1e-5)


def test_magnitude_phase_is_the_magnitude_loss_and_a_tenth_of_the_phase_loss(stft):
    target = (tone(440) + noise(8, 0.05)).unsqueeze(1)
    mixture = target[:, 0] + noise(5)
    whole = mixture.shape[-1] // 256 * 256  # `phase_loss` knows spectra alone, so whole hops
    target, mixture = target[..., :whole], mixture[..., :whole]
    model = Fixed(stft, 0.5).eval()
    parts = make_loss("magnitude_l1")(Estimate(model, mixture), target) + 0.1 * phase_loss(
        estimate=0.5 * stft(mixture), target=stft(target[:, 0]), generator=torch.Generator().manual_seed(0)
    )
    assert float(make_loss("magnitude_phase")(Estimate(model, mixture), target)) == pytest.approx(
        float(parts), rel=1e-6
    )


def test_training_draws_the_bins_anew_and_validation_keeps_to_one_half(stft):
    target = tone(440).unsqueeze(1)
    mixture = target[:, 0] + noise(5)
    model, loss = Fixed(stft, 0.5), make_loss("magnitude_phase", phase_weight=100.0)
    values = {}
    for mode in (True, False):
        model.train(mode)
        torch.manual_seed(0)
        values[mode] = {float(loss(Estimate(model, mixture), target)) for _ in range(3)}
    assert len(values[True]) == 3
    assert len(values[False]) == 1


@pytest.mark.parametrize("name", ["openunmix-complex", "band-split", "tfc-tdf"])
def test_a_loss_on_magnitudes_is_refused_where_there_is_no_mask_of_magnitudes(name):
    model, target = models.build(name, **SMALL[name]), torch.zeros(1, 1, 2, 8192)
    with pytest.raises(UsageError, match=f"{name}.*waveforms"):
        make_loss("magnitude_l1")(Estimate(model, target[:, 0]), target)


@pytest.mark.parametrize("number", [0, 1], ids=["vocals", "accompaniment"])
def test_both_heads_reach_the_trunk(number):
    torch.manual_seed(0)
    model = models.build("openunmix-multitask", hidden_size=16, sample_rate=RATE)
    weights = [0.0, 0.0]
    weights[number] = 1.0
    target = torch.stack([noise(n, batch=2, samples=RATE // 2) for n in range(2)], dim=1)
    make_loss("magnitude_l1", weights=weights)(Estimate(model, target.sum(dim=1)), target).backward()
    assert model.core.fc1.weight.grad.abs().max() > 0
    assert model.core.lstm.weight_ih_l0.grad.abs().max() > 0
    own, other = (model.heads[n].fc3.weight.grad for n in (number, 1 - number))
    assert own.abs().max() > 0
    assert other is None or other.abs().max() == 0


def test_weights_that_do_not_fit_and_unknown_losses_are_refused(stft):
    with pytest.raises(UsageError, match=r"2 weights.*got 3"):
        make_loss("magnitude_l1", weights=(1, 1, 1))(Estimate(Fixed(stft, 1, 1), noise(0)), torch.zeros(1, 2, 2, RATE))
    with pytest.raises(UsageError, match="magnitude_phase"):
        make_loss("phase")
