"""The scoreboard by known answers: medians, marks, what may share a table, what is left out."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from sepkit import compare
from sepkit.__main__ import main
from sepkit.evaluation.statistics import ARTIST_OVERLAP, summary
from sepkit.experiments import MENU
from sepkit.reporting import scoreboard as module
from sepkit.reporting.report import report
from sepkit.reporting.rows import LEADING, ONE_SEED, best_rows, facts_of
from sepkit.reporting.scoreboard import collect, scoreboard
from sepkit.storage import Root, write_csv, write_json

MAIN = "SDR voc (sdr_bsseval)"
ONSETS = "SDR drums at onsets (sdr_onsets)"


@pytest.fixture(scope="module")
def table(week) -> pd.DataFrame:
    return scoreboard(week)


@pytest.fixture(scope="module")
def main_section(week):
    return collect(week).main


@pytest.fixture
def by_name(table) -> pd.DataFrame:
    return table.set_index("Exp")


def test_plan_columns_lead_and_headers_carry_definitions(table, main_section):
    plan = ["Exp", "Backbone", "Domain", "Extras", *LEADING, "GPU min", "CPU min", "VRAM GB", "Sig."]
    assert list(table.columns[: len(plan)]) == plan
    assert list(main_section.block.grids[0].cells) == [name for name in plan if name != "CPU min"]
    assert not {"SDR", "sdr", "SAR", "SI-SDR"} & set(table.columns)
    names = list(table["Exp"])
    assert (names[:2], names[-2:], set(names[2:-2])) == (["Base", "C"], ["mixture", "oracle"], {"D", "G"})


def test_medians_and_quartiles_over_songs(by_name, helpers):
    base = by_name.loc["Base"]
    assert base[MAIN] == pytest.approx(np.median(helpers.base_db))
    assert base[f"{MAIN} q25"] == pytest.approx(np.quantile(helpers.base_db, 0.25))
    assert base[f"{MAIN} q75"] == pytest.approx(np.quantile(helpers.base_db, 0.75))
    assert base["SI-SDR (si_sdr)"] == pytest.approx(np.median(helpers.base_db) - 0.8)
    assert base["SAR (sar_bsseval)"] == pytest.approx(np.median(helpers.base_db) + 1)
    assert base["SDR acc (sdr_bsseval)"] == pytest.approx(np.median(helpers.base_db) + 6)
    assert by_name.loc["C", MAIN] == pytest.approx(np.median(helpers.base_db + 1 + helpers.spread / 2))


def test_marks_and_corrected_p(by_name):
    assert by_name["Sig."].to_dict() == {"Base": "—", "C": "✓", "D": "n.s.", "G": "▼", "mixture": "—", "oracle": "—"}
    least = 2 * 2.0**-12  # all twelve songs moved the same way
    assert by_name.loc["C", "p"] == pytest.approx(least)
    assert by_name.loc["C", "p (Holm)"] == pytest.approx(3 * least)
    assert by_name.loc["G", "gain"] == pytest.approx(-2, abs=0.05)
    assert np.isnan(by_name.loc["mixture", "p"])


def test_undefined_scores_are_counted_and_named(main_section, by_name):
    assert by_name["undefined"].to_dict() == {"Base": 0, "C": 0, "D": 1, "G": 0, "mixture": 0, "oracle": 0}
    assert by_name.loc["D", "songs"] == 11
    assert (by_name.loc["Base", "frames"], by_name.loc["Base", "frames dropped"]) == (12 * 18, 12 * 2)
    assert main_section.background["songs without a score"].startswith("1 of D; ")
    (lost,) = main_section.lost.to_dict("records")
    assert (lost["Exp"], lost["song"]) == ("D-s0", "Band C - Song 3")
    assert "silent target" in lost["why"]


def test_minutes_origin_and_what_is_missing(table, by_name):
    assert by_name.loc["C", "GPU min"] == 41
    assert by_name.loc["C", "VRAM GB"] == pytest.approx(3.04, abs=0.005)  # 2900 MiB
    assert by_name["accompaniment"].to_dict()["G"] == "modelled"
    assert table.attrs["unfinished"] == {"E-s0": "training was stopped after 12 epochs; the same call goes on"}


def test_page_says_what_the_numbers_are(week, table):
    header = (week.path / "scoreboard.md").read_text(encoding="utf-8")
    for words in ("demo: procedural songs", "reduced against the plan", "12 songs", "protocol 2stem", "at each onset of the true drums", "of four sources against Base-4", "BSS Eval v4: 1 s windows, one "
                  "512-tap filter a track, median over windows, then over songs", "| seeds ", "Tesla T4", "156.0 minutes", "dropped"):  # fmt: skip
        assert words in header


def test_files_round_trip_and_are_whole(week, table):
    back = pd.read_csv(week.path / "scoreboard.csv")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    json.dumps(table.attrs, allow_nan=False)
    assert not list(week.path.glob(".*.part"))
    pd.concat([table, table])  # attrs that can't be compared would fail here


def test_a_kill_while_writing_leaves_the_old_board(root, monkeypatch):
    scoreboard(root)
    old = (root.path / "scoreboard.html").read_text(encoding="utf-8")
    monkeypatch.setattr(module, "page", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        scoreboard(root)
    assert (root.path / "scoreboard.html").read_text(encoding="utf-8") == old


def test_best_is_shaded_among_trained_rows_only(week, table):
    assert best_rows(table)[MAIN] == {1}  # C; oracle is higher and never shaded
    page = (week.path / "scoreboard.html").read_text(encoding="utf-8")
    rows = {name: page[page.index(f">{name}</th>") :].split("</tr>")[0] for name in table["Exp"]}
    assert rows["C"].count('best"') == 2  # not SAR, and not the accompaniment: that of G is modelled
    assert all("best" not in rows[name] for name in ("Base", "D", "G", "mixture", "oracle"))
    assert page.count('best"') == 3  # the least energy in silence is G's
    text = (week.path / "scoreboard.md").read_text(encoding="utf-8")
    assert "**4.61 [3.55, 6.19]**" in text
    assert "**8.65" not in text


def test_sar_sir_and_isr_have_no_best_and_the_mixture_no_sar(by_name, main_section):
    best = best_rows(by_name.reset_index())
    assert {name for name, places in best.items() if not places} == {
        "SAR (sar_bsseval)", "SIR voc (sir_bsseval)", "ISR voc (isr_bsseval)", "SDR acc (sdr_bsseval)"
    }  # fmt: skip
    assert np.isnan(by_name.loc["mixture", "SAR (sar_bsseval)"])
    assert by_name.loc["oracle", "SAR (sar_bsseval)"] > by_name.loc["C", "SAR (sar_bsseval)"]
    shown = main_section.block.grids[0].cells.set_index("Exp")
    assert shown.loc["mixture", "SAR (sar_bsseval)"] == "—"


def test_a_median_that_leaves_a_song_out_is_not_shaded(root, helpers):
    shown = helpers.rows("D-s0", helpers.base_db + 3, undefined=helpers.songs[0])
    write_csv(root.run("D-s0").scores_path, shown)
    assert best_rows(scoreboard(root))[MAIN] == {1}


def test_one_trained_row_has_nothing_to_be_best_of(tmp_path, helpers):
    root = Root.open(tmp_path)
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db))
    assert best_rows(scoreboard(root))[MAIN] == set()


def test_too_few_songs_are_said(tmp_path, helpers):
    root = Root.open(tmp_path)
    songs = helpers.songs[:5]
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db[:5], songs=songs))
    helpers.add(root, "C-s0", helpers.rows("C-s0", helpers.base_db[:5] + 2 + helpers.spread[:5], songs=songs))
    helpers.add(root, "D-s0", helpers.rows("D-s0", helpers.base_db[:5], songs=songs))
    assert list(scoreboard(root)["Sig."]) == ["—", "n too small", "no change"]


def test_protocols_and_folds_stand_apart(root, helpers):
    four = helpers.rows("A-s0", helpers.base_db + 4, protocol="4stem", origin="modelled")
    helpers.add(root, "A-s0", four)
    folds = [helpers.songs[:6], helpers.songs[6:]]
    for fold, songs in enumerate(folds):
        part = slice(6 * fold, 6 * fold + 6)
        for name, gain in (("Base", 0.0), ("C", 0.5)):
            run = f"{name}-s0-f{fold}"
            values = helpers.base_db[part] - 1 + gain * (1 + helpers.spread[part])
            helpers.add(root, run, helpers.rows(run, values, songs=songs, fold=fold), fold=fold)
    table = scoreboard(root)
    assert set(table["Exp"]) == {"Base", "C", "D", "G", "mixture", "oracle"}  # nothing of A, nothing of folds
    assert table.set_index("Exp").loc["Base", MAIN] == pytest.approx(np.median(helpers.base_db))
    _, four_stems, by_fold = (section.table.set_index("Exp") for section in collect(root).sections)
    assert list(four_stems.index) == ["A"]
    assert four_stems.loc["A", "Sig."] == "—"
    assert four_stems.loc["A", "SDR drums (sdr_bsseval)"] == pytest.approx(np.median(helpers.base_db) + 4.5)
    assert "SDR acc (sdr_bsseval)" not in four_stems
    assert by_fold["Sig."].to_dict() == {"Base": "—", "C": "✓"}
    assert by_fold.loc["Base", "songs"] == 12
    assert by_fold.loc["Base", "frames"] == 12 * 18
    assert (root.path / "scoreboard-4stem.csv").exists()
    assert (root.path / "scoreboard-2stem-folds.csv").exists()
    text = (root.path / "scoreboard.md").read_text(encoding="utf-8")
    assert "A: no Base-4 with this protocol and these songs, so nothing is tested." in text


def add_four(root, helpers, run, vocals, drums=0.0, *, seed=0, onsets=True):
    """A run of four stems: `vocals` in dB, drums moved by `drums` dB, and so is their SDR at onsets."""
    scores = helpers.rows(run, vocals, seed=seed, protocol="4stem", origin="modelled")
    scores["experiment"] = name = run.rsplit("-", 1)[0]
    scores.loc[(scores["source"] == "drums") & (scores["metric"] == "sdr_bsseval"), "value"] += drums
    extra = scores[scores["metric"] == "sdr_global"].assign(metric="sdr_onsets")
    extra.loc[extra["source"] == "drums", "value"] += drums
    helpers.add(root, run, pd.concat([scores, extra]) if onsets else scores, seed=seed)
    write_json(root.run(run).path / "config.json", {**root.run(run).config, "experiment": name})


def add_both(root, helpers):
    """Base-4, and A-4: 2 dB worse but on drums, where it differs by chance."""
    add_four(root, helpers, "Base-4-s0", helpers.base_db)
    add_four(root, helpers, "A-4-s0", helpers.base_db - 2 + helpers.spread, 2.0)


def test_four_sources_are_tested_against_base_4(root, helpers, capsys):
    add_both(root, helpers)
    table = scoreboard(root)
    assert "Base-4" not in set(table["Exp"])
    section = next(each for each in collect(root).sections if each.protocol == "4stem")
    base, a = section.table.to_dict("records")
    assert (base["Exp"], a["Exp"]) == ("Base-4", "A-4")
    assert (base["Sig."], a["Sig."]) == ("—", "▼")
    assert base[ONSETS] == pytest.approx(np.median(helpers.base_db) + 0.5 - 0.5)
    assert a[ONSETS] == pytest.approx(np.median(helpers.base_db - 2 + helpers.spread) + 2)
    assert ONSETS not in table
    assert section.comparisons.keys() == {"A-4"}
    assert section.comparisons["A-4"].base == "Base-4-s0"
    kinds = ("sdr_bsseval of drums", "sdr_bsseval of bass", "sdr_bsseval of other", "sdr_onsets of drums")
    beside = section.beside.set_index("score")["Sig."].to_dict()  # bass is 2 dB worse on every song, drums on some
    assert beside == dict(zip(kinds, ("n.s.", "▼", "▼", "n.s."), strict=True))
    assert "<small>sdr_onsets</small>" in (root.path / "scoreboard.html").read_text(encoding="utf-8")
    print(table.attrs["text"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "sdr_onsets" in out


def test_compare_takes_any_of_four_sources(tmp_path, helpers, capsys):
    root = Root.open(tmp_path / "root", "demo")
    add_both(root, helpers)
    sides = ["A-4", "Base-4", "--root", str(root.path)]
    for metric in ("sdr_bsseval", "sdr_onsets"):
        assert main(["compare", *sides, "--source", "drums", "--metric", metric]) == 0
        out = capsys.readouterr().out
        assert f"no difference shown in {metric} of drums" in out
        assert "\n    protocol: 4stem\n" in out
    assert main(["compare", *sides, "--source", "accompaniment"]) == 1
    assert "no scores of source 'accompaniment', only bass, drums, other, vocals" in capsys.readouterr().err
    add_four(root, helpers, "A-4-s1", helpers.base_db + 1 + helpers.spread, 2.0, seed=1)
    result = compare("A-4", "Base-4", source="drums", root=root)
    assert (result.protocol, result.n, result.seeds) == ("4stem", 12, (2, 1))
    assert result.median_difference == pytest.approx(1.5, abs=0.1)  # of +0 and +3 dB


def test_four_sources_alone_have_a_board_and_a_report_and_old_scores_an_empty_cell(tmp_path, helpers):
    """Of two seeds one was scored before there was sdr_onsets; a mean over the other is another quantity."""
    root = Root.open(tmp_path / "root", "demo")
    add_both(root, helpers)
    add_four(root, helpers, "A-4-s1", helpers.base_db - 3 + helpers.spread, 2.0, seed=1, onsets=False)
    table = scoreboard(root).set_index("Exp")
    assert list(table.index) == ["Base-4", "A-4"]
    assert list(table[ONSETS].notna()) == [True, False]
    assert list(table[f"{ONSETS} songs"]) == [12, 0]
    assert "sdr_onsets of drums" not in set(collect(root).main.beside["score"])
    text = report(root).read_text(encoding="utf-8")
    assert "The gain over Base-4" in text
    assert "dB worse than Base-4-s0 in sdr_bsseval of vocals" in text
    assert "the base of the tests" in text


def test_seeds_are_averaged_song_by_song(root, helpers):
    helpers.add(root, "C-s1", helpers.rows("C-s1", helpers.base_db + 3, seed=1), seed=1, minutes=43)
    row = scoreboard(root).set_index("Exp").loc["C"]
    assert row[MAIN] == pytest.approx(np.median(helpers.base_db + 2 + helpers.spread / 4))
    assert (row["seeds"], row["runs"], row["songs"], row["frames"]) == ("0, 1", 2, 12, 216)
    assert row["GPU min"] == 42


def test_what_can_not_be_in_the_table_is_listed_with_its_reason(root, helpers):
    helpers.add(root, "F-s0", helpers.rows("F-s0", helpers.base_db).query("track != 'Band L - Song 12'"))
    helpers.add(root, "B-s0", None)
    helpers.add(root, "H-s0", helpers.rows("H-s0", helpers.base_db).drop(columns="protocol"))
    helpers.add(root, "Base-copy", helpers.rows("Base-copy", helpers.base_db))
    helpers.add(root, "Z-s0", helpers.rows("Z-s0", helpers.base_db))
    config = root.run("Z-s0").config
    write_json(root.run("Z-s0").path / "config.json", {**config, "profile": "full"})
    (root.path / "runs" / "torn").mkdir()
    (root.path / "runs" / "torn" / "config.json").write_text("{", encoding="utf-8")
    unfinished = scoreboard(root).attrs["unfinished"]
    assert unfinished["F-s0"] == "scored on 11 of 12 songs (2stem); evaluate it again"
    assert unfinished["B-s0"] == "trained, not scored yet"
    assert "H-s0/scores.csv, but it can't be read (it lacks protocol); evaluate the run again" in unfinished["H-s0"]
    assert "same experiment, seed and fold" in unfinished.get("Base-s0", unfinished.get("Base-copy"))
    assert unfinished["Z-s0"] == "made with profile full, this is the scoreboard of demo"
    assert "can't be read" in unfinished["torn"]


def test_one_seed_claims_nothing_about_a_method(by_name):
    claims = by_name["Method"].to_dict()
    assert claims == dict.fromkeys(("Base", "mixture", "oracle"), "—") | dict.fromkeys("CDG", ONE_SEED)
    assert by_name[["method low", "method high"]].isna().all(axis=None)


def test_three_seeds_a_side_give_a_method_an_interval(root, helpers, capsys):
    """C is 1 dB better with every seed; D swings by 2 dB between seeds, and nothing can be said of it."""
    for seed, swing in ((1, 0.1), (2, -0.1)):
        for name, values in (
            ("Base", helpers.base_db + swing),
            ("C", helpers.base_db + 1 + helpers.spread / 2 - swing),
            ("D", helpers.base_db + helpers.spread + 20 * swing),
        ):
            run = f"{name}-s{seed}"
            gone = helpers.songs[2] if name == "D" else ""
            helpers.add(root, run, helpers.rows(run, values, seed=seed, undefined=gone), seed=seed)
    table = scoreboard(root).set_index("Exp")
    assert table["Method"].to_dict() == {
        "Base": "—", "C": "✓", "D": "n.s.", "G": ONE_SEED, "mixture": "—", "oracle": "—"
    }  # fmt: skip
    assert 0.5 < table.loc["C", "method low"] < 1 < table.loc["C", "method high"] < 1.5
    assert table.loc["D", "method high"] - table.loc["D", "method low"] > 4
    print(scoreboard(root).attrs["text"])
    out = capsys.readouterr().out
    assert f"[{table.loc['C', 'method low']:+.2f}, {table.loc['C', 'method high']:+.2f}]" in out


def test_energy_in_silence_and_the_counts_of_every_aggregate(week, by_name, helpers):
    column = "left in silence (silence_energy_db)"
    assert by_name.loc["Base", column] == pytest.approx(np.median(helpers.base_db) - 40)
    assert best_rows(by_name.reset_index())[column] == {list(by_name.index).index("G")}  # the least
    assert by_name.loc["D", f"{MAIN} songs"] == 11
    assert by_name.loc["D", f"{MAIN} undefined"] == 1
    assert by_name.loc["D", f"{MAIN} frames dropped"] == 42
    assert by_name.loc["D", "SI-SDR (si_sdr) undefined"] == 0
    page = (week.path / "scoreboard.html").read_text(encoding="utf-8")
    assert page.count("11 of 12 songs") == 4
    assert "(42 dropped)" in page


def test_a_seed_without_all_folds_is_left_out_with_its_reason(tmp_path, helpers):
    root = Root.open(tmp_path)
    for seed, fold in ((0, 0), (0, 1), (1, 0)):
        run = f"Base-s{seed}-f{fold}"
        songs = helpers.songs[6 * fold : 6 * fold + 6]
        rows = helpers.rows(run, helpers.base_db[:6], songs=songs, seed=seed, fold=fold)
        helpers.add(root, run, rows, seed=seed, fold=fold)
    table = scoreboard(root)
    assert table.attrs["unfinished"] == {"Base-s1-f0": "seed 1 of Base lacks 1 folds; train and score them"}
    assert table.loc[0, "seeds"] == "0"


def test_cpu_minutes_are_shown_as_such(tmp_path, helpers):
    root = Root.open(tmp_path)
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db), device="cpu")
    table = scoreboard(root)
    assert np.isnan(table.loc[0, "GPU min"])
    assert table.loc[0, "CPU min"] == 30
    assert "CPU min" in (root.path / "scoreboard.html").read_text(encoding="utf-8")
    heads = " ".join(table.attrs["plan"].split())
    assert "CPU VRAM" in heads
    assert "GPU" not in heads


def test_means_with_and_without_shared_artists(tmp_path, helpers):
    root = Root.open(tmp_path)
    songs = [*ARTIST_OVERLAP, *helpers.songs[3:]]
    values = np.array([9.0, 9.0, 9.0, *[1.0] * 9])
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", values, songs=songs))
    scoreboard(root)
    record = collect(root).main.overlap.iloc[0]
    assert record["mean"] == pytest.approx(3)
    assert record["mean without overlap"] == pytest.approx(1)
    assert (record["songs"], record["songs without overlap"]) == (12, 9)
    assert "Hollow Ground" in (root.path / "scoreboard.html").read_text(encoding="utf-8")
    assert collect(root).main.overlap.shape[0] == 1


def test_no_shared_artists_no_second_table(main_section):
    assert main_section.overlap.empty


@pytest.fixture
def wide(root, helpers):
    """With the menu's longest words, many minutes and low scores."""
    helpers.add(root, "A-s0", helpers.rows("A-s0", helpers.base_db, protocol="4stem"), device="cpu", minutes=1234)
    helpers.add(root, "Best-s0", helpers.rows("Best-s0", helpers.base_db - 12), device="cpu", minutes=1234)
    return root


def test_terminal_text_fits_80_columns_and_its_first_table_is_whole(wide):
    board = scoreboard(wide)
    out = board.attrs["text"]
    assert max(map(len, out.splitlines())) <= 80
    for words in ("protocol 4stem", "▼", "E-s0 training was stopped", "1234.0", "[-2.15, -1.84]"):
        assert words in out
    assert out.startswith(board.attrs["plan"])
    plan = board.attrs["plan"].split("\n\n")
    assert len(plan) == 3  # heading, caption, one table
    heads, rows = plan[2].split("\n---")
    assert " ".join(heads.split()) == "Exp Backbone Domain Extras SDR SI-SDR SAR GPU CPU VRAM Sig. voc min min GB"
    best = " ".join(rows[rows.index("\nBest") : rows.index("\nD ")].split())
    for word in (*MENU["Best"].extras.split(), *MENU["Best"].backbone.split(), "1234.0"):
        assert word in best


def test_latex_holds_every_cell_escaped(wide):
    """Without TeX here: as many cells in each row as columns, and nothing that TeX would read as its own."""
    scoreboard(wide)
    tex = (wide.path / "scoreboard.tex").read_text(encoding="utf-8")
    tables = re.findall(r"\\begin{tabular}{([lr]+)}(.*?)\\end{tabular}", tex, re.S)
    sections = collect(wide).sections
    assert len(tables) == sum(len(section.block.grids) for section in sections)
    for (columns, body), grid in zip(tables, (g for section in sections for g in section.block.grids), strict=True):
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert len(rows) == 1 + len(grid.cells)
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)
        plain = re.sub(
            r"\\(checkmark|blacktriangledown|pm|surd|textbf|toprule|midrule|bottomrule)|\\[\\_%&#]|\$[^$]*\$", "", body
        )
        assert not re.search(r"[\\$#%^_]", plain), plain
        assert body.isascii()
    assert r"\textbf{4.61}" in tex
    assert r"pitch $\pm$2, tempo $\pm$10~\%" in tex
    assert "$-$2.00 [$-$2.15, $-$1.84]" in tex


def test_empty_root_is_a_sentence(tmp_path, capsys):
    print(scoreboard(Root.open(tmp_path)).attrs["text"])
    assert "No run is finished and scored yet" in capsys.readouterr().out
    assert "No run is finished and scored" in (tmp_path / "scoreboard.html").read_text(encoding="utf-8")


def test_the_scoreboard_loads_nothing_that_it_does_not_need(week):
    heavy = ("torch", "scipy.signal", "matplotlib", "librosa", "IPython", "lightning")
    code = f"""
import sys
from sepkit.reporting.scoreboard import scoreboard
scoreboard({str(week.path)!r})
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_medians_are_those_of_summary(week):
    """The section's table of facts against the plain way, seeds and an undefined song included."""
    rows = pd.concat([week.run(name).scores() for name in ("Base-s0", "D-s0")])
    swapped = rows.assign(seed=1, value=rows["value"] + 1, run=rows["run"] + "1")
    both = pd.concat([rows, swapped])
    for (name, metric, source), fact in facts_of(both).to_dict("index").items():
        plain = summary(both[both["experiment"] == name], metric, source)
        pairs = {"median": "median", "q25": "q25", "q75": "q75", "songs": "n", "undefined": "n_undefined",
                 "frames": "frames", "frames dropped": "frames_dropped"}  # fmt: skip
        assert fact == pytest.approx({key: plain[value] for key, value in pairs.items()}, nan_ok=True)
