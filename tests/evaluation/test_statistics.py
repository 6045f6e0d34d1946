"""Paired statistics: answers worked out by hand or by scipy, and reports S18 to S23."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from sepkit.errors import SepkitError
from sepkit.evaluation.paired import artist_bootstrap, artist_interval
from sepkit.evaluation.statistics import ALPHA, compare_all, compare_scores, holm, summary


def table(values, run="Base", seed=0, metric="sdr_bsseval", source="vocals", protocol="2stem", tracks=None):
    values = np.asarray(values, float)
    return pd.DataFrame(
        {
            "run": run if seed == 0 else f"{run}-s{seed}",
            "experiment": run,
            "seed": seed,
            "fold": None,
            "track": tracks or [f"song {i:02d}" for i in range(len(values))],
            "source": source,
            "metric": metric,
            "value": values,
            "protocol": protocol,
            "frames": 10,
            "frames_dropped": 2,
            "status": np.where(np.isnan(values), "undefined: silent target", "ok"),
        }
    )


def compare(differences, **settings):
    differences = np.asarray(differences, float)
    base = np.linspace(0, 5, len(differences))
    return compare_scores(table(base + differences, "C"), table(base), **settings)


def test_known_answers_of_ten_songs():
    differences = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, -0.05])
    result = compare(differences)
    assert result.p_value == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue)
    assert result.p_value == pytest.approx(4 / 2**10)  # only T = 0 and T = 1, on both sides
    assert (result.n, len(result.dropped), result.n_zero) == (10, 0, 0)
    assert result.rank_biserial == pytest.approx((54 - 1) / 55)
    assert result.n_better == 9
    assert result.significant and result.mark == "✓"
    walsh = [(a + b) / 2 for i, a in enumerate(differences) for b in differences[i:]]
    assert result.median_difference == pytest.approx(np.median(walsh))
    assert min(walsh) < result.interval[0] < result.median_difference < result.interval[1] < max(walsh)
    low, high = result.interval
    assert result.sentence == (
        f"C is 0.45 dB better than Base in sdr_bsseval of vocals (95 % interval {low:+.2f} to {high:+.2f} dB, p = 0.0039)."
    )
    assert "two checkpoints" in result.method_sentence
    assert result.details["songs better"] == "9 of 10"
    for part in ("exact", "two-sided", "zero differences dropped"):
        assert part in result.details["test"]
    assert str(result).splitlines()[:2] == [result.sentence, result.method_sentence]


def test_worse_is_marked_and_lower_is_better_turns_it_round():
    drop = -np.arange(1.0, 11)
    assert compare(drop).mark == "▼"
    base = np.linspace(-60, -50, 10)
    quieter = compare_scores(
        table(base + drop, "C", metric="silence_energy_db"),
        table(base, metric="silence_energy_db"),
        metric="silence_energy_db",
    )
    assert quieter.mark == "✓" and quieter.median_difference < 0 and quieter.n_better == 10
    assert "dB lower (better) than Base in silence_energy_db" in quieter.sentence


def test_interval_covers_the_true_shift():
    rng, songs = np.random.default_rng(0), [f"band {i} - x" for i in range(25)]
    intervals = [artist_interval(artist_bootstrap(rng.normal(1, 1, 25), songs, 500), 25) for _ in range(200)]
    assert 0.91 < np.mean([low <= 1 <= high for low, high in intervals]) < 0.98


def test_an_interval_that_leaves_out_zero_is_never_called_no_difference():
    """Eight of ten songs are lower: 0.01 < p < 0.05, and the direction is said."""
    result = compare([-1.0, -1.1, -1.2, -1.3, -1.4, -1.5, -0.6, -1.7, 1.25, 0.5])
    assert not result.significant and result.interval[1] < 0 and ALPHA < result.p_value < 0.05
    assert result.verdict == f"lower (p = {result.p_value:.2g}), not significant at 0.01"
    assert "dB lower than Base" in result.sentence and result.sentence.endswith("not significant at 0.01).")
    unclear = compare([-1.0, -1.1, -1.2, -1.3, -1.4, 1.5, 1.6, 1.7, 0.4, 0.5])
    assert unclear.interval[0] < 0 < unclear.interval[1]
    assert unclear.verdict == "no difference shown" and "no difference shown" in unclear.sentence


def test_of_several_comparisons_holm_decides():
    """p = 2/2⁸ < 0.01 alone; among three, Holm's is over it: no mark, and both are said."""
    base = np.linspace(0, 5, 8)
    sides = {name: table(base + np.arange(1, 9) * sign, name) for name, sign in (("C", 1), ("D", -1), ("E", 2))}
    alone = compare_scores(sides["C"], table(base))
    assert alone.mark == "✓" and alone.p_holm is None
    found, refused = compare_all({**sides, "F": table([1.0], "F")}, table(base))
    assert list(refused) == ["F"] and "same songs" in refused["F"]
    assert {test.mark for test in found.values()} == {"n.s."}
    assert found["C"].p_value == alone.p_value and found["C"].p_holm == pytest.approx(3 * alone.p_value)
    assert found["D"].verdict == "lower (p = 0.0078; 0.023 after Holm), not significant at 0.01"
    assert "p = 0.0078; 0.023 after Holm: not significant at 0.01)" in found["D"].sentence
    assert compare_all({"C": sides["C"]}, table(base))[0]["C"].mark == "✓"


def test_small_sets_say_so():
    result = compare([1, 2, 3, 4, 5, 6, 7])
    assert not result.significant and result.mark == "n too small"
    assert "7 songs are too few for p < 0.01, which needs 8 that differ" in result.sentence
    assert replace(result, alpha=0.05).significant
    assert compare([1, 2, 3]).interval == (-math.inf, math.inf)
    assert "no 95 % interval: fewer than 6 artists" in compare([1, 2, 3]).sentence


def test_s21_identical_results_have_no_p_value():
    result = compare(np.zeros(30))
    assert result.p_value is None and not result.significant and result.mark == "no change"
    assert "same sdr_bsseval of vocals as Base on all 30 songs" in result.sentence
    assert "nan" not in result.sentence
    rounding = compare(np.full(30, 1e-12))
    assert rounding.p_value is None and rounding.n_zero == 30


def test_s22_undefined_scores_drop_the_pair_on_both_sides():
    differences = np.array([0.5, 1, 1.5, 2, 2.5, 3, math.nan])
    result = compare(differences)
    assert (result.n, len(result.dropped)) == (6, 1)
    assert result.p_value == pytest.approx(2 / 2**6)
    assert result.dropped == {"song 06": "undefined: silent target (C)"}
    assert result.details["songs"] == "6 compared, 0 without change, 1 undefined"
    assert result.details["left out: song 06"] == "undefined: silent target (C)"
    base = table(np.zeros(10))
    base.loc[3, ["value", "status"]] = [math.nan, "undefined: silent estimate"]
    swapped = compare_scores(table(np.arange(10.0) + 1, "C"), base)
    assert swapped.n == 9 and swapped.dropped == {"song 03": "undefined: silent estimate (Base)"}


def test_no_song_defined_on_both_sides():
    result = compare(np.full(9, math.nan))
    assert result.p_value is None and result.n == 0 and "share no song" in result.sentence


@pytest.mark.parametrize(
    ("differences", "n_zero", "method"),
    [
        ([1, 1, 2, 3, 4], 0, "normal approximation"),
        ([0, 0, 1, 2, 3, 4, 5, 6, 7, 8.5], 2, "exact"),
        (np.arange(1, 61) / 7, 0, "normal approximation"),
    ],
)
def test_s23_method_and_zeros_are_chosen_and_printed(differences, n_zero, method):
    result = compare(differences)
    assert (result.method, result.n_zero) == (method, n_zero)
    assert method in result.details["test"] and "zero differences dropped" in result.details["test"]
    assert f"{n_zero} without change" in result.details["songs"]


def test_s19_definitions_and_protocols_are_never_mixed():
    ours = table(range(10))
    with pytest.raises(
        SepkitError, match=r"base has no scores of metric 'sdr_bsseval' of vocals, only sdr_torchmetrics"
    ):
        compare_scores(ours, table(range(10), metric="sdr_torchmetrics"))
    with pytest.raises(SepkitError, match="2stem and Base as 4stem"):
        compare_scores(ours, table(range(10), protocol="4stem"))
    with pytest.raises(SepkitError, match="one protocol; got 2stem, 4stem"):
        compare_scores(pd.concat([ours, table([1.0], protocol="4stem", tracks=["x"])]), ours)
    with pytest.raises(SepkitError, match="no scores of source 'drums'"):
        compare_scores(ours, ours, source="drums")


def test_songs_must_be_the_same_and_there_once():
    with pytest.raises(SepkitError, match="only in the run: a; only in the base: c"):
        compare_scores(table([1, 2], tracks=["a", "b"]), table([1, 2], tracks=["b", "c"]))
    with pytest.raises(SepkitError, match="two sdr_bsseval scores of 'a'"):
        compare_scores(table([1, 2], tracks=["a", "a"]), table([1], tracks=["a"]))
    with pytest.raises(SepkitError, match="lack the columns status"):
        compare_scores(table([1]).drop(columns="status"), table([1]))


def test_songs_are_paired_by_name_not_by_row():
    base = table(np.arange(9.0) ** 2)
    result = compare_scores(table(np.arange(9.0) ** 2 + 1, "C").sample(frac=1, random_state=0), base)
    assert result.median_difference == pytest.approx(1)


def test_seeds_are_averaged_within_a_song_first():
    runs = pd.concat([table(np.arange(10.0) + shift, "C", seed) for seed, shift in ((0, 0.5), (1, 1.5))])
    base = pd.concat([table(np.arange(10.0), "Base", seed) for seed in (0, 1)])
    result = compare_scores(runs, base)
    assert (result.run, result.n) == ("C", 10)
    assert result.median_difference == pytest.approx(1)
    assert "checkpoints" not in result.method_sentence


def test_holm_corrects_only_what_ran():
    corrected = holm({"A": 0.01, "B": None, "C": 0.03, "D": 0.02})
    assert corrected == {"A": pytest.approx(0.03), "B": None, "C": pytest.approx(0.04), "D": pytest.approx(0.04)}
    assert holm({"A": None}) == {"A": None}


def test_s18_summary_says_how_it_aggregates_and_what_it_dropped():
    tracks = ["a", "b", "c", "PR - Happy Daze", "The Long Wait - Dark Horses", "silent"]
    numbers = summary(table([1, 2, 3, -24, 8, math.nan], tracks=tracks))
    assert numbers["aggregation"] == "median over 1 s windows (BSS Eval v4), then over songs"
    assert (numbers["n"], numbers["n_undefined"], numbers["frames"], numbers["frames_dropped"]) == (5, 1, 60, 12)
    assert (numbers["median"], numbers["q25"], numbers["q75"]) == (2, 1, 3)
    assert (numbers["mean"], numbers["mean_without_outliers"]) == (-2, 3.5)
    assert (numbers["median_without_overlap"], numbers["mean_without_overlap"]) == (1.5, -4.5)


def test_s20_undefined_survives_csv_and_strict_json():
    scores = table([*range(9), math.nan])
    again = pd.read_csv(io.StringIO(scores.to_csv(index=False)))
    text = again.to_json(orient="records")
    strict = pd.DataFrame(json.loads(text, parse_constant=lambda name: pytest.fail(name)))
    for reader in (again, strict):
        assert len(compare_scores(reader, scores).dropped) == 1
        assert summary(reader)["n_undefined"] == 1


def test_medians_over_unlike_windows_are_counted():
    """S79: a system that is silent where it is bad loses those windows."""
    base, run = table(range(10)), table(np.arange(10) + 1.0, "C")
    run.loc[:3, "frames"] = 6
    result = compare_scores(run, base)
    assert result.n_uneven == 4
    assert result.details["medians over unlike numbers of windows"] == "4 songs"
    assert "medians over unlike numbers of windows: 4 songs" in str(result)
