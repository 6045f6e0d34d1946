"""Silence earns nothing: two runs are compared over the windows that both have, and a perfect estimate beats others.

Twelve songs of six seconds whose last three are hard: Base has about 10 dB in the first three and 2 dB in the others.
"""

import math

import numpy as np
import pandas as pd
import pytest

import sepkit
from sepkit.evaluation.museval_json import read_museval, write_museval
from sepkit.evaluation.statistics import compare_scores, summary
from sepkit.evaluation.track import Targets
from sepkit.reporting.outcome import outcome
from sepkit.reporting.scoreboard import collect
from sepkit.storage import Root, with_windows, write_csv, write_json

RATE, SONGS, SECONDS = 2048, [f"Band {letter} - Song" for letter in "ABCDEFGHIJKL"], 6
NAMES, BASE_DB = ("vocals", "accompaniment"), np.array([10, 10, 10, 2, 2, 2.0])
HARD = [3, 4, 5]


@pytest.fixture(scope="module")
def songs():
    """[(targets, signals of the targets, error with the level of the target)], a song each."""
    made = []
    for number in range(len(SONGS)):
        signals, error = np.random.default_rng(number).standard_normal((2, 2, 1, SECONDS * RATE))
        targets = Targets(dict(zip(NAMES, signals, strict=True)), RATE)
        made.append((targets, signals, error))
    return made


def run_of(songs, name, *, gain=0.0, silent=(), of="vocals", seed=0, perfect=()):
    """(scores.csv, frames.csv): Base's estimates with `gain` dB more in the vocals, of song n n % more, and without the
    seconds `silent` of one source; the vocals of songs number `perfect` are the targets."""
    scores, frames = [], []
    for number, (song, (targets, signals, error)) in enumerate(zip(SONGS, songs, strict=True)):
        sdr = np.tile(BASE_DB, (2, 1)) + number / 10
        sdr[0] += gain * (1 + number / 100)
        estimate = signals + error * np.repeat(10 ** (-sdr / 20), RATE, axis=1)[:, None]
        if number in perfect:
            estimate[0] = signals[0]
        for second in silent:
            estimate[NAMES.index(of), :, second * RATE : (second + 1) * RATE] = 0
        rows, windows = targets.score(dict(zip(NAMES, estimate, strict=True)))
        facts = {"run": f"{name}-s{seed}", "experiment": name, "seed": seed, "fold": None, "accompaniment": "modelled"}
        scores += [{**facts, "track": song, **row} for row in rows]
        frames += [{"track": song, **row} for row in windows]
    return pd.DataFrame(scores), pd.DataFrame(frames)


def scores_of(songs, name, **changes):
    return with_windows(*run_of(songs, name, **changes))


@pytest.fixture(scope="module")
def base(songs):
    return scores_of(songs, "Base")


def medians_alone(scores):
    """The scores of a run whose windows were not kept."""
    return scores.drop(columns="windows")


def test_a_network_that_falls_silent_in_the_hard_seconds_earns_no_mark(songs, base):
    run = scores_of(songs, "C", gain=0.1, silent=HARD)
    before = compare_scores(medians_alone(run), medians_alone(base))
    assert before.mark == "✓" and before.median_difference > 4  # what silence would earn
    assert "12 songs are compared by medians over unlike windows" in str(before)
    test = compare_scores(run, base)
    assert test.median_difference == pytest.approx(0.1, abs=0.02) and test.p_value < 0.01
    assert test.mark == "silence" and not test.significant and test.whole_track < -1
    assert "C-s0 is 0.11 dB higher (rests on silence) than Base-s0" in test.sentence
    assert test.details["windows left out for silence"] == "36 of the run, 0 of the base"
    assert f"sdr_global of vocals differs by {test.whole_track:.2f} dB" in test.notes[0]
    mirror = compare_scores(base, run)
    assert mirror.mark == mirror.verdict.split()[-1] == "silence" and mirror.silent == (0, 36)
    assert mirror.median_difference == pytest.approx(-test.median_difference)


@pytest.mark.parametrize("metric", ["sdr_bsseval", "isr_bsseval", "sir_bsseval", "sar_bsseval"])
def test_an_identical_accompaniment_earns_nothing_by_silent_vocals(songs, base, metric):
    run = scores_of(songs, "C", silent=HARD)
    alone = compare_scores(medians_alone(run), medians_alone(base), metric=metric, source="accompaniment")
    assert alone.mark == "✓"
    for sides in ((run, base), (base, run)):
        test = compare_scores(*sides, metric=metric, source="accompaniment")
        assert test.mark == "no change" and test.n_zero == 12 and sorted(test.silent) == [0, 36]
        assert compare_scores(*sides).mark == "no change"  # the vocals, too, are the same where they sound


def test_without_silence_nothing_changes_and_equal_estimates_have_no_difference(songs, base):
    run = scores_of(songs, "C", gain=0.5)
    assert compare_scores(run, base) == compare_scores(medians_alone(run), medians_alone(base))
    assert compare_scores(run, base).mark == "✓" and compare_scores(base, run).mark == "▼"
    same = compare_scores(base, scores_of(songs, "C"))
    assert same.mark == "no change" and same.notes == ()


def test_a_gain_that_the_whole_track_confirms_keeps_its_mark_and_tells_of_the_windows(songs, base):
    run = scores_of(songs, "C", gain=3, silent=[0])
    test = compare_scores(run, base)
    assert test.mark == "✓" and test.silent == (12, 0) and test.whole_track > 0
    without = compare_scores(run[run["metric"] != "sdr_global"], base)
    assert without.mark == "✓" and "sdr_global of vocals is not scored" in without.notes[0]


def test_of_several_seeds_the_windows_of_all_count(songs, base):
    seeds = [scores_of(songs, "C", silent=silent, seed=seed) for seed, silent in enumerate(([0, 3], [4]))]
    test = compare_scores(pd.concat(seeds), base)
    assert test.silent == (36, 0) and test.mark == "no change"


def test_a_song_without_a_common_window_leaves_the_test(songs, base):
    runs = [scores_of(songs, name, silent=silent) for name, silent in (("C", [0, 1, 2]), ("D", HARD))]
    test = compare_scores(*runs)
    assert test.n == 0 and set(test.dropped) == set(SONGS) and "no window" in test.dropped[SONGS[0]]


def test_perfect_against_finite_is_a_gain(songs, base):
    run = scores_of(songs, "C", gain=0.5, perfect=[0, 1])
    test = compare_scores(run, base)
    assert (test.n, test.n_better, test.mark, test.dropped) == (12, 12, "✓", {})
    assert test.rank_biserial == 1 and math.isfinite(test.median_difference)
    assert compare_scores(base, run).mark == "▼"
    lone = compare_scores(scores_of(songs, "C", gain=-0.5, perfect=[0]), base)
    assert lone.rank_biserial == pytest.approx((12 - 66) / 78)  # its rank is above all others
    every = scores_of(songs, "C", perfect=range(12))
    test = compare_scores(every, base)
    assert test.mark == "✓" and test.median_difference == math.inf and test.interval == (math.inf, math.inf)
    assert "C-s0 is inf dB better than Base-s0" in test.sentence and "+inf to +inf dB" in test.sentence
    assert compare_scores(base, every).median_difference == -math.inf
    assert compare_scores(every, scores_of(songs, "D", perfect=range(12))).mark == "no change"
    assert summary(every)["median"] == math.inf and summary(run)["n_undefined"] == 0


def test_methods_with_perfect_songs_have_an_interval_that_says_where_it_ends(songs):
    seeds = [
        pd.concat([scores_of(songs, name, gain=gain + seed / 20, seed=seed, perfect=perfect) for seed in (0, 1)])
        for name, gain, perfect in (("C", 1, [3]), ("Base", 0, []))
    ]
    test = compare_scores(*seeds)
    assert test.method_interval[0] < 1 < test.method_interval[1] and math.isfinite(test.components.estimate)


def test_scoreboard_compare_outcome_and_museval_agree(songs, tmp_path):
    root = Root.open(tmp_path)
    for name, changes in (("Base", {}), ("C", {"gain": 0.1, "silent": HARD})):
        run, (scores, frames) = root.run(f"{name}-s0"), run_of(songs, name, **changes)
        config = {"run": run.name, "experiment": name, "profile": "demo", "seed": 0, "fold": None}
        write_json(run.path / "config.json", config)
        write_json(run.path / "status.json", {"state": "finished"})
        write_csv(run.scores_path, scores)
        write_csv(run.path / "frames.csv", frames)
    section = collect(root, "demo").main
    row = section.table.set_index("Exp").loc["C"]
    assert row["Sig."] == "silence" and row["windows silent"] == 36
    assert any(note.startswith("C: Left out for silence: 36 windows") for note in section.notes)
    assert "36 by silence)" in section.block.grids[1].cells.set_index("Exp").loc["C", "windows"]
    found = [sepkit.compare("C", "Base", root=root), outcome(root.run("C-s0"), root.run("Base-s0")).tests["C-s0"]]
    assert found == [section.comparisons["C"]] * 2
    theirs = compare_scores(*(read_museval(write_museval(root.run(name))) for name in ("C-s0", "Base-s0")))
    assert theirs.silent == (36, 0) and theirs.median_difference == pytest.approx(row["gain"], abs=1e-4)
