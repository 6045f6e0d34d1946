"""The milestone report: one file, computed sentences, nothing promised that is not there."""

import base64
import re
from html.parser import HTMLParser

import pytest

from sepkit.reporting import canvas
from sepkit.reporting.lessons import lessons
from sepkit.reporting.report import report
from sepkit.storage import Root, write_csv, write_json


class Page(HTMLParser):
    """Tags, alternative texts and headings; unbalanced tags fail."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(week) -> str:
    path = report(week)
    assert path == week.path / "report" / "milestone2.html"
    return path.read_text(encoding="utf-8")


def test_one_valid_file_that_opens_offline(text):
    page = Page(text)
    assert all("src" not in attrs for attrs in page.all("script"))
    assert not page.all("link")
    assert "http" not in text
    images = page.all("img")
    assert len(images) == 7
    assert all(image["src"].startswith("data:image/png;base64,") and len(image["alt"]) > 20 for image in images)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    anchors = {attrs["href"][1:] for attrs in page.all("a")}
    assert anchors == {attrs["id"] for attrs in page.all("section")}


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


def test_lessons_follow_from_the_numbers(week):
    said = lessons(week)
    assert said[0].startswith("C-s0 is 1.00 dB better than Base-s0 in sdr_bsseval of vocals (95 % interval +0.9")
    assert "p = 0.00049; 0.0015 after Holm)" in said[0]
    assert said[1].startswith("G-s0 is 2.00 dB worse than Base-s0")
    assert said[2].startswith("D-s0 against Base-s0: no difference shown in sdr_bsseval of vocals: +0.02 dB")
    assert any("63 % of the way from the mixture (-4.98) to the ideal ratio mask (8.65)" in line for line in said)
    assert any(line.startswith("188.0 of 480 GPU minutes are spent (39 %): 89 % train, 11 % evaluate") for line in said)
    assert "16.0 of these minutes went into what has no row in a table: E-s0." in said
    assert any("one seed" in line for line in said)
    assert any(line.startswith("These are demo scores") and "carries over" in line for line in said)
    assert not any("compare." in line for line in said if line.startswith("These are"))
    assert any(line.startswith("No score of:") and "A" in line for line in said)


def test_report_holds_lessons_expectations_and_what_profiles_reduce(week, text):
    for words in ("C-s0 is 1.00 dB better than Base-s0", "Reduced against the plan", "3.5 to 5 dB at 20 epochs", "4.8 dB SDR", "3 086 088",
                  "early, after 3 epochs without improvement", "E-s0 is not in the tables: training was stopped after 12 epochs; the same call goes on", "silence_energy_db"):  # fmt: skip
        assert words in text


def test_too_small_and_correction_are_said(tmp_path, helpers):
    root = Root.open(tmp_path)
    songs = helpers.songs[:5]
    helpers.add(root, "Base-s0", helpers.rows("Base-s0", helpers.base_db[:5], songs=songs))
    helpers.add(root, "C-s0", helpers.rows("C-s0", helpers.base_db[:5] + 2 + helpers.spread[:5], songs=songs))
    said = lessons(root)
    assert any("5 songs are too few for p < 0.01, which needs 8" in line for line in said)
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
    Page(text)
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
