"""Figures by their axes and artists: where a click stands, what a bar's height is, what is named."""

import io
import re
import tracemalloc
from unittest.mock import ANY

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends import backend_agg
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from sepkit import dsp
from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import compare_all, show_p
from sepkit.reporting import canvas, curves, figures
from sepkit.storage import Root, write_csv


def labelled(figure: figures.Picture) -> bool:
    """Every axis of every panel has words (shared ones may be the figure's)."""
    shared = bool(figure.get_supylabel())
    return all(axes.get_ylabel() or shared or axes.get_yticklabels() for axes in figure.axes) and any(
        axes.get_xlabel() or figure.get_supxlabel() for axes in figure.axes
    )


def tone(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(44100) / 44100)[None]


def scores_of(week, *names: str) -> pd.DataFrame:
    return pd.concat([week.run(name).scores().drop(columns="fold") for name in names], ignore_index=True).assign(
        fold=None
    )


def cells(axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges in s and in Hz of a spectrogram's cells, by its axes, and their levels in dB, (band, frame)."""
    (image,) = axes.images
    levels = image.get_array()
    left, right, low, high = image.get_extent()
    bands, frames = levels.shape
    return np.linspace(left, right, frames + 1), dsp.hz_of(np.linspace(low, high, bands + 1)), levels


def brightest_pixel(axes) -> float:
    """The height of the brightest row of the drawn picture within the axes, in pixels from below."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3].sum(axis=2, dtype=float)
    (left, low), (right, high) = np.round(axes.bbox.get_points()).astype(int)
    rows = pixels[low + 2 : high - 2, left + 2 : right - 2].mean(axis=1)
    return low + 2 + float(np.flatnonzero(rows == rows.max()).mean())


def waves(figure) -> dict:
    """The panels of waveforms by their titles."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


@pytest.mark.parametrize("sample_rate", [22050, 44100])
@pytest.mark.parametrize("start_s", [0, 30])
def test_a_click_at_one_second_stands_at_one_second(sample_rate, start_s):
    clip = np.zeros((2, 3 * sample_rate))
    clip[1, sample_rate] = -0.7
    wave, axes, _ = figures.song_view({"click": clip}, sample_rate, start_s=start_s).axes
    times, values = wave.lines[0].get_data()
    assert (times[values.argmin()], values.min()) == pytest.approx((start_s + 1, -0.7), abs=1e-9)
    edges, _, levels = cells(axes)
    energy, middles = np.power(10, levels / 10).sum(axis=0), (edges[1:] + edges[:-1]) / 2
    assert middles[energy.argmax()] == pytest.approx(start_s + 1, abs=0.005)
    assert (middles * energy).sum() / energy.sum() == pytest.approx(start_s + 1, abs=0.005)
    assert wave.get_xlim() == axes.get_xlim() == (start_s, start_s + 3)


@pytest.mark.parametrize("hz", [500, 1000, 10_000])
def test_a_tone_lies_at_its_frequency_by_the_ticks_of_the_axis(hz):
    axes = figures.song_view({"tone": tone(hz)}).axes[1]
    _, edges, levels = cells(axes)
    row = int(levels.mean(axis=1).argmax())
    assert edges[row] <= hz * 1.005 and hz * 0.995 <= edges[row + 1]
    # the words on the axis: where the tone is drawn, between the ticks around it
    at = axes.transData.transform([(0, dsp.mel_of(edge)) for edge in (edges[row], edges[row + 1])])[:, 1].mean()
    assert brightest_pixel(axes) == pytest.approx(at, abs=2)
    words = [text.get_text() for text in axes.get_yticklabels()]
    named = [float(word.removesuffix("k")) * (1000 if word.endswith("k") else 1) for word in words]
    drawn = axes.transData.transform([(0, tick) for tick in axes.get_yticks()])[:, 1]
    assert np.exp(np.interp(at, drawn, np.log(named))) == pytest.approx(hz, rel=0.04)


def test_columns_share_one_scale_of_level_and_of_amplitude():
    figure = figures.song_view({"loud": tone(1000), "quiet": tone(1000) / 100})
    panels = waves(figure)
    loud, quiet, bar = figure.axes[2:]
    assert loud.images[0].get_clim() == quiet.images[0].get_clim() == (-80, 0)
    assert cells(loud)[2].max() == pytest.approx(0, abs=1e-6)
    assert cells(quiet)[2].max() == pytest.approx(-40, abs=0.01)
    assert "dB" in bar.get_ylabel()
    assert panels["loud"].get_ylim() == panels["quiet"].get_ylim()
    assert panels["quiet"].lines[0].get_ydata().max() == pytest.approx(0.01, rel=1e-3)


def test_a_peak_of_either_channel_is_drawn_at_its_value():
    clip = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 441_000))
    clip[0, 123_456], clip[1, 321_000] = 0.9, -0.8
    times, values = figures.song_view({"a": clip}).axes[0].lines[0].get_data()
    assert (values.max(), times[values.argmax()]) == pytest.approx((0.9, 123_456 / 44100))
    assert (values.min(), times[values.argmin()]) == pytest.approx((-0.8, 321_000 / 44100))
    assert len(times) < 1100


def test_the_difference_is_estimate_minus_target_over_the_time_that_they_share():
    target, estimate = tone(500), tone(500)[:, :30_000] / 2
    panels = waves(figures.song_view({"mixture": target, "target": target, "estimate": estimate}))
    assert list(panels) == ["mixture", "target", "estimate", "estimate − target"]
    times, values = panels["estimate − target"].lines[0].get_data()
    np.testing.assert_allclose(values, -target[0, np.round(times * 44100).astype(int)] / 2)
    assert times.max() == pytest.approx(30_000 / 44100, abs=0.001)
    assert "estimate − target" not in waves(figures.song_view({"target": target, "C, estimate": estimate}))


def test_silence_can_be_drawn_and_broken_clips_not():
    assert cells(figures.song_view({"silence": np.zeros(8000)}, 8000).axes[1])[2].max() == -80
    with pytest.raises(SepkitError, match="'bad' has 1 samples that are not finite"):
        figures.song_view({"bad": np.array([0.0, np.nan])}, 8000)
    with pytest.raises(SepkitError, match="at least one clip"):
        figures.song_view({})


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


def test_training_curves_mark_the_epoch_where_the_sdr_chooses_it(week):
    runs = [week.run(name) for name in ("Base-s0", "C-s0", "D-s0")]
    figure = figures.training_curves(runs)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["Base-s0", "C-s0", "D-s0"]
    history = runs[0].history()
    losses, sdr = figure.axes[:2]
    np.testing.assert_allclose(losses.lines[0].get_ydata(), history["train_loss"])
    np.testing.assert_allclose(losses.lines[1].get_ydata(), history["valid_loss"])
    np.testing.assert_allclose(sdr.lines[0].get_ydata(), history["valid_sdr"])
    assert sdr.lines[1].get_data() == (9, history["valid_sdr"].max())  # by loss it were epoch 7
    assert losses.get_shared_y_axes().joined(losses, panels["D-s0"])
    assert not losses.get_shared_y_axes().joined(losses, panels["C-s0"])  # another loss
    assert labelled(figure)
    with pytest.raises(SepkitError, match="at least one trained run"):
        figures.training_curves([])


def test_convergence_is_in_db_over_minutes_and_names_curves_at_their_ends(week):
    runs = [week.run("Base-s0"), week.run("C-s0")]
    (axes,) = figures.convergence(runs).axes
    assert axes.get_legend() is None
    ends = {text.get_text(): text.xy for text in axes.texts}
    assert ends == {"Base-s0": (pytest.approx(30), pytest.approx(runs[0].history()["valid_sdr"].iloc[-1])), "C-s0": ANY}
    np.testing.assert_allclose(axes.lines[0].get_ydata(), runs[0].history()["valid_sdr"])
    assert axes.lines[1].get_xdata()[0] == pytest.approx(30 * 9 / 12)  # the best epoch
    assert axes.get_xlabel() == "training time in minutes"
    assert "dB" in axes.get_ylabel()


def test_many_curves_share_no_colour_and_no_name_lies_over_another(week, monkeypatch):
    history, runs = week.run("Base-s0").history(), []
    for number in range(18):
        run = week.run(f"{number} with a name that is long")
        monkeypatch.setitem(
            run.__dict__, "history", lambda number=number: history.assign(valid_sdr=history["valid_sdr"] + number / 9)
        )
        runs.append(run)
    (axes,) = figures.convergence(runs).axes
    drawn = [(line.get_color(), line.get_linestyle()) for line in axes.lines if len(line.get_xdata()) > 1]
    coloured = [colour for colour, style in drawn if style == "-"]
    assert len(drawn) == 18 and len(coloured) == len(set(coloured)) == 7
    assert {colour for colour, style in drawn if style != "-"} == {canvas.GREY}
    assert_apart(axes)


@pytest.fixture(scope="module")
def many(tmp_path_factory, helpers):
    """Ten experiments of three seeds each, Base first; every second experiment's SDR is higher by its number."""
    root = Root.open(tmp_path_factory.mktemp("many") / "root", "demo")
    for number, name in enumerate(("Base", *"ABCDEFGHI")):
        for seed in range(3):
            helpers.add(root, f"{name}-s{seed}", None, seed=seed)
            file = root.run(f"{name}-s{seed}").path / "history.csv"
            history = pd.read_csv(file)
            write_csv(file, history.assign(valid_sdr=history["valid_sdr"] + number + seed / 9))
    return root


def test_of_many_runs_those_of_an_experiment_share_a_panel(many):
    runs = sorted(many.runs(), key=lambda run: run.config["experiment"] != "Base")
    assert len(runs) == 30 > figures.MANY
    panels = figures.training_curves(runs).axes
    assert [axes.get_title() for axes in panels[::2]] == ["Base", *"ABCDEFGHI"]
    for loss, sdr in zip(panels[::2], panels[1::2], strict=True):
        assert (len(loss.lines), len(sdr.lines)) == (2 * 3, 2 * 3)
    np.testing.assert_allclose(panels[3].lines[2].get_ydata(), many.run("A-s1").history()["valid_sdr"])
    assert len(figures.training_curves(runs[: figures.MANY]).axes) == 2 * figures.MANY


def test_more_experiments_than_a_page_holds_are_the_first_and_the_best(many, monkeypatch):
    monkeypatch.setattr(curves, "MANY", 4)
    titles = [axes.get_title() for axes in figures.training_curves(many.runs()).axes[::2]]
    assert titles == ["A", "G", "H", "I"]  # A is the first run


def test_of_many_runs_seven_experiments_have_curves_and_all_have_marks(many):
    (axes,) = figures.convergence(many.runs()).axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert {text.get_text() for text in axes.texts} == {*"ADEFGHI"}
    assert len(drawn) == 7 * 3 and len({line.get_color() for line in drawn}) == 7
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(marks) == 30 and sum(line.get_color() == canvas.GREY for line in marks) == 9
    assert_apart(axes)


def test_names_at_many_ends_are_not_searched_against_every_point(monkeypatch):
    bitmaps, make = [], backend_agg.RendererAgg.__init__
    monkeypatch.setattr(backend_agg.RendererAgg, "__init__", lambda *of: (bitmaps.append(of), make(*of))[1])
    axes = figures.Picture(7, 20).subplots()
    for number in range(200):
        axes.plot(np.linspace(0, 1 + number, 30), np.full(30, number))
    ends = {f"run {number}": (1.0 + number, float(number), "black") for number in range(0, 200, 4)}
    tracemalloc.start()
    canvas.tag_ends(axes, ends)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bitmaps) == 1  # not one a name
    assert peak < 100e6  # every place against every point takes 230 MB


def assert_apart(axes) -> None:
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line that leads to it
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    assert all(axes.figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_score_bars_hold_medians_and_quartiles(week, helpers):
    axes = figures.score_bars(scores_of(week, "Base-s0", "D-s0", "mixture", "oracle")).axes[0]
    boxes = [bar for box in axes.containers for bar in box]
    songs = [helpers.base_db + helpers.spread * 0, np.delete(helpers.base_db + helpers.spread, 2)]
    assert [bar.get_x() for bar in boxes] == pytest.approx([np.quantile(values, 0.25) for values in songs])
    assert [bar.get_x() + bar.get_width() for bar in boxes] == pytest.approx([np.quantile(v, 0.75) for v in songs])
    medians = [line.get_xdata()[0] for line in axes.lines[:2]]
    assert medians == pytest.approx([np.median(values) for values in songs])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Base (12)", "D (11)"]
    assert {text.get_text() for text in axes.texts} == {"mixture −5.0", "oracle 8.7"}
    assert [len(points.get_offsets()) for points in axes.collections] == [12, 11]
    assert axes.get_xlabel() == "sdr_bsseval of vocals in dB (2stem)"


def test_score_bars_refuse_mixed_protocols(week, helpers):
    mixed = pd.concat([scores_of(week, "Base-s0"), helpers.rows("A-s0", helpers.base_db, protocol="4stem")])
    with pytest.raises(SepkitError, match="one protocol in one figure, got 2stem, 4stem"):
        figures.score_bars(mixed)


@pytest.fixture(scope="module")
def tests(week):
    sides = {name: scores_of(week, f"{name}-s0") for name in ("C", "D", "G")}
    return compare_all(sides, scores_of(week, "Base-s0"))[0]


def test_the_forest_has_every_difference_with_its_interval_and_mark(tests):
    figure = figures.forest(tests)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["C", "D", "G"]
    intervals = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2][:3]
    assert intervals == [test.interval for test in tests.values()]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [point.get_xdata()[0] for point in points] == [test.median_difference for test in tests.values()]
    assert [point.get_color() for point in points] == [figures.BETTER, canvas.GREY, figures.WORSE]
    words = [text.get_text() for text in axes.texts]
    assert words[2::3] == ["✓", "n.s.", "▼", "Sig."]
    assert words[1] == show_p(tests["C"].p_holm) != show_p(tests["C"].p_value)
    assert words[6].startswith("−2.00 [−2.15, −1.8")
    top, bottom = axes.transData.transform([(0, 0), (0, 2)])[:, 1]
    assert top > bottom  # the first row of the scoreboard is the first here
    assert labelled(figure)
    assert figures.forest({}).axes[0].get_xlabel() == "no experiment is compared yet"


def test_two_seeds_a_side_add_the_interval_of_the_method(helpers):
    def seeds(name, gain):
        return pd.concat(
            [helpers.rows(f"{name}-s{seed}", helpers.base_db + gain + seed / 5, seed=seed) for seed in (0, 1)]
        )

    tests, _ = compare_all({"C": seeds("C", 1)}, seeds("Base", 0))
    spans = [tuple(line.get_xdata()) for line in figures.forest(tests).axes[0].lines if len(line.get_xdata()) == 2]
    assert spans[:2] == [tests["C"].method_interval, tests["C"].interval]


def test_few_artists_have_no_interval_and_no_change_can_be_drawn(helpers):
    base = helpers.rows("Base-s0", helpers.base_db[:5], songs=helpers.songs[:5])
    tests, _ = compare_all({"C": base.assign(run="C-s0", experiment="C")}, base)
    words = [text.get_text() for text in figures.forest(tests).axes[0].texts]
    assert words[:3] == ["+0.00 ", "—", "no change"]
    assert len(figures.gain_against_minutes(tests, {"C": 3.0}).axes[0].texts) == 1


def test_a_strip_has_each_songs_difference(week, helpers):
    sides = {name: scores_of(week, f"{name}-s0") for name in ("C", "D")}
    axes = figures.strip(sides, scores_of(week, "Base-s0")).axes[0]
    dots = [np.sort(points.get_offsets()[:, 0]) for points in axes.collections]
    np.testing.assert_allclose(dots[0], np.sort(1 + helpers.spread / 2))
    np.testing.assert_allclose(dots[1], np.sort(np.delete(helpers.spread, 2)))
    colours = [matplotlib.colors.to_hex(colour).upper() for colour in axes.collections[1].get_facecolors()]
    assert colours == [figures.BETTER if gap > 0 else figures.WORSE for gap in axes.collections[1].get_offsets()[:, 0]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["C (12)", "D (11)"]
    assert axes.get_xlabel() == "difference from Base-s0 in sdr_bsseval of vocals, dB (2stem)"


def test_lower_is_better_is_blue_where_lower(week):
    base = scores_of(week, "Base-s0")
    quieter = base.assign(run="Q", experiment="Q", value=base["value"] - 1)
    axes = figures.strip({"Q": quieter}, base, metric="silence_energy_db").axes[0]
    assert {matplotlib.colors.to_hex(colour).upper() for colour in axes.collections[0].get_facecolors()} == {
        figures.BETTER
    }


def test_gains_stand_at_their_minutes(tests):
    axes = figures.gain_against_minutes(tests, {"Base": 30.0, "C": 41.0, "G": 52.0}, "GPU minutes").axes[0]
    ends = {text.get_text(): text.xy for text in axes.texts}
    assert ends == {"Base": (30, 0), "C": (41, tests["C"].median_difference), "G": (52, tests["G"].median_difference)}
    assert axes.get_xlabel() == "training in GPU minutes"
    assert_apart(axes)


@pytest.mark.filterwarnings("error")
def test_forty_gains_at_one_point_are_named_within_the_figure(tests):
    names = [f"experiment {number}" for number in range(40)]
    figure = figures.gain_against_minutes(dict.fromkeys(names, tests["D"]), dict.fromkeys(names, 30.0))
    assert figure._repr_png_()
    assert_apart(figure.axes[0])


def test_budget_bars_add_up(week):
    figure = figures.budget_bars(week.budget(), limit_min=480)
    total, each = figure.axes
    assert total.containers[0][0].get_width() == pytest.approx(188)
    assert "188.0 of 480 GPU minutes" in total.get_title("left")
    assert sum(bar.get_width() for box in each.containers for bar in box) == pytest.approx(188)
    assert labelled(figure)


@pytest.mark.parametrize("gpu", [0.0, 1.0])
@pytest.mark.parametrize(("runs", "stages"), [(1, 1), (1, 11), (2, 9), (5, 12)])
@pytest.mark.filterwarnings("error")
def test_stages_are_named_beside_the_bars_however_many_there_are(gpu, runs, stages):
    rows = [(f"R{run}", f"stage {stage}", 1.0, gpu) for run in range(runs) for stage in range(stages)]
    figure = figures.budget_bars(pd.DataFrame(rows, columns=["run", "stage", "minutes", "gpu_min"]))
    assert figure._repr_png_()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {row[1] for row in rows}
    named = legend.get_window_extent()
    assert not any(axes.get_window_extent().overlaps(named) for axes in figure.axes)
    assert named.ymin >= 0


def test_of_many_runs_those_of_an_experiment_are_one_bar(many):
    (*_, each) = figures.budget_bars(many.budget()).axes
    labels = [text.get_text() for text in each.get_yticklabels()]
    assert sorted(labels) == sorted(f"{name} (3)" for name in ("Base", *"ABCDEFGHI"))
    assert each.get_ylabel() == "experiment (runs)"
    spent = sum(bar.get_width() for box in each.containers for bar in box)
    assert spent == pytest.approx(many.budget()["gpu_min"].sum())
    folds = pd.DataFrame(
        [(f"Base-s{n % 9}-f{n // 9}", "train", 1.0, 0.0) for n in range(36)],
        columns=["run", "stage", "minutes", "gpu_min"],
    )
    assert [text.get_text() for text in figures.budget_bars(folds).axes[0].get_yticklabels()] == ["Base (36)"]


def test_budget_without_a_gpu_says_so(week):
    budget = week.budget().assign(gpu_min=0.0, device="cpu")
    (each,) = figures.budget_bars(budget).axes
    assert "0.0 of 480 GPU minutes" in each.get_title("left")
    assert each.get_xlabel() == "CPU minutes (no GPU was used)"
    assert len(figures.budget_bars(budget.iloc[:0]).axes) == 1  # nothing spent yet


def test_saved_as_png_svg_and_pdf_with_text_as_text_and_no_global_figures(week, tmp_path):
    import matplotlib.pyplot as plt

    figure = figures.budget_bars(week.budget())
    path = figures.save(figure, tmp_path / "new" / "budget.png")
    assert path == figures.save(figure, path.with_suffix(".svg")) == figures.save(figure, path.with_suffix(""))
    assert sorted(file.name for file in path.parent.iterdir()) == ["budget.pdf", "budget.png", "budget.svg"]
    with Image.open(path) as image:
        assert image.size == (canvas.DOUBLE * canvas.DPI, pytest.approx(figure.get_figheight() * canvas.DPI, abs=1))
    drawing = path.with_suffix(".svg").read_text(encoding="utf-8")
    assert "GPU minutes spent</text>" in drawing
    assert re.findall(r'width="([\d.]+)pt"', drawing)[0] == f"{72 * canvas.DOUBLE:g}"
    pdf = path.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert Image.open(io.BytesIO(figure._repr_png_())).width == canvas.DOUBLE * canvas.SCREEN_DPI
    assert plt.get_fignums() == []


def test_the_same_figure_gives_the_same_files(week, tmp_path):
    for name in ("a", "b"):
        figures.save(figures.convergence(week.run("Base-s0")), tmp_path / name)
    for kind in ("png", "svg", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes(), kind


def test_a_failed_save_leaves_the_old_file(week, tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = figures.budget_bars(week.budget())
    monkeypatch.setattr(figures.Picture, "encoded", lambda self, kind: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        figures.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_an_outlier_is_named_and_does_not_squeeze_the_rest(helpers):
    values = helpers.base_db.copy()
    values[0] = -24
    axes = figures.score_bars(helpers.rows("Base-s0", values)).axes[0]
    assert "◀ −24" in [text.get_text() for text in axes.texts]
    assert -16 < axes.get_xlim()[0] < 0
    assert len(axes.collections[0].get_offsets()) == 11
