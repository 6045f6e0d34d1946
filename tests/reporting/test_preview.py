"""README's table of real songs: what it computes from the scores that are kept, and that it is up to date."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sepkit.evaluation.statistics import compare_scores, holm
from sepkit.experiments import BOUNDS, MENU, week_experiments
from sepkit.storage import Root, frames_beside, write_csv
from sepkit.storage.scores import BSS_EVAL_METRICS

PLACE = Path(__file__).parent.parent.parent
MAIN = "metric == 'sdr_bsseval' and source == 'vocals'"
BETWEEN = "before\n{}old\n{}after\n"


@pytest.fixture
def preview():
    spec = importlib.util.spec_from_file_location("preview", PLACE / "benchmarks/preview.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def elsewhere(preview, helpers, tmp_path, monkeypatch):
    """The kept tables under tmp_path: Base with two seeds, C 1 dB above it, D like it, the mixture, a fold."""
    runs = [
        helpers.rows("Base-s0", helpers.base_db),
        helpers.rows("Base-s1", helpers.base_db + 0.2, seed=1),
        helpers.rows("C-s0", helpers.base_db + 1 + helpers.spread / 2),
        helpers.rows("D-s0", helpers.base_db + helpers.spread),
        helpers.rows("mixture", np.full(12, -5.0) + helpers.spread),
        helpers.rows("C-s0-f0", helpers.base_db[:4], songs=helpers.songs[:4], fold=0),
    ]
    tables = [preview.wide(run) for run in runs]
    monkeypatch.setattr(preview, "PLACE", tmp_path)
    monkeypatch.setattr(preview, "FRAMES", tmp_path / "frames")
    for name in ("SCORES", "RUNS"):
        monkeypatch.setattr(preview, name, tmp_path / f"{name.lower()}.csv")
    pd.concat(tables).to_csv(preview.SCORES, index=False)
    facts = [
        {"run": run["run"].iloc[0], "cpu_min": 20.0 + number, "minutes": 3.0, "device": "cpu"}
        for number, run in enumerate(runs[:4])
    ]
    facts[3]["device"] = "T4"
    pd.DataFrame(facts).reindex(columns=["run", *preview.FACTS]).to_csv(preview.RUNS, index=False)
    (tmp_path / "README.md").write_text(BETWEEN.format(preview.BEGIN, preview.END))
    return runs


def cells(table: str, row: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.replace("*", "").startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_way_out_and_back_keeps_scores(preview, helpers):
    before = helpers.rows("C-s0", helpers.base_db, undefined=helpers.songs[2])
    after = preview.long(preview.wide(before))
    key = ["track", "source", "metric"]
    pd.testing.assert_series_equal(
        before.set_index(key)["value"].sort_index(), after.set_index(key)["value"].sort_index()
    )
    other = helpers.rows("Base-s0", helpers.base_db + helpers.spread)
    assert compare_scores(after, other).p_value == compare_scores(before, other).p_value


def test_windows_are_kept_as_they_are_and_as_the_same_bytes(preview, tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "FRAMES", tmp_path / "frames")
    run = Root.open(tmp_path / "root").run("Base-s0")
    windows = pd.DataFrame({"track": "NA", "source": "vocals", "frame": range(3), "sdr_bsseval": [1.23456, np.nan, np.inf],
                            "isr_bsseval": 1.0, "sir_bsseval": 2.0, "sar_bsseval": [-4.0, np.nan, 3.0]})  # fmt: skip
    write_csv(frames_beside(run.scores_path), windows)
    preview.keep_windows(run)
    pd.testing.assert_frame_equal(preview.kept_windows(run.name), windows, check_dtype=False)
    (file,) = preview.FRAMES.iterdir()
    before = file.read_bytes()
    preview.keep_windows(run)
    assert file.read_bytes() == before


def test_table_says_medians_tests_and_minutes(preview, elsewhere):
    table = preview.readme_table()
    base, c, d, mixture = (cells(table, row) for row in ("Base", "C", "D", "mixture"))
    test = compare_scores(elsewhere[2], pd.concat(elsewhere[:2]))
    plain = compare_scores(elsewhere[3], pd.concat(elsewhere[:2])).p_value
    corrected = holm({"C": test.p_value, "D": plain})
    assert base[1] == "2" and base[-1] == "20.5"  # two seeds and the mean of their minutes
    assert base[7:10] == ["—", "—", "—"]  # no test against itself
    assert c[1] == "1" and c[2].startswith(f"**{np.median(elsewhere[2].query(MAIN)['value']):.2f}**")
    assert c[7].startswith(f"{test.median_difference:+.2f}")
    assert c[8:10] == [f"{test.p_value:.2g}", f"{corrected['C']:.2g} ✓"]
    assert "✓" not in d[9] and "▼" not in d[9]
    assert d[-1] == "3.0 on a GPU"
    assert mixture[1] == "—" and mixture[-1] == "—"


def test_windows_that_are_kept_of_both_sides_are_compared(preview, elsewhere):
    """Base and C have their medians as before; in the two windows that both have, C is 2 dB worse, Base silent in none."""
    preview.FRAMES.mkdir()
    for run, offsets in zip(elsewhere[:3], ([-6, 0, 6], [-6, 0, 6], [math.nan, 0, 0]), strict=True):
        rows = run.query(MAIN)
        windows = pd.DataFrame({"track": rows["track"].repeat(3), "source": "vocals", "frame": [0, 1, 2] * len(rows)})
        values = rows["value"].to_numpy().repeat(3) + np.tile(offsets, len(rows))
        windows[list(BSS_EVAL_METRICS)] = np.stack([values] * 4, axis=1)
        windows.to_csv(preview.FRAMES / f"{run['run'].iloc[0]}.csv.gz", index=False)
    before = compare_scores(elsewhere[2], pd.concat(elsewhere[:2]))
    c = cells(preview.readme_table(), "C")
    assert c[7].startswith(f"{before.median_difference - 3:+.2f}") and c[9].endswith("silence")  # sdr_global is better
    assert c[2].startswith(f"**{np.median(elsewhere[2].query(MAIN)['value']):.2f}**")


def test_folds_stay_out_of_the_table(preview, elsewhere):
    with_fold = preview.readme_table()
    scores = preview.kept(preview.SCORES)
    scores[scores["fold"].isna()].to_csv(preview.SCORES, index=False)
    assert preview.readme_table() == with_fold


def test_writes_between_the_marks_only(preview, elsewhere, tmp_path):
    preview.write_table()
    text = (tmp_path / "README.md").read_text()
    assert text == f"before\n{preview.BEGIN}{preview.readme_table()}{preview.END}after\n"


def test_a_readme_without_the_marks_is_refused(preview, elsewhere, tmp_path):
    (tmp_path / "README.md").write_text("nothing here\n")
    with pytest.raises(SystemExit, match="no place for the table"):
        preview.write_table()
    assert (tmp_path / "README.md").read_text() == "nothing here\n"


def test_without_base_there_is_no_table(preview, elsewhere):
    scores = preview.kept(preview.SCORES)
    scores[scores["experiment"] != "Base"].to_csv(preview.SCORES, index=False)
    with pytest.raises(SystemExit, match="no scores of Base"):
        preview.readme_table()


def test_best_is_set_against_openunmixs_recipe_and_out_of_fold(preview, elsewhere, helpers):
    more = [
        helpers.rows("Best-s0", helpers.base_db + 2),
        helpers.rows("UMX-s0", helpers.base_db + 1 + helpers.spread / 2),
        helpers.rows("Best-s0-f1", helpers.base_db[:4] + 3, songs=helpers.songs[:4], fold=1),
    ]
    scores = pd.concat([preview.kept(preview.SCORES), *map(preview.wide, more)])
    scores.to_csv(preview.SCORES, index=False)
    facts = preview.kept(preview.RUNS)
    fold = pd.DataFrame([{"run": "Best-s0-f1", "cpu_min": 1.0, "minutes": 2.0, "device": "T4"}])
    pd.concat([facts, fold]).to_csv(preview.RUNS, index=False)
    todo, *sentences = preview.readme_table().split("\n\n")[1:]
    assert todo.startswith("Not trained yet: C2, D-pitch")
    assert not {"Base", "UMX", "F", "Best"} & set(todo.strip(".").replace(":", ",").split(", "))
    found = compare_scores(more[0], more[1])
    assert sentences[0] == f"{found.sentence}\n{found.method_sentence}"
    median = np.median(helpers.base_db[:4] + 3)
    assert "1 of 3 folds (T4)" in sentences[1]
    assert f"**{median:.2f}**" in sentences[1]
    assert "over 4 songs" in sentences[1]


def test_networks_of_four_sources_have_a_table_of_their_own(preview, elsewhere, helpers):
    before = preview.readme_table()
    pair = {
        "Base-4": helpers.rows("Base-4-s0", helpers.base_db, protocol="4stem").assign(experiment="Base-4"),
        "A-4": helpers.rows("A-4-s0", helpers.base_db + helpers.spread / 9, protocol="4stem").assign(experiment="A-4"),
    }
    better = (pair["A-4"]["source"] == "drums") & (pair["A-4"]["metric"] == "sdr_bsseval")
    pair["A-4"].loc[better, "value"] += 1
    kept = preview.kept(preview.SCORES)
    pd.concat([kept, preview.wide(pair["A-4"])]).to_csv(preview.SCORES, index=False)
    assert preview.readme_table() == before  # one of the two says nothing
    pd.concat([kept, *map(preview.wide, pair.values())]).to_csv(preview.SCORES, index=False)
    facts = pd.DataFrame([{"run": f"{name}-s0", "cpu_min": 7.0 + len(name), "device": "cpu"} for name in pair])
    pd.concat([preview.kept(preview.RUNS), facts]).to_csv(preview.RUNS, index=False)
    first, second = preview.readme_table().removeprefix(before).split("\n\n")
    assert first == "\nFour sources, each scored against the four stems (protocol 4stem); 13.0 and 10.0 CPU minutes:"
    rows = {line.split(" | ")[0].strip("| "): line for line in second.splitlines()[2:]}
    assert [*rows] == ["vocals", "drums", "bass", "other"]
    tests = {source: compare_scores(pair["A-4"], pair["Base-4"], source=source) for source in rows}
    p_holm = holm({source: test.p_value for source, test in tests.items()})
    for source, line in rows.items():
        test = tests[source]
        difference = f"{test.median_difference:+.2f} [{test.interval[0]:+.2f}, {test.interval[1]:+.2f}]"
        assert line.split(" | ")[3:5] == [difference, preview.show_p(test.p_value)]
        assert line.split(" | ")[5].startswith(preview.show_p(p_holm[source]))
        assert ("✓" in line) == (source == "drums")
    assert rows["drums"].startswith(f"| drums | {np.median(helpers.base_db) + 0.5:.2f} |")


def test_the_projects_table_is_what_its_scores_give(preview):
    assert preview.readme_table() in (PLACE / "README.md").read_text(encoding="utf-8")


def test_every_experiment_of_a_week_is_stored_base_and_best_with_three_seeds(preview):
    scores = preview.kept(preview.SCORES)
    seeds = scores[scores["fold"].isna()].groupby("experiment")["seed"].nunique()
    trained = {name for name in week_experiments() if MENU[name].start_from is None}  # F needs umxhq's weights
    assert set(seeds.index) >= {*trained, *BOUNDS}
    assert (seeds[["Base", "Best"]] >= 3).all()
    assert {"Base-2048", "Base-4096", "Best-long", "Base-4", "A-4"} <= set(seeds.index)


def test_bests_folds_are_kept_and_score_every_song_of_train_once(preview):
    scores = preview.kept(preview.SCORES)
    songs = scores[scores["fold"].notna() & (scores["source"] == "vocals")]
    assert set(songs["run"]) == {"Best-s0-f0", "Best-s0-f1", "Best-s0-f2"}
    assert songs["track"].is_unique and len(songs) == 94
    artists = songs["track"].str.split(" - ").str[0]
    assert (songs["fold"].groupby(artists).nunique() == 1).all()


def test_what_is_kept_was_trained_for_the_same_minutes_and_scored_on_all_songs(preview):
    scores, facts = preview.kept(preview.SCORES), preview.kept(preview.RUNS).set_index("run")
    whole = scores[scores["fold"].isna()]
    assert (whole.groupby("run")["track"].nunique() == 50).all()
    trained = facts[facts["epochs"] > 0]
    assert set(trained.index) == set(scores["run"]) - set(BOUNDS)
    minutes = trained.loc[trained["device"] == "cpu", "cpu_min"]  # a GPU's run has a CPU run's epochs
    assert 36 < minutes.pop("Best-long-s0") < 48  # the same network for 2.25 times the epochs
    assert 15 < minutes.pop("A-4-s0") < 24  # an epoch of it is a tenth of that
    assert minutes.between(16, 24).all(), minutes.to_dict()


def test_the_kept_scores_make_a_report(preview, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr("sepkit.reporting.report._draw", lambda *_: [])  # figures have tests of their own
    text = preview.report_of_kept(tmp_path / "root").read_text(encoding="utf-8")
    test = compare_scores(elsewhere[2], pd.concat(elsewhere[:2]))
    assert f"Helped: C {test.median_difference:+.2f} dB [{test.interval[0]:+.2f}, {test.interval[1]:+.2f}]" in text
    board = pd.read_csv(tmp_path / "root/scoreboard.csv", index_col="Exp")
    assert board.loc["C", "gain"] == pytest.approx(test.median_difference)
    assert "No excerpts are kept yet" in text and "Cross-validation by artist" in text
