"""Whole-track metrics: dB known by construction, torchmetrics as the second implementation, silence."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_distortion_ratio

from sepkit.errors import SepkitError
from sepkit.evaluation.bsseval import bss_eval
from sepkit.evaluation.metrics import METRICS, sdr_global, sdr_torchmetrics, si_sdr, silence_energy_db
from sepkit.evaluation.track import Targets, score_track

RATE = 4000
RNG = np.random.default_rng(0)
TARGET = {name: RNG.standard_normal((1, 3 * RATE + 99)) for name in ("vocals", "accompaniment")}
ESTIMATE = {
    "vocals": 0.8 * TARGET["vocals"] + 0.2 * TARGET["accompaniment"],
    "accompaniment": 0.8 * TARGET["accompaniment"] + 0.2 * TARGET["vocals"],
}
SILENT = np.zeros_like(TARGET["vocals"])


def scored(estimate=ESTIMATE, target=TARGET, **settings):
    rows = score_track(estimate=estimate, target=target, sample_rate=RATE, **settings)
    return {(row["source"], row["metric"]): row for row in rows}


def test_channels_are_pooled():
    target = np.stack([np.full(1000, 1.0), np.full(1000, 3.0)])
    estimate = target + np.array([[0.0], [1.0]])
    assert sdr_global(estimate=estimate, target=target) == pytest.approx(10.0)  # (1 + 9) against 1


def test_si_sdr_is_blind_to_gain_and_sdr_is_not():
    target, error = np.tile([1.0, 0.0], (2, 500)), np.tile([0.0, 1.0], (2, 500))
    for gain in (0.01, 1.0, 50.0):
        assert si_sdr(estimate=gain * (target + 0.1 * error), target=target) == pytest.approx(20)
    assert sdr_global(estimate=0.5 * target, target=target) == pytest.approx(20 * math.log10(2))


def test_si_sdr_agrees_with_torchmetrics_on_one_long_vector():
    flat = [torch.from_numpy(side["vocals"].reshape(-1)) for side in (ESTIMATE, TARGET)]
    expected = float(scale_invariant_signal_distortion_ratio(*flat, zero_mean=False))
    assert si_sdr(estimate=ESTIMATE["vocals"], target=TARGET["vocals"]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("length", [600, 5000, 80_000])
def test_sdr_torchmetrics_is_torchmetrics(length):
    rng = np.random.default_rng(length)
    target = np.cumsum(rng.standard_normal((2, length)), axis=1) * 0.01 + rng.standard_normal((2, length))
    estimate = target + 0.3 * np.roll(target, 5, axis=1) + 0.05 * rng.standard_normal((2, length))
    expected = float(signal_distortion_ratio(torch.from_numpy(estimate), torch.from_numpy(target)).mean())
    assert sdr_torchmetrics(estimate=estimate, target=target) == pytest.approx(expected, abs=1e-8)


def test_sdr_torchmetrics_from_the_correlations_of_bss_eval_is_the_same(monkeypatch):
    alone = {name: sdr_torchmetrics(estimate=ESTIMATE[name], target=TARGET[name]) for name in TARGET}
    monkeypatch.setattr("sepkit.evaluation.filters.correlations", None)
    rows = score_track(estimate=ESTIMATE, target=TARGET, sample_rate=RATE)
    shared = {row["source"]: row["value"] for row in rows if row["metric"] == "sdr_torchmetrics"}
    assert shared == pytest.approx(alone, abs=1e-9)


def test_s19_one_estimate_has_two_sdrs_and_the_names_say_so():
    target = np.stack(list(TARGET.values()))
    filtered = target + np.roll(target, 3, axis=2)
    lenient = sdr_torchmetrics(estimate=filtered[0], target=target[0])
    strict = np.median(bss_eval(estimate=filtered, target=target, sample_rate=RATE)["sdr"][0])
    assert strict == pytest.approx(0, abs=0.1) and lenient > 25
    assert "sdr" not in METRICS


def test_s14_silence_and_perfection_never_raise():
    target = np.tile(TARGET["vocals"], (2, 1))
    left = target * [[1], [0]]
    for metric in (sdr_global, si_sdr, sdr_torchmetrics):
        assert math.isnan(metric(estimate=target, target=0 * target))
        assert metric(estimate=target.copy(), target=target) > 150
    assert math.isnan(sdr_global(estimate=0 * target, target=target))
    assert math.isnan(si_sdr(estimate=0 * target, target=target))
    assert math.isnan(sdr_torchmetrics(estimate=0 * target, target=target))
    assert math.isnan(sdr_torchmetrics(estimate=target, target=left))
    assert sdr_torchmetrics(estimate=np.ones((1, 4000)), target=np.ones((1, 4000)) * 0.5) > 100


def test_silence_energy_is_the_level_where_the_target_rests():
    target = np.zeros((2, 3 * RATE))
    target[:, RATE : 2 * RATE] = 0.5
    estimate = target + 0.01
    assert silence_energy_db(estimate=estimate, target=target, sample_rate=RATE) == pytest.approx(-40)
    assert silence_energy_db(estimate=target, target=target, sample_rate=RATE) == -120
    dithered = target + 2**-15 * np.sign(RNG.standard_normal(target.shape))
    assert silence_energy_db(estimate=estimate, target=dithered, sample_rate=RATE) == pytest.approx(-40)
    assert math.isnan(silence_energy_db(estimate=estimate, target=estimate, sample_rate=RATE))
    assert silence_energy_db(estimate=estimate[:, :100], target=target[:, :100], sample_rate=RATE) == pytest.approx(-40)


def test_rows_hold_every_metric_of_every_source_once():
    rows = scored()
    assert len(rows) == 2 * len(METRICS)
    assert all(row["protocol"] == "2stem" and isinstance(row["value"], float) for row in rows.values())
    windows = bss_eval(
        estimate=np.stack(list(ESTIMATE.values())), target=np.stack(list(TARGET.values())), sample_rate=RATE
    )
    assert rows["accompaniment", "sir_bsseval"]["value"] == np.median(windows["sir"][1])
    assert rows["vocals", "sdr_bsseval"]["frames"] == 3
    assert rows["vocals", "silence_energy_db"]["status"] == "undefined: the target is never silent"


def test_s18_dropped_windows_are_counted_and_left_out_of_the_median():
    target = {name: signal.copy() for name, signal in TARGET.items()}
    target["vocals"][:, :RATE] = 0
    row = scored(target=target)["accompaniment", "sdr_bsseval"]
    assert (row["frames"], row["frames_dropped"], row["status"]) == (2, 1, "ok")
    assert math.isfinite(row["value"])


def test_s13_a_silent_stem_is_undefined_and_the_rest_goes_on():
    rows = scored(target=TARGET | {"vocals": SILENT})
    vocals, band = rows["vocals", "sdr_bsseval"], rows["accompaniment", "sdr_bsseval"]
    assert math.isnan(vocals["value"]) and vocals["status"] == "undefined: silent target"
    assert math.isnan(band["value"]) and band["status"] == "undefined: the target of vocals is silent"
    assert rows["accompaniment", "sdr_global"]["status"] == "ok"
    assert rows["vocals", "silence_energy_db"]["frames"] == 3
    quiet = scored(estimate=ESTIMATE | {"vocals": SILENT})["vocals", "sdr_bsseval"]
    assert (quiet["status"], quiet["frames"], quiet["frames_dropped"]) == ("undefined: silent estimate", 0, 3)


def test_four_stems_are_a_protocol_of_their_own():
    stems = {name: RNG.standard_normal((1, RATE)) for name in ("drums", "bass", "other", "vocals")}
    rows = scored(stems, stems, protocol="4stem")
    assert {row["protocol"] for row in rows.values()} == {"4stem"}
    with pytest.raises(SepkitError, match="protocol 2stem scores vocals, accompaniment together; the target"):
        scored(stems, stems)
    with pytest.raises(SepkitError, match="protocol must be one of 2stem, 4stem"):
        scored(protocol="sdr")


def test_targets_serve_many_estimates():
    targets = Targets(TARGET, RATE)
    for estimate in (ESTIMATE, TARGET, ESTIMATE):
        assert repr(targets.score(estimate)[0]) == repr(score_track(estimate=estimate, target=TARGET, sample_rate=RATE))


def test_s15_to_s17_errors_name_track_and_source():
    broken = ESTIMATE | {"vocals": np.where(np.arange(3 * RATE + 99) == 100, math.nan, ESTIMATE["vocals"])}
    with pytest.raises(SepkitError, match="estimate of 'vocals' in track 'Song' has 1 samples that are NaN"):
        scored(broken, track="Song")
    with pytest.raises(SepkitError, match="'vocals' in track 'Song' has 7099 samples where 12099 are expected"):
        scored(ESTIMATE | {"vocals": ESTIMATE["vocals"][:, :-5000]}, track="Song")
    with pytest.raises(SepkitError, match=r"'vocals' must be \(channel, time\).*\(time, channel\)"):
        scored(ESTIMATE | {"vocals": ESTIMATE["vocals"].T})
    with pytest.raises(SepkitError, match="target of 'accompaniment'"):
        scored(target=TARGET | {"accompaniment": SILENT[:, :-1]})


def test_names_and_facts_of_metrics_need_no_torch():
    """Tables and reports ask for these; loading torch would cost each command seconds."""
    code = (
        "import sys, sepkit.evaluation, sepkit.evaluation.metrics, sepkit.evaluation.score_files; "
        "print({'torch', 'scipy.signal', 'librosa'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
