"""The scoreboard in a browser: nothing cut at 1280 px, sorted by click and by key, readable in light and dark."""

import pytest

from sepkit.reporting.scoreboard import scoreboard
from sepkit.storage import Root, write_json


@pytest.fixture(scope="module")
def address(tmp_path_factory, weeks):
    """A board with the menu's longest words, GPU and CPU minutes, an undefined song, and four sources."""
    root = Root.open(weeks.make_week(tmp_path_factory.mktemp("board") / "root"), "demo")
    for name, protocol in (("Best-s0", "2stem"), ("A-s0", "4stem")):
        rows = weeks.score_rows(name, weeks.BASE_DB - 12.5, protocol=protocol)
        weeks.add_run(root, name, rows, device="cpu", minutes=1234)
    write_json(
        root.run("D-s0").path / "config.json", {**root.run("D-s0").config, "model": {"name": "openunmix-complex"}}
    )
    scoreboard(root)
    return (root.path / "scoreboard.html").as_uri()


def column(page, number):
    """The values of a column of the first table, without their details."""
    return page.eval_on_selector_all(
        f"table >> nth=0 >> tbody tr > :nth-child({number})", "cells => cells.map(cell => cell.firstChild.textContent)"
    )


def test_nothing_is_cut_at_1280_px(page, address):
    opened = page(width=1280)
    opened.goto(address)
    cut = opened.eval_on_selector_all(
        "section > .sepkit-scroll",
        "all => all.filter(each => each.scrollWidth > each.clientWidth).map(each => each.innerText)",
    )
    assert cut == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_click_and_the_keyboard_sort(page, address):
    opened = page(width=1280)
    opened.goto(address)
    before, numbers = column(opened, 1), column(opened, 5)
    opened.click("th:has-text('SDR voc') >> nth=0")
    assert column(opened, 5) == sorted(numbers, key=float, reverse=True)
    heads = opened.locator("table >> nth=0 >> thead th")
    assert heads.evaluate_all("all => all.map(each => each.ariaSort)").count("descending") == 1
    opened.focus("table >> nth=0 >> thead th >> nth=5 >> button")
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Enter")
    assert column(opened, 5) == sorted(numbers, key=float)
    assert heads.nth(4).get_attribute("aria-sort") == "ascending"
    for _ in range(2):  # who has no minutes on a GPU stays last
        opened.get_by_role("button", name="GPU min").first.click()
        assert column(opened, 8)[-3:] == ["—"] * 3
    opened.get_by_role("button", name="Exp").first.press("Space")
    assert column(opened, 1) == sorted(before, key=str.lower)
    assert opened.locator("[aria-sort]").count() == 1


def test_without_javascript_it_is_a_table(page, address):
    opened = page(java_script_enabled=False)
    opened.goto(address)
    assert opened.get_by_role("columnheader", name="SDR voc").count() == 2
    assert opened.get_by_role("button").count() == 0
    assert opened.get_by_role("rowheader", name="Best").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(page, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    opened = page(scheme, 1280)
    opened.goto(address)
    opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    paper = opened.eval_on_selector("main", "main => getComputedStyle(main).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    found = Axe().run(opened).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
