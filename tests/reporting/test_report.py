"""The milestone report: one file, computed sentences, nothing promised that is not there."""

import base64
import re
from itertools import pairwise

import html5lib
import numpy as np
import pandas as pd
import pytest

from sepkit.reporting import canvas
from sepkit.reporting.compute import plan_and_measured
from sepkit.reporting.lessons import lessons
from sepkit.reporting.report import report
from sepkit.reporting.words import HEADINGS, html_of
from sepkit.reporting.words import words as words_of
from sepkit.storage import Root, write_csv, write_json

LOADS = ("src", "srcset", "poster", "data", "background")  # attributes whose address a browser opens by itself


def parsed(text: str):
    """The page as a tree; HTML that a strict parser refuses fails."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def tables(text: str) -> dict[str, list[pd.DataFrame]]:
    """The page's tables as strings, by heading."""
    found = {}
    for section in parsed(text).iter("section"):
        heading = "".join(next(each for each in section if each.tag in ("h2", "h3")).itertext())
        for table in section.iter("table"):
            rows = [[" ".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
            found.setdefault(heading, []).append(pd.DataFrame(rows[1:], columns=rows[0]))
    return found


@pytest.fixture(scope="module")
def text(week) -> str:
    path = report(week)
    assert path == week.path / "report" / "milestone2.html"
    return path.read_text(encoding="utf-8")


def test_one_valid_file_that_opens_offline(text):
    page = parsed(text)
    assert not list(page.iter("link"))
    assert not [script for script in page.iter("script") if script.get("src")]
    assert all(each.get(name, "data:").startswith("data:") for each in page.iter() for name in LOADS)
    assert not re.search(r"@import|url\((?!data:)", text)
    images = list(page.iter("img"))
    assert len(images) == 7
    assert all(len(image.get("alt")) > 20 for image in images)
    assert len(list(page.iter("h1"))) == 1
    assert next(page.iter("html")).get("lang") == "en"
    inside = {each.get("href")[1:] for each in page.iter("a") if each.get("href").startswith("#")}
    sections = [section for section in page.iter("section") if section.find("h2") is not None]
    assert inside == {section.get("id") for section in sections}


def test_parts_in_the_order_of_a_hand_in(text):
    heads = ["".join(each.itertext()) for each in parsed(text).iter("h2")]
    for first, second in pairwise(
        ("Question and hypotheses", "Data and protocol", "Settings", "How to read this", "Statistics", "Training",
         "Compute: the budget of 8 GPU-hours", "Limitations", "Lessons", "What I think", "References", "Appendix: commands")
    ):  # fmt: skip
        assert heads.index(first) < heads.index(second)


def test_styles_do_not_leak_into_a_notebook(text):
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    rules = re.findall(r"^\s*([^@{}\n]+)\{", style, re.M)
    assert rules
    assert all(part.strip().startswith(".sepkit-") for rule in rules for part in rule.split(","))


def test_figures_lie_beside_it_whole(week, text):
    names = sorted(file.name for file in (week.path / "report" / "figures").iterdir())
    figures = (
        "budget_bars", "convergence", "forest", "gain_against_minutes", "score_bars", "strip", "training_curves",
    )  # fmt: skip
    assert names == [f"{name}.{kind}" for name in figures for kind in ("pdf", "png", "svg")]


def test_each_figure_is_drawn_once_a_kind_and_old_names_go(root, monkeypatch):
    old = root.path / "report" / "figures" / "differences_C.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of an older version")
    drawn, encoded = [], canvas.Picture.encoded
    monkeypatch.setattr(canvas.Picture, "encoded", lambda self, kind: (drawn.append(kind), encoded(self, kind))[1])
    text = report(root).read_text(encoding="utf-8")
    assert sorted(drawn) == ["pdf"] * 7 + ["png"] * 7 + ["svg"] * 7 and not old.exists()
    assert all(base64.b64encode(file.read_bytes()).decode() in text for file in old.parent.glob("*.png"))


def test_many_runs_are_drawn_by_experiment_and_the_report_says_so(root, helpers):
    for seed in range(1, 14):
        for name in ("C", "D"):
            helpers.add(root, f"{name}-s{seed}", None, seed=seed)
    text = report(root).read_text(encoding="utf-8")
    assert "31 runs are too many for a curve each" in text and "runs/RUN/history.csv" in text
    assert "best epoch: " not in text  # of the pictures' descriptions; the table has them
    (opened,) = [
        each for each in parsed(text).iter("details") if "Every run" in "".join(each.find("summary").itertext())
    ]
    assert len(list(opened.iter("tr"))) == 1 + 31
    svg = (root.path / "report" / "figures" / "training_curves.svg").read_text(encoding="utf-8")
    titles = re.findall(r">(Base|[CDEG])(?:-s\d+)?</text>", svg)
    assert titles == ["Base", "C", "D", "E", "G"]


def test_lessons_group_the_experiments(week):
    said = lessons(week)
    assert re.match(r"Helped: C \+1\.00 dB \[\+0\.9\d, \+1\.\d\d\] \(p = 0\.0015\)\.$", said[0])
    assert said[1].startswith("Hurt: G -2.00 dB")
    assert said[2].startswith("Did not help (the interval leaves out a gain of 0.3 dB): D +0.02 dB")
    assert any("63 % of the way from the mixture (-4.98) to the ideal ratio mask (8.65)" in line for line in said)
    assert any(line.startswith("188.0 of 480 GPU minutes are spent (39 %): 89 % train, 11 % evaluate") for line in said)
    assert "16.0 of these minutes went into what has no row in a table: E-s0." in said
    assert any("One seed only: every experiment." in line for line in said)
    assert any(line.startswith("These are demo scores") and "carries over" in line for line in said)
    assert any(line.startswith("No score of:") and "A" in line for line in said)


def test_one_seed_against_several_is_one_seed(root, helpers):
    for experiment in ("Base", "C"):
        name, above = f"{experiment}-s1", 0.1 + (experiment == "C")
        helpers.add(root, name, helpers.rows(name, helpers.base_db + above + helpers.spread / 9, seed=1), seed=1)
    assert any(line.startswith("One seed only: G, D.") for line in lessons(root))


def test_minutes_of_a_gpu_and_a_cpu_are_called_both(root, helpers):
    helpers.add(root, "H-s0", helpers.rows("H-s0", helpers.base_db + 1 + helpers.spread), device="cpu")
    assert "measured, GPU or CPU min" in plan_and_measured(root)


def test_what_leaves_a_gain_open_is_no_lesson(root, helpers):
    write_csv(root.run("D-s0").scores_path, helpers.rows("D-s0", helpers.base_db + 4 * np.roll(helpers.spread, 1)))
    assert any(re.match(r"Cannot be told .*: D [+-]0\.", line) for line in lessons(root))


def test_report_holds_lessons_expectations_and_what_profiles_reduce(week, text):
    for words in ("Helped: C +1.00 dB", "Reduced against the plan", "0 ± 0.1 dB: a real mask", "higher SAR", "3 086 088",
                  "early, after 3 epochs without improvement", "E-s0 is not in the tables: training was stopped after 12 epochs; the same call goes on", "silence_energy_db"):  # fmt: skip
        assert words in text


def test_settings_are_those_that_differ(text):
    rows = tables(text)["Settings"][0].set_index("Exp")["settings"]
    assert rows["Base"] == "model openunmix-small; loss magnitude_l1"
    assert rows["C"] == "loss phase_consistency"
    assert rows["D"] == "none"


def test_data_says_splits_and_shared_artists(root):
    file = root.run("Base-s0").path / "config.json"
    data = {"train": ["Band A - Other", "Band Z - One"], "valid": ["Band Z - Two", "Band Y - Three"]}
    write_json(file, {**root.run("Base-s0").config, "data": data})
    text = report(root).read_text(encoding="utf-8")
    assert "By artists who also sing in training songs: 1 of 2 validation songs, 1 of 12 test songs." in text
    assert list(tables(text)["Data and protocol"][0]["songs"]) == ["2", "2", "12"]
    assert "Band Z - Two; Band Y - Three" in text


def test_numbers_are_those_of_the_files(week, text):
    """Statistics and medians as scoreboard.csv and scores.csv have them."""
    board = pd.read_csv(week.path / "scoreboard.csv", index_col="Exp")
    found = tables(text)
    for row in found["Statistics"][0].to_dict("records"):
        of = board.loc[row["Exp"]]
        if row["Exp"] == "Base":
            assert row["gain dB"] == "—" and row["literature"].startswith("3.5 to 5 dB at 20 epochs")
            continue
        assert row["gain dB"] == f"{of['gain']:+.2f} [{of['gain low']:+.2f}, {of['gain high']:+.2f}]"
        assert float(row["p"]) == float(f"{of['p']:.2g}") and float(row["p Holm"]) == float(f"{of['p (Holm)']:.2g}")
    every = found["Every measure of vocals"][0].set_index("Exp")
    for name in board.index:
        run = week.run(name if name in ("mixture", "oracle") else f"{name}-s0")
        scores = run.scores().query("source == 'vocals'")
        for metric, value in every.loc[name].items():
            if value == "—":
                assert (name, metric) == ("mixture", "sar_bsseval")  # which has none
                continue
            median = scores.loc[scores["metric"] == metric, "value"].median()
            assert float(value) == pytest.approx(median, abs=0.00500001)


def test_plan_prediction_and_ledger_stand_side_by_side(root):
    write_csv(
        root.path / "plan.csv",
        pd.DataFrame({"experiment": ["Base", "C"], "minutes": [31.4, 62.8], "basis": "estimate"}),
    )
    table = tables(report(root).read_text(encoding="utf-8"))["Compute: the budget of 8 GPU-hours"][0].set_index(
        "experiment"
    )
    assert list(table["plan, GPU min"]) == ["35.00", "—", "—", "—"]
    assert list(table["predicted, GPU min"]) == ["31.40", "62.80", "—", "—"]
    assert list(table["measured, GPU min"]) == ["30.00", "41.00", "52.00", "33.00"]  # the last one is not on the menu


def test_predictions_stand_before_the_results(root):
    write_json(root.path / "predictions.json", {"C": {"gain_db": 0.5, "why": "phase <matters>"}})
    rows = tables(report(root).read_text(encoding="utf-8"))["My predictions"][0]
    assert rows.to_numpy().tolist() == [["C", "0.50", "phase <matters>"]]


def test_the_students_words_are_theirs(root):
    first = report(root).read_text(encoding="utf-8")
    path = root.path / "report" / "words.md"
    assert first.count("to be written in report/words.md") == len(HEADINGS)
    assert not any(words_of(root).values())
    own = "# Names\r\nÅsa <b>&amp; Bo</b>\r\n# course\nSounds 1\n# What I think\n**C** <script>alert(1)</script> helps.\n\n# More\nIt does."
    path.write_bytes(own.encode("utf-16"))
    text = report(root).read_text(encoding="utf-8")
    assert path.read_bytes() == own.encode("utf-16")
    page = parsed(text)
    assert "Åsa &lt;b&gt;" in text and "Sounds 1" in text and "<strong>C</strong>" in text and "It does." in text
    assert not any("alert" in (script.text or "") for script in page.iter("script"))
    assert text.count("to be written in report/words.md") == 2


@pytest.mark.parametrize(
    "words",
    ("![a cat](https://example.org/cat.png)", "[x](javascript:alert(1))", "<img src=x onerror=alert(1)>", "<https://x.org/><iframe src=/>"),
)  # fmt: skip
def test_words_load_and_run_nothing(words):
    page = parsed(f"<!doctype html><title>t</title>{html_of(words)}")
    assert not [each for each in page.iter() if each.tag in ("img", "iframe", "script")]
    assert not [each for each in page.iter("a") if each.get("href").startswith("javascript")]


def test_too_small_and_correction_are_said(tmp_path, helpers):
    root = Root.open(tmp_path)
    songs = helpers.songs[:5]
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db[:5], songs=songs))
    helpers.add(root, "C-s0", helpers.rows("C-s0", helpers.base_db[:5] + 2 + helpers.spread[:5], songs=songs))
    said = lessons(root)
    assert any("5 songs are too few for p < 0.01, which needs 8" in line for line in said)
    assert any("C +2.0" in line and "5 songs are too few, 8 are needed" in line for line in said)
    assert "No experiment beats Base at p < 0.01 after Holm's correction." in said


def test_rows_are_compared_with_what_they_start_from(root, helpers):
    for name, gain in (("UMX", 0.5), ("F", 0.5)):
        run = f"{name}-s0"
        helpers.add(root, run, helpers.rows(run, helpers.base_db + gain + (name == "F") * helpers.spread))
    start = root.run("F-s0").path / "config.json"
    write_json(start, {**root.run("F-s0").config, "start_from": "UMX"})
    assert any(line.startswith("F starts from UMX's weights: F-s0") for line in lessons(root))
    write_json(start, {**root.run("F-s0").config, "start_from": "umxhq"})
    assert any(line.startswith("F starts from umxhq, which is not scored here") for line in lessons(root))


def test_measures_that_disagree_are_told(root, helpers):
    scores = helpers.rows("D-s0", helpers.base_db + helpers.spread)
    scores.loc[scores["metric"] == "sar_bsseval", "value"] += 20
    write_csv(root.run("D-s0").scores_path, scores)
    assert any("The measures disagree" in line and "D by SAR" in line for line in lessons(root))


def test_an_empty_root_says_so_in_every_part(tmp_path):
    text = report(tmp_path).read_text(encoding="utf-8")
    parsed(text)
    for words in ("No run is finished and scored yet", "No run has finished an epoch yet", "No minutes are booked"):  # fmt: skip
        assert words in text
    assert "<img" not in text


def test_only_base_is_enough_for_a_report(tmp_path, helpers):
    root = Root.open(tmp_path)
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db), device="cpu")
    text = report(root).read_text(encoding="utf-8")
    assert "No experiment could be tested against Base." in text
    assert "No GPU was used; 34.0 CPU minutes are spent" in text


def test_a_figure_is_one_function(tmp_path, helpers, monkeypatch):
    """Decorated, it is drawn, written and shown with its caption; nothing else names it."""
    root = Root.open(tmp_path)
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db))
    monkeypatch.setitem(canvas.REPORTED, "scores", {})
    monkeypatch.setitem(canvas.REPORTED, "runs", {})

    @canvas.reported("scores", "How the scores are spread.")
    def spread_of_scores(scores):
        figure = canvas.Picture(3, 2)
        figure.subplots().hist(scores["value"].dropna())
        return figure

    text = report(root).read_text(encoding="utf-8")
    assert "How the scores are spread." in text
    assert (root.path / "report" / "figures" / "spread_of_scores.png").exists()
