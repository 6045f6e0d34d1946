"""In which precision a run computes, and that its status says so."""

from dataclasses import replace

import pytest
import torch

from sepkit import devices
from sepkit.devices import autocast, precision
from sepkit.training.train import train


@pytest.fixture
def processor(monkeypatch):
    """Sets how many times float32's time a product in bfloat16 takes."""

    def takes(times: float) -> None:
        monkeypatch.setattr(devices, "_product_seconds", lambda dtype: times if dtype == torch.bfloat16 else 1.0)
        devices.gains_from_bfloat16.cache_clear()

    yield takes
    devices.gains_from_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("times", "wanted", "expected"),
    [(0.3, True, "bf16-mixed"), (0.3, False, "32-true"), (1.2, True, "32-true"), (57.0, True, "32-true")],
)
def test_bfloat16_where_it_is_wanted_and_pays(processor, times, wanted, expected):
    processor(times)
    assert precision("cpu", bfloat16=wanted) == expected
    with autocast("cpu", bfloat16=wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (
            torch.bfloat16 if expected == "bf16-mixed" else torch.float32
        )


def test_a_gpu_is_not_asked(processor):
    processor(57.0)
    assert precision("cuda", bfloat16=False) == precision("cuda", bfloat16=True) == "16-mixed"


def test_products_are_timed():
    assert 0 < devices._product_seconds(torch.float32) < 1


@pytest.mark.parametrize(("times", "expected"), [(0.3, "bf16-mixed"), (57.0, "32-true")])
def test_a_run_says_its_precision(processor, mini_songs, root, tiny, times, expected):
    processor(times)
    run = train("Base", profile=replace(tiny, epochs=1, bfloat16=True), data=mini_songs, root=root, device="cpu")
    assert run.status["precision"] == expected
