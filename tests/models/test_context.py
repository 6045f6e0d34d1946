"""How much of its input a network hears, as a cell of day 4 measures it, on networks whose answer is known."""

import ast
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from sepkit.models import build

DAY_4 = Path(__file__).parents[2] / "notebooks" / "day4_demucs_tiny.ipynb"


@pytest.fixture(scope="module")
def context():
    (cell,) = [cell for cell in nbformat.read(DAY_4, as_version=4).cells if "def context" in cell.source]
    (function,) = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
    names = {"torch": torch}
    exec(ast.unparse(function), names)
    return names["context"]


@pytest.mark.parametrize(
    ("layers", "samples"),
    [
        ([nn.Conv1d(2, 4, 9, padding=4), nn.GroupNorm(1, 4), nn.Conv1d(4, 2, 1)], 9),
        ([nn.Conv1d(2, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.Conv1d(4, 2, 5, dilation=10)], 2 + 40 + 1),
    ],
)
def test_dilations_add_up_and_a_norm_over_the_clip_adds_nothing(context, layers, samples):
    assert context(nn.Sequential(*layers), 500, 250) == samples


@pytest.mark.parametrize(("lstm_layers", "samples"), [(0, (538, 570)), (2, (8000, 8000))])
def test_demucs_tiny_hears_12_ms_and_with_its_bilstm_the_whole_clip(context, lstm_layers, samples):
    """Without the BiLSTM by its strides, kernels and resampling; the place on the strides' grid moves it."""
    torch.manual_seed(0)
    network = build("demucs-tiny", channels=16, lstm_layers=lstm_layers)
    network.core.normalize = False
    assert samples[0] <= context(network, 8000, 4000) <= samples[1]
