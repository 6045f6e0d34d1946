"""One song under four definitions, as a cell of day 6 shows it: what each ignores, by construction."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest

DAY_6 = Path(__file__).parents[2] / "notebooks" / "day6_evaluate.ipynb"
RATE = 2000


@pytest.fixture(scope="module")
def cell():
    """What the cell defines: its imports, its table of definitions and its function."""
    (cell,) = [cell for cell in nbformat.read(DAY_6, as_version=4).cells if "def under_each_definition" in cell.source]
    body = ast.parse(cell.source).body
    (last,) = [place for place, node in enumerate(body) if isinstance(node, ast.FunctionDef)]
    names = {}
    exec(ast.unparse(ast.Module(body[: last + 1], [])), names)
    return names


def test_each_definition_ignores_what_it_says(cell):
    """The estimate is the vocals with an error 20 dB below, at right angles."""
    rng, definitions = np.random.default_rng(0), list(cell["DEFINITIONS"])
    vocals, accompaniment, error = rng.standard_normal((3, 1, 4 * RATE))
    error -= vocals * np.vdot(vocals, error) / np.vdot(vocals, vocals)
    error *= 0.1 * np.linalg.norm(vocals) / np.linalg.norm(error)
    clips = {"mixture": vocals + accompaniment, "vocals": vocals, "accompaniment": accompaniment}
    table = cell["under_each_definition"](clips | {"vocals estimate": vocals + error}, RATE)
    assert list(table.index) == definitions
    assert table["as it is"].to_dict() == pytest.approx(dict.fromkeys(definitions, 20.0), abs=0.4)
    assert table.loc["sdr_global", "as it is"] == pytest.approx(20)
    half = table["half as loud"]
    # |s − s/2 − e/2|² = |s|² (1/4 + 1/400)
    assert half["sdr_global"] == pytest.approx(-10 * np.log10(0.2525))
    assert half["sdr_bsseval"] == pytest.approx(half["sdr_global"], abs=0.1)
    for metric in ("si_sdr", "sdr_torchmetrics"):
        assert half[metric] == pytest.approx(table.loc[metric, "as it is"])
    muffled = table["muffled"]
    assert muffled["sdr_torchmetrics"] > muffled["si_sdr"] + 10
