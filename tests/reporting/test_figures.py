"""Figures by their axes and artists: where a click stands, what a bar's height is, what is named."""

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from PIL import Image

from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import compare_scores
from sepkit.reporting import canvas, figures
from sepkit.storage import write_csv


def labelled(figure: figures.Picture) -> bool:
    """Every axis of every panel has words (shared ones may be the figure's)."""
    shared = bool(figure.get_supylabel())
    return all(axes.get_ylabel() or shared or axes.get_yticklabels() for axes in figure.axes) and any(
        axes.get_xlabel() for axes in figure.axes
    )


def scores_of(week, *names: str) -> pd.DataFrame:
    return pd.concat([week.run(name).scores().drop(columns="fold") for name in names], ignore_index=True).assign(
        fold=None
    )


@pytest.mark.parametrize("hop_length", [256, 512, 1024])
@pytest.mark.parametrize("sample_rate", [22050, 44100])
def test_click_at_one_second_stands_at_one_second(hop_length, sample_rate):
    clip = np.zeros((2, 3 * sample_rate))
    clip[:, sample_rate] = 1
    figure = figures.spectrograms({"click": clip}, sample_rate, hop_length=hop_length)
    axes, hop_s = figure.axes[0], hop_length / sample_rate
    assert axes.get_xlim() == pytest.approx((0, 3), abs=hop_s)
    image = axes.images[0]
    left, right, *_ = image.get_extent()
    energy = np.power(10, image.get_array() / 10).sum(axis=0)
    centres = left + (np.arange(len(energy)) + 0.5) * (right - left) / len(energy)
    assert centres[energy.argmax()] == pytest.approx(1, abs=hop_s)
    assert (centres * energy).sum() / energy.sum() == pytest.approx(1, abs=hop_s)
    assert "time in s" in axes.get_xlabel()


def test_start_moves_the_time_axis():
    figure = figures.spectrograms({"a": np.ones(8000)}, 8000, start_s=30)
    assert figure.axes[0].get_xlim() == pytest.approx((30, 31))


def test_panels_share_one_colour_scale_and_keep_level_differences():
    tone = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
    figure = figures.spectrograms({"loud": tone, "quiet": tone / 100}, 44100)
    loud, quiet = (axes.images[0] for axes in figure.axes[:2])
    assert loud.get_clim() == quiet.get_clim() == (-80, 0)
    assert loud.get_array().max() == pytest.approx(0, abs=1e-6)
    assert quiet.get_array().max() == pytest.approx(-40, abs=0.01)
    assert "dB" in figure.axes[-1].get_ylabel()


def test_mel_axis_puts_a_tone_at_its_frequency():
    import librosa

    tone = np.sin(2 * np.pi * 3000 * np.arange(44100) / 44100)
    image = figures.spectrograms({"tone": tone}, 44100).axes[0].images[0]
    *_, bottom, top = image.get_extent()
    row = int(image.get_array().mean(axis=1).argmax())
    mel = bottom + (row + 0.5) * (top - bottom) / image.get_array().shape[0]
    assert librosa.mel_to_hz(mel) == pytest.approx(3000, rel=0.05)


def test_silence_can_be_drawn_and_broken_clips_not():
    assert figures.spectrograms({"silence": np.zeros(8000)}, 8000).axes[0].images[0].get_array().max() == -80
    with pytest.raises(SepkitError, match="'bad' has 1 samples that are not finite"):
        figures.spectrograms({"bad": np.array([0.0, np.nan])}, 8000)
    with pytest.raises(SepkitError, match="at least one clip"):
        figures.spectrograms({})


def test_gradients_name_what_is_zero():
    figure = figures.gradients({"naive": np.zeros(513), "phase": np.linspace(1e-4, 1e-3, 513)})
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["naive: zero at every frequency", "phase"]
    zero, other = (line.get_ydata() for line in figure.axes[0].get_lines())
    assert not zero.any()
    assert other[-1] == 1e-3
    low, high = figure.axes[0].get_ylim()
    assert low == 0 < 1e-3 < high
    assert figure.axes[0].get_xlim() == (0, 22050)


def test_training_curves_separate_losses_that_do_not_compare(week):
    runs = [week.run(name) for name in ("Base-s0", "C-s0", "D-s0")]
    figure = figures.training_curves(runs)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["loss: magnitude_l1", "loss: phase_consistency"]
    losses = figure.axes[0]
    history = runs[0].history()
    np.testing.assert_allclose(losses.lines[0].get_ydata(), history["valid_loss"])
    np.testing.assert_allclose(losses.lines[1].get_ydata(), history["train_loss"])
    assert losses.lines[2].get_xdata()[0] == 9  # the best epoch by SDR; by loss it is 7
    assert "learning rate" in figure.axes[1].get_ylabel()
    assert labelled(figure)


def test_one_run_and_many_losses_fit(week):
    assert len(figures.training_curves(week.run("Base-s0")).axes) == 2
    figure, panels = canvas.panels(5, (3, 1), 5.6)
    assert len(panels) == 5
    assert figure.get_figwidth() < 15
    with pytest.raises(SepkitError, match="at least one trained run"):
        figures.training_curves([])


def test_convergence_is_in_db_over_minutes_whatever_the_loss(week):
    runs = [week.run("Base-s0"), week.run("C-s0")]
    (axes,) = figures.convergence(runs).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Base-s0", "C-s0"]
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(30)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), runs[0].history()["valid_sdr"])
    assert axes.lines[1].get_xdata()[0] == pytest.approx(30 * 9 / 12)
    assert axes.get_xlabel() == "training time in minutes"
    assert "dB" in axes.get_ylabel()


def test_histories_without_sdr_fall_back_to_the_loss(root):
    for name in ("Base-s0", "C-s0"):
        run = root.run(name)
        write_csv(run.path / "history.csv", run.history().drop(columns="valid_sdr"))
    old = [root.run("Base-s0"), root.run("C-s0")]
    assert figures.best_epoch(old[0].history()) == 6
    panels = figures.convergence(old).axes
    assert [axes.get_title() for axes in panels] == ["loss: magnitude_l1", "loss: phase_consistency"]
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), old[0].history()["valid_loss"])
    mixed = figures.convergence([old[0], root.run("D-s0")]).axes[0]  # one of two without: losses for both
    assert "loss" in mixed.get_ylabel()


def test_score_bars_hold_medians_and_quartiles(week, helpers):
    figure = figures.score_bars(scores_of(week, "Base-s0", "D-s0", "mixture", "oracle"))
    axes = figure.axes[0]
    heights = [bar.get_height() for box in axes.containers if isinstance(box, BarContainer) for bar in box]
    without_c = np.delete(helpers.base_db + helpers.spread, 2)
    assert heights == pytest.approx([np.median(helpers.base_db), np.median(without_c)])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Base\n12 songs", "D\n11 songs\n1 undefined"]
    assert {text.get_text() for text in axes.texts} == {"mixture −5.0", "oracle 8.7"}
    dots = [len(points.get_offsets()) for points in axes.collections if len(points.get_offsets()) > 1]
    assert dots == [12, 11]
    assert axes.get_ylabel() == "sdr_bsseval of vocals in dB (2stem)"


def test_score_bars_refuse_mixed_protocols(week, helpers):
    mixed = pd.concat([scores_of(week, "Base-s0"), helpers.rows("A-s0", helpers.base_db, protocol="4stem")])
    with pytest.raises(SepkitError, match="one protocol in one figure, got 2stem, 4stem"):
        figures.score_bars(mixed)


def test_paired_differences_are_sorted_with_their_interval(week, helpers):
    figure = figures.paired_differences(scores_of(week, "D-s0"), scores_of(week, "Base-s0"))
    axes = figure.axes[0]
    gaps = [bar.get_width() for bar in axes.containers[0]]
    assert gaps == pytest.approx(sorted(np.delete(helpers.spread, 2)))
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in axes.containers[0]]
    assert colours == [figures.BETTER if gap > 0 else figures.WORSE for gap in gaps]
    low, high = compare_scores(scores_of(week, "D-s0"), scores_of(week, "Base-s0")).interval
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        f"95 % interval {low:+.2f} to {high:+.2f} dB, artists resampled",
        "Hodges–Lehmann +0.02 dB",
    ]
    assert "11 songs, 1 undefined" in figure.get_suptitle()
    assert labelled(figure)


def test_lower_is_better_is_blue_where_lower(week):
    base = scores_of(week, "Base-s0")
    quieter = base.assign(run="Q", experiment="Q", value=base["value"] - 1)
    axes = figures.paired_differences(quieter, base, metric="silence_energy_db").axes[0]
    assert {matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in axes.containers[0]} == {figures.BETTER}


def test_budget_bars_add_up(week):
    figure = figures.budget_bars(week.budget(), limit_min=480)
    total, each = figure.axes
    assert total.containers[0][0].get_width() == pytest.approx(188)
    assert "188.0 of 480 GPU minutes" in total.get_title("left")
    assert sum(bar.get_width() for box in each.containers for bar in box) == pytest.approx(188)
    assert labelled(figure)


def test_budget_without_a_gpu_says_so(week):
    budget = week.budget().assign(gpu_min=0.0, device="cpu")
    total, each = figures.budget_bars(budget).axes
    assert "0.0 of 480 GPU minutes" in total.get_title("left")
    assert each.get_xlabel() == "CPU minutes (no GPU was used)"
    assert len(figures.budget_bars(budget.iloc[:0]).axes) == 2  # nothing spent yet


def test_saved_whole_shown_small_and_no_global_figures(week, tmp_path):
    import matplotlib.pyplot as plt

    figure = figures.budget_bars(week.budget())
    path = figures.save(figure, tmp_path / "new" / "budget.png")
    assert [file.name for file in path.parent.iterdir()] == ["budget.png"]
    with Image.open(path) as image:
        assert image.size == (8 * 130, pytest.approx(figure.get_figheight() * 130, abs=1))
    assert Image.open(io.BytesIO(figure._repr_png_())).width == 8 * 80
    assert plt.get_fignums() == []


def test_a_failed_save_leaves_the_old_file(week, tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = figures.budget_bars(week.budget())
    monkeypatch.setattr(figures.Picture, "png", lambda self: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        figures.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_an_outlier_is_named_and_does_not_squeeze_the_rest(helpers):
    values = helpers.base_db.copy()
    values[0] = -24
    axes = figures.score_bars(helpers.rows("Base-s0", values)).axes[0]
    assert "▼ −24" in [text.get_text() for text in axes.texts]
    assert -16 < axes.get_ylim()[0] < 0
    assert max(len(points.get_offsets()) for points in axes.collections) == 11
