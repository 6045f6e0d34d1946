"""How much of its input a network hears, on networks whose answer is known."""

import pytest
import torch
from torch import nn

from sepkit.models import build
from sepkit.models.context import context


def test_dilations_add_up_and_a_norm_over_the_clip_adds_nothing():
    network = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.Conv1d(4, 2, 5, dilation=10))
    assert context(network, 500) == 2 + 40 + 1


@pytest.mark.parametrize(("lstm_layers", "samples"), [(0, (538, 570)), (2, (8000, 8000))])
def test_demucs_tiny_hears_12_ms_and_with_its_bilstm_the_whole_clip(lstm_layers, samples):
    """Without the BiLSTM by its strides, kernels and resampling; the place on the strides' grid moves it."""
    torch.manual_seed(0)
    network = build("demucs-tiny", channels=16, lstm_layers=lstm_layers)
    network.core.normalize = False
    assert samples[0] <= context(network, 8000) <= samples[1]
