"""Claims about methods: coverage under simulated nulls, what one seed can't say, artists, power."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.stats.power as textbook

from sepkit.data.tracks import artist_of
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.paired import artist_bootstrap, artist_interval, components, pseudo_median, wilcoxon
from sepkit.evaluation.power import checkpoints_db, detectable_db, measured_spread, methods_db, power_table
from sepkit.evaluation.statistics import compare_scores
from sepkit.storage import Root, write_csv, write_json


@pytest.fixture(scope="module")
def nulls():
    """The script behind docs/statistics.md."""
    path = Path(__file__).parents[2] / "benchmarks" / "null_comparisons.py"
    spec = importlib.util.spec_from_file_location("null_comparisons", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(table, name="Base", metric="sdr_bsseval", source="vocals", **columns):
    """scores.csv of `table`, {song: value by seed}."""
    rows = [
        {
            "run": f"{name}-s{seed}", "experiment": name, "seed": seed, "fold": None, "track": song,
            "source": source, "metric": metric, "value": value, "protocol": "2stem", "status": "ok", **columns,
        }
        for song, values in table.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def side(level, seeds=3, songs=20, noise=0.2, shift=0.0, seed=0):
    """{song: a value for each seed}: every seed has a level of its own."""
    rng = np.random.default_rng(seed)
    own = np.linspace(-level, level, seeds)
    base = np.linspace(0, 8, songs) + shift
    return {f"band {i} - x": base[i] + own + noise * rng.standard_normal(seeds) for i in range(songs)}


def test_seeds_that_swing_take_the_claim_away_that_a_test_over_songs_makes():
    """Every song is 0.5 dB better, seeds differ by 2 dB: the checkpoints differ, the methods can't be told."""
    run, base = scores(side(2.0, shift=0.5, seed=1), "C"), scores(side(2.0, seed=2))
    result = compare_scores(run, base)
    assert result.mark == "✓"
    assert result.method_interval[0] < 0 < 0.5 < result.method_interval[1]
    assert "no difference shown" in result.method_sentence
    assert "3 of C, 3 of Base" in result.method_sentence
    steady = compare_scores(scores(side(0.05, shift=0.5, seed=1), "C"), scores(side(0.05, seed=2)))
    assert 0 < steady.method_interval[0] < 0.5 < steady.method_interval[1] < 0.8
    assert "as methods: better" in steady.method_sentence
    swapped = compare_scores(scores(side(0.05, seed=2), "C"), scores(side(0.05, shift=0.5, seed=1)))
    assert "as methods: worse" in swapped.method_sentence
    assert swapped.method_interval == pytest.approx(tuple(-x for x in steady.method_interval[::-1]))
    assert compare_scores(run, base) == result  # no chance between calls


def test_lower_is_better_turns_the_words_round():
    quiet = {"metric": "silence_energy_db"}
    run, base = scores(side(0.05, shift=-3, seed=1), "C", **quiet), scores(side(0.05, seed=2), **quiet)
    result = compare_scores(run, base, metric="silence_energy_db")
    assert result.method_interval[1] < 0
    assert "as methods: better" in result.method_sentence


@pytest.mark.parametrize(("seeds", "of_base"), [(1, 1), (1, 3), (3, 1)])
def test_one_seed_on_a_side_claims_nothing(seeds, of_base):
    result = compare_scores(scores(side(0, seeds, shift=9), "C"), scores(side(0, of_base, seed=3)))
    assert result.mark == "✓"
    assert result.method_interval is None
    assert "one seed: no claim" in result.method_sentence
    assert result.seeds == (seeds, of_base)


def test_a_reference_has_no_seed_to_vary():
    result = compare_scores(scores(side(0, 1, shift=5), "oracle"), scores(side(0.5, 3, seed=3)))
    assert 3 < result.method_interval[0] < 5 < result.method_interval[1] < 7
    assert "none of oracle" in result.method_sentence


def test_base_against_itself_has_no_differences():
    base = scores(side(1.0))
    result = compare_scores(base, base)
    assert (result.p_value, result.method_interval, result.n_zero) == (None, None, 20)
    assert "nothing to test" in result.sentence
    assert "nothing to test" in result.method_sentence
    rounded = base.assign(value=base["value"].round(6) + 1e-6)
    assert compare_scores(base, rounded).n_zero == 20
    assert compare_scores(base, base.assign(value=base["value"].round(5))).n_zero == 20  # museval's decimals
    assert compare_scores(base, base.assign(value=base["value"] + 1e-4)).n_zero == 0


def test_the_variance_of_seeds_is_that_of_their_levels():
    """By hand: levels −1, 0, 1 on one side and one seed on the other, no noise: S² / k = 1 / 3."""
    run = np.arange(8.0) + np.array([[-1.0], [0.0], [1.0]])
    base = np.arange(8.0)[None] - np.array([0.5] * 4 + [1.5] * 4)
    names = [f"band {i} - x" for i in range(8)]
    draws = artist_bootstrap(run.mean(axis=0) - base[0], names)
    parts = components(run, base, draws, 8)
    assert parts.estimate == 1.0
    assert parts.run == pytest.approx(1 / 3)
    assert parts.base == 0
    assert parts.songs == pytest.approx(draws.var() * 8 / 7)
    total = parts.run + parts.songs
    assert parts.degrees == pytest.approx(total**2 / (parts.run**2 / 2 + parts.songs**2 / 7))


def test_a_song_that_one_seed_lacks_is_refused():
    base = scores(side(0.1))
    with pytest.raises(SepkitError, match=r"not all 3 seeds of Base \(base\) scored band 0 - x"):
        compare_scores(base, base.iloc[1:])


def test_an_accompaniment_of_other_origin_is_refused():
    def accompaniment(name, **columns):
        return scores(side(0.1), name, source="accompaniment", **columns)

    ours = accompaniment("C", accompaniment="residual")
    for other, words in (
        ({"accompaniment": "modelled"}, "of C is residual and that of Base modelled"),
        ({}, "of C is residual and that of Base of unknown origin"),
    ):
        with pytest.raises(SepkitError, match=words):
            compare_scores(ours, accompaniment("Base", **other), source="accompaniment")
    same = compare_scores(ours, accompaniment("Base", accompaniment="residual"), source="accompaniment")
    assert same.details["protocol"] == "2stem, accompaniment residual"
    mixed = ours.assign(accompaniment=["modelled", *["residual"] * (len(ours) - 1)])
    with pytest.raises(SepkitError, match="one origin of the accompaniment; got modelled, residual"):
        compare_scores(mixed, ours, source="accompaniment")
    vocals = compare_scores(
        scores(side(0.1), "C", accompaniment="modelled"), scores(side(0.1), accompaniment="residual")
    )
    assert vocals.n == 20  # vocals have no such origin


def test_songs_of_one_artist_count_as_one():
    """Six artists of ten equal songs each: ten times the songs, no more certainty."""
    gains = np.repeat([0.1, 0.4, 0.7, 1.2, 1.5, 1.6], 10)
    names = [f"band {i // 10} - song {i}" for i in range(60)]
    alone = [f"band {i} - song" for i in range(60)]
    clusters, songs = artist_bootstrap(gains, names), artist_bootstrap(gains, alone)
    assert clusters.std() > 2.5 * songs.std()
    low, high = artist_interval(clusters, 6)
    assert low < 0.5
    assert high >= 1.4
    assert artist_interval(clusters, 5) == (-math.inf, math.inf)
    assert artist_of("Side Effects Project - Sing With Me") == "Side Effects Project"


def test_a_resample_is_the_pseudo_median_of_its_songs():
    """The weights of pairs against the plain definition on the repeated songs, odd and even counts."""
    gains, names = np.array([0.3, -1.0, 2.2, 0.9, 5.0]), ["a - 1", "a - 2", "b - 1", "c - 1", "d - 1"]
    drawn = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), size=200)
    weights = drawn[:, [0, 0, 1, 2, 3]]
    expected = [pseudo_median(np.repeat(gains, counts)) for counts in weights]
    assert artist_bootstrap(gains, names, 200) == pytest.approx(expected)


@pytest.mark.long
def test_an_interval_for_methods_keeps_its_promise_under_nulls(nulls):
    """A small version of docs/statistics.md: at most 5 %, within three sampling errors of 120."""
    test, _, method = np.mean(
        [nulls.rates(case, 3, 40) for case in ("seeds differ", "heavy tails", "two songs an artist")], axis=0
    )
    assert method <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)
    assert test > 0.25
    assert nulls.rates("songs differ", 3, 20, gain=0.5)[2] > 0.9  # not by being useless


@pytest.mark.long
def test_the_document_shows_what_the_script_finds(nulls):
    """One cheap line of the table, made again."""
    text = nulls.DOCUMENT.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| both differ")]
    assert len(lines) == 3
    claimed = float(lines[1].split("|")[5].strip(" %"))
    seed_sd, paired_sd, kind = nulls.CASES["both differ"]
    pairs = [nulls.simulate(3, seed_sd, paired_sd, kind, 0.0, number)[:2] for number in range(200)]
    found = [wilcoxon(run.mean(axis=0) - base.mean(axis=0))[0] < 0.05 for run, base in pairs]
    assert claimed == pytest.approx(100 * np.mean(found), abs=0.051)
    for line in nulls.power().splitlines():
        assert line in text


def test_power_as_published_and_as_in_statsmodels():
    t_test = [round(detectable_db(sd / math.sqrt(50), 49), 2) for sd in (0.4, 0.6, 1.0, 1.7)]
    assert t_test == [0.16, 0.24, 0.40, 0.69]
    for seeds, expected in ((3, [0.31, 0.46, 0.92]), (5, [0.20, 0.30, 0.61])):
        found = [detectable_db(sd * math.sqrt(2 / seeds), 2 * seeds - 2) for sd in (0.1, 0.15, 0.3)]
        assert [round(each, 2) for each in found] == expected
        effect = textbook.TTestIndPower().solve_power(nobs1=seeds, alpha=0.05, power=0.8)
        assert found[0] == pytest.approx(0.1 * effect, rel=2e-3)
    effect = textbook.TTestPower().solve_power(nobs=12, alpha=0.01, power=0.8)
    assert detectable_db(1 / math.sqrt(12), 11, alpha=0.01) == pytest.approx(effect, rel=2e-3)


@pytest.mark.long
def test_power_is_what_a_simulation_finds(nulls):
    """At the difference that is said to be found in four of five cases, it is."""
    rng, needed = np.random.default_rng(0), checkpoints_db(50, 1.0)
    found = [wilcoxon(needed + rng.standard_normal(50))[0] < 0.01 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
    needed = methods_db(50, 3, 0.24, 0.4)
    assert nulls.rates("seeds differ", 3, 60, gain=needed)[2] == pytest.approx(0.8, abs=0.15)


def test_a_table_of_power_uses_the_spreads_of_base_where_there_are_two_seeds(tmp_path):
    root = Root.open(tmp_path, "demo")
    published = power_table(root, "full")
    assert published.attrs["basis"].startswith("spreads as published")
    assert list(published["between"]) == ["checkpoints"] * 4 + ["methods"] * 9
    assert set(published["songs"]) == {50}
    levels = (-0.3, 0.0, 0.3)
    for seed, level in enumerate(levels):
        run = root.run(f"Base-s{seed}")
        write_json(run.path / "config.json", {"experiment": "Base", "fold": None})
        run.write_status(state="finished")
        signs = np.where(np.arange(12) % 2, 1, -1) * (0.2 if seed == 2 else 0)
        table = scores({f"band {i} - x": [i + level + signs[i]] for i in range(12)})
        write_csv(run.scores_path, table.assign(run=run.name, seed=seed))
        assert (measured_spread(root) is None) == (seed == 0)
    seed_sd, paired_sd, seeds = measured_spread(root)
    assert seeds == 3
    assert seed_sd == pytest.approx(0.3, abs=0.02)
    assert paired_sd == pytest.approx(math.sqrt(2 / 3 * 0.2**2 * 12 / 11))  # two of three pairs differ by ±0.2
    own = power_table(root, "demo", seeds=[3])
    assert own.attrs["basis"].startswith("spreads of 3 seeds of Base here: SD 0.3")
    assert list(own["between"]) == ["checkpoints", "methods"]
    assert own["seed_sd"].iloc[1] == seed_sd
    with pytest.raises(UsageError, match="at least 6 songs and 2 seeds"):
        power_table(root, "demo", seeds=[1])
