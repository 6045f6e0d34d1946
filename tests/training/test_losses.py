"""The losses of the baseline, by values known beforehand."""

import pytest
import torch

from sepkit.errors import UsageError
from sepkit.models.mask import MaskModel
from sepkit.training.losses import frequency_weights, magnitude_l1, make_loss
from sepkit.training.step import Estimate


class FixedMask(MaskModel):
    """The same mask everywhere, a factor a source."""

    def __init__(self, *factors):
        super().__init__(tuple("abcd"[: len(factors)]), 44100, 64, 16)
        self.factors = torch.tensor(factors)

    def mask(self, magnitude):
        return self.factors[:, None, None, None] * torch.ones_like(magnitude)[:, None]


def noise(seed=0):
    return torch.randn(2, 2, 4000, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("alpha", ["flat", "sqrt", "inverse_sqrt"])
def test_weights_have_mean_one_and_finite_ends(alpha):
    weights = frequency_weights(513, alpha)
    assert weights.dtype == torch.float32
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    assert torch.isfinite(weights).all()
    assert weights.min() > 0
    assert weights[0] == weights[1]


def test_the_square_root_weighs_10_khz_ten_times_100_hz():
    """What the plan says the other way round."""
    weights = frequency_weights(513, "sqrt")
    assert weights[400] / weights[4] == pytest.approx(10)
    inverse = frequency_weights(513, "inverse_sqrt")
    assert inverse[4] / inverse[400] == pytest.approx(10)
    with pytest.raises(UsageError, match="no frequency weight 'root'; expected one of sqrt, inverse_sqrt, flat"):
        frequency_weights(513, "root")


@pytest.mark.parametrize("alpha", ["flat", "sqrt", "inverse_sqrt"])
def test_the_right_mask_has_no_loss(alpha):
    loss = magnitude_l1(Estimate(FixedMask(0.25), noise()), 0.25 * noise()[:, None], alpha=alpha)
    assert loss == pytest.approx(0, abs=1e-6)


def test_a_wrong_mask_costs_its_error_times_the_mixture():
    model, mixture = FixedMask(0.75), noise()
    loss = magnitude_l1(Estimate(model, mixture), 0.25 * mixture[:, None])
    assert loss == pytest.approx(0.5 * model.stft(mixture).abs().mean().item(), rel=1e-5)


def test_alpha_weighs_the_error_of_each_bin():
    model, mixture = FixedMask(0.75), noise()
    weights = frequency_weights(33, "sqrt")[:, None]
    expected = 0.5 * (weights * model.stft(mixture).abs()).mean()
    loss = magnitude_l1(Estimate(model, mixture), 0.25 * mixture[:, None], alpha="sqrt")
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_sources_add_up_by_their_weights():
    mixture = noise()
    model = FixedMask(0.75, 0.5)
    target = torch.stack([0.25 * mixture, 0.25 * mixture], dim=1)
    unit = model.stft(mixture).abs().mean().item()
    assert magnitude_l1(Estimate(model, mixture), target) == pytest.approx(0.75 * unit, rel=1e-5)
    weighed = magnitude_l1(Estimate(model, mixture), target, weights=(2.0, 4.0))
    assert weighed == pytest.approx((2 * 0.5 + 4 * 0.25) * unit, rel=1e-5)


def test_an_unknown_loss_is_a_wrong_call():
    with pytest.raises(UsageError, match="no loss 'l1'; expected one of magnitude_l1"):
        make_loss("l1")
