"""Silence, perfection and broken input: each has its right value, a reason or an error, and no 0 dB."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from sepkit.evaluation.track import score_track


def load_cases():
    path = Path(__file__).parents[2] / "benchmarks" / "degenerate_cases.py"
    spec = importlib.util.spec_from_file_location("degenerate_cases", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load_cases()
USABLE = [name for name, case in MODULE.CASES.items() if not str(case.right).startswith("refused")]


@pytest.mark.parametrize("name", MODULE.CASES)
def test_every_case_has_its_right_answer(name):
    right, answer = MODULE.CASES[name].right, MODULE.sepkit_says(name)
    if isinstance(right, float):
        assert answer == pytest.approx(right, abs=1e-9)
    elif right.startswith("refused: "):
        assert answer.startswith("refused: ") and right.removeprefix("refused: ") in answer
    else:
        assert answer.startswith(right)


@pytest.mark.parametrize("name", USABLE)
def test_a_value_or_a_reason_for_every_metric_and_no_zero(name):
    target, estimate = MODULE.CASES[name].change(*MODULE.usual())
    both = (dict(zip(MODULE.NAMES, signals, strict=True)) for signals in (target, estimate))
    for row in score_track(**dict(zip(("target", "estimate"), both, strict=True)), sample_rate=MODULE.RATE):
        assert math.isnan(row["value"]) == row["status"].startswith("undefined: ") == (row["status"] != "ok")
        assert row["value"] != 0


@pytest.mark.parametrize("name", ["target silent for a second", "estimate silent for a second"])
def test_a_silent_second_is_counted_as_dropped_in_both_sources(name):
    target, estimate = MODULE.CASES[name].change(*MODULE.usual())
    rows = score_track(
        estimate=dict(zip(MODULE.NAMES, estimate, strict=True)),
        target=dict(zip(MODULE.NAMES, target, strict=True)),
        sample_rate=MODULE.RATE,
    )
    windowed = [row for row in rows if row["metric"].endswith("_bsseval")]
    assert len(windowed) == 8
    assert all((row["frames"], row["frames_dropped"]) == (2, 1) for row in windowed)


def test_the_document_shows_what_sepkit_answers():
    _, table = MODULE.DOCUMENT.read_text(encoding="utf-8").split("| case ")
    cells = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in table.splitlines()[1:] if line}
    for name in MODULE.CASES:
        assert cells[name] == MODULE.shown(MODULE.sepkit_says(name))
