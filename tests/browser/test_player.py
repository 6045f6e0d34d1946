"""The player as a person uses it: what comes out of the page's AudioContext, keys, names, contrast.

`record` takes the samples on their way to the loudspeaker, so that clocks, switches and levels are measured in what is
heard, and not read from the player's own variables.
"""

import base64
import itertools
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from sepkit.reporting.player import player

RATE = 44100
REPOSITORY = Path(__file__).parents[2]
TAP = """
const Real = AudioContext;
window.contexts = [];
window.blocks = [];
window.AudioContext = class extends Real {
  get destination() {
    if (!this.tap) {
      contexts.push(this);
      this.tap = new GainNode(this);
      this.tap.connect(super.destination);
      const code = `registerProcessor('tap', class extends AudioWorkletProcessor {
        process([[left]]) { this.port.postMessage([currentFrame, left?.slice() ?? null]); return true; } })`;
      this.audioWorklet.addModule('data:text/javascript,' + encodeURIComponent(code)).then(() => {
        const recorder = new AudioWorkletNode(this, 'tap');
        recorder.port.onmessage = ({ data }) => blocks.push(data);
        this.tap.connect(recorder);
      });
    }
    return this.tap;
  }
};
window.taken = () => { // base64 of float32 samples, where nothing was rendered zeros
  const sounding = blocks.filter(([, samples]) => samples), first = sounding[0][0];
  const sound = new Float32Array(sounding.at(-1)[0] - first + 128);
  for (const [frame, samples] of sounding) sound.set(samples, frame - first);
  return btoa(Array.from(new Uint8Array(sound.buffer), (byte) => String.fromCharCode(byte)).join(''));
};
"""


def tone(hertz: float, seconds: float = 4.0) -> np.ndarray:
    return 0.25 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def bursts(hertz: float) -> np.ndarray:
    """Bursts of 10 ms around 0.125 s, 0.375 s, … of 4 s."""
    return tone(hertz) * (np.abs(np.arange(4 * RATE) / RATE % 0.25 - 0.125) < 0.005)


@pytest.fixture
def heard(page, tmp_path):
    """`heard(clips, **options)` -> a page with their player, whose sound is recorded."""

    def new(clips, colour_scheme="light", width=1000, **options):
        opened = page(colour_scheme, width)
        opened.add_init_script(TAP)
        file = tmp_path / "page.html"
        body = f"<h1>Songs</h1>{player(clips, RATE, title='A song', **options).data}"
        head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Songs</title>'
        file.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>')
        opened.goto(file.as_uri())
        return opened

    return new


def record(page, seconds: float = 0.0, keys: str = "") -> tuple[np.ndarray, int]:
    """What is heard from now on, and its rate in Hz: each key and then `seconds`, or `seconds` alone."""
    page.evaluate("blocks.length = 0")
    for key in keys or [""]:
        if key:
            page.keyboard.press(key)
        page.wait_for_timeout(1000 * seconds)
    return np.frombuffer(base64.b64decode(page.evaluate("taken()")), np.float32), page.evaluate(
        "contexts[0].sampleRate"
    )


def pitch(sound: np.ndarray, rate: int) -> float:
    """The loudest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))


def play(page) -> None:
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.wait_for_function("blocks.some(([, samples]) => samples)")


def serious(page, part: str = "html") -> list[str]:
    """What axe-core finds that keeps somebody from reading or using the page, or a part of it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=part).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def test_ten_switches_stay_on_one_clock(heard):
    """All clips have bursts at the same times: whichever is heard, its bursts must lie on one grid of 250 ms."""
    page = heard({f"{hertz} Hz": bursts(hertz) for hertz in (1000, 2000, 3000, 4000)})
    play(page)
    sound, rate = record(page, 0.4, "2413241324")
    short = rate // 50  # 20 ms
    energy = (sound[: len(sound) // short * short].reshape(-1, short) ** 2).sum(axis=1)
    where = np.flatnonzero(
        (energy > energy.max() / 4) & (energy >= np.roll(energy, 1)) & (energy > np.roll(energy, -1))
    )
    centres, pitches = [], []
    for block in where:
        part = slice(max(0, (block - 1) * short), (block + 2) * short)
        power = sound[part] ** 2
        centres.append((part.start + (np.arange(len(power)) * power).sum() / power.sum()) / rate)
        pitches.append(1000 * round(pitch(sound[part], rate) / 1000))
    changes = sum(one != other for one, other in itertools.pairwise(pitches))
    assert changes >= 9, f"heard {pitches}"
    off = (np.array(centres) - centres[0] + 0.125) % 0.25 - 0.125
    print(f"{changes} changes, bursts at most {1000 * np.ptp(off):.2f} ms from one grid")
    assert np.ptp(off) < 0.02


def test_levels_and_silence_survive(heard):
    page = heard({"loud": tone(1000), "40 dB below": tone(1000) / 100, "silence": np.zeros(4 * RATE)})
    play(page)
    levels = [np.sqrt(np.median(record(page, 0.4, key)[0][-9600:] ** 2)) for key in "123"]
    assert 20 * np.log10(levels[0] / levels[1]) == pytest.approx(40, abs=0.3)
    assert levels[2] < 1e-5


def test_a_region_loops(heard):
    """The clip is another tone each second; in the loop from 1 to 2 s only that second's is heard."""
    page = heard({"scale": np.concatenate([tone(hertz, 1) for hertz in (500, 1000, 1500, 2000)])})
    page.get_by_label("from").fill("1")
    page.get_by_label("to", exact=True).fill("2")
    play(page)
    page.wait_for_timeout(100)
    sound, rate = record(page, 2.5)
    assert {round(pitch(part, rate), -2) for part in np.array_split(sound, 8)} == {1000}
    page.get_by_label("loop").uncheck()
    sound, rate = record(page, 1.5)
    assert round(pitch(sound[-9600:], rate), -2) in (1500, 2000)


def test_a_drag_loops_and_a_click_seeks(heard):
    page = heard({"one": tone(440), "two": tone(880)})
    wave = page.locator(".wave").nth(1).bounding_box()
    x, y = wave["x"], wave["y"] + wave["height"] / 2
    page.mouse.click(x + wave["width"] * 0.75, y)
    assert page.locator("output").text_content() == "3.0 of 4.0 s"
    page.mouse.move(x + wave["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(x + wave["width"] * 0.5, y, steps=5)
    page.mouse.up()
    assert [float(page.get_by_label(name, exact=True).input_value()) for name in ("from", "to")] == [1, 2]
    assert page.locator("output").text_content() == "1.0 of 4.0 s"
    page.keyboard.press("2")  # the drag gave the player the keys
    assert page.get_by_role("radio", name="2 two").is_checked()


def test_errors_are_heard_at_one_switch(heard):
    clips = {"vocals": tone(500), "Base": tone(500) + tone(2000) / 4, "Best": tone(500) + tone(3000) / 8}
    page = heard(clips, error=[("Base", "vocals"), ("Best", "vocals")])
    play(page)
    heard_after = {}
    for keys in ("2", "e", "3", "1", "3", "e"):
        sound, rate = record(page, 0.4, keys)
        heard_after[len(heard_after), keys] = round(pitch(sound[-rate // 5 :], rate), -2)
    assert list(heard_after.values()) == [500, 2000, 3000, 500, 3000, 500]


def test_keys_and_names_for_screen_readers(heard):
    page = heard({"mixture": tone(300), "vocals": tone(500), "estimate": tone(510)}, error=("estimate", "vocals"))
    names = page.locator(".sepkit-player").aria_snapshot()
    for expected in (
        'group "player: A song"',
        'button "► Play"',
        '- slider "position in seconds"',
        '- checkbox "loop" [checked]',
        '- spinbutton "from"',
        '- radio "1 mixture" [checked]',
        '- radio "4 error"',
        '- rowheader "4 error"',
        "RMS -15.1 dBFS",
    ):
        assert expected in names, names
    assert "e errors" not in names
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").endswith("Play")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pause").wait_for()
    for key, chosen in (
        ("4", "4 error"),
        ("ArrowUp", "3 estimate"),
        ("ArrowDown", "4 error"),
        ("ArrowDown", "4 error"),
    ):
        page.keyboard.press(key)
        assert page.get_by_role("radio", name=chosen).is_checked()
    page.get_by_role("radio", name="1 mixture").click()
    page.keyboard.press(" ")  # with the focus on a row, as anywhere in the player
    page.get_by_role("button", name="Play").wait_for()
    page.get_by_label("from").fill("0.5")
    page.get_by_label("from").press("2")  # digits in a field are digits
    assert page.get_by_role("radio", name="1 mixture").is_checked()
    before = float(page.get_by_role("slider").input_value())
    page.get_by_role("slider").press("ArrowRight")
    assert float(page.get_by_role("slider").input_value()) == pytest.approx(before + 1, abs=0.02)


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1000])
def test_axe_finds_nothing_serious(heard, colour_scheme, width):
    clips = {"vocals": tone(500), "Base": tone(500) / 2, "an experiment with a long name": tone(500) / 3}
    page = heard(clips, colour_scheme, width, error=[("Base", "vocals")])
    assert serious(page) == []
    play(page)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_one_of_several_players_sounds_at_a_time(heard, page, tmp_path):
    """In one page, all on one AudioContext; a page without scripts keeps its rows."""
    file = tmp_path / "two.html"
    file.write_text("".join(player({name: tone(440)}, RATE, title=name).data for name in ("first", "second")))
    opened = page()
    opened.add_init_script(TAP)
    opened.goto(file.as_uri())
    first, second = opened.get_by_role("group", name="first"), opened.get_by_role("group", name="second")
    first.get_by_role("button").click()
    first.get_by_role("button", name="Pause").wait_for()
    second.get_by_role("button").click()
    second.get_by_role("button", name="Pause").wait_for()
    assert first.get_by_role("button").text_content().endswith("Play")
    assert opened.evaluate("contexts.length") == 1
    plain = page(java_script_enabled=False)
    plain.goto(file.as_uri())
    assert plain.locator("audio[controls]:visible").count() == 2


@pytest.mark.parametrize("gap_s", [0, 0.3])
def test_a_new_player_of_the_same_title_goes_on(heard, gap_s):
    """As in a chooser that replaces a playing player by that of another run, at once or after a while."""
    page = heard({"vocals": tone(500, 10), "Base": tone(1000, 10)})
    play(page)
    page.get_by_label("from").fill("1")
    page.get_by_role("radio", name="2 Base").click()
    page.wait_for_timeout(300)
    later = player({"vocals": tone(500, 10), "Best": tone(2000, 10)}, RATE, title="A song").data
    before = float(page.get_by_role("slider").input_value())
    old = "document.querySelector('.sepkit-player').replaceWith"
    if gap_s:
        page.evaluate(old + "('busy')")
        page.wait_for_timeout(1000 * gap_s)
        old = "document.querySelector('main').append"
    page.evaluate(f"html => {old}(document.createRange().createContextualFragment(html))", later)
    page.get_by_role("button", name="Pause").wait_for()
    assert page.get_by_role("radio", name="2 Best").is_checked()
    assert float(page.get_by_label("from").input_value()) == 1
    assert before > 1
    assert before - 0.05 < float(page.get_by_role("slider").input_value()) < 9
    sound, rate = record(page, 0.4)
    assert round(pitch(sound[-rate // 5 :], rate), -2) == 2000
    assert page.evaluate("contexts.length") == 1


def test_in_a_sandboxed_frame(page, tmp_path):
    """As a hosted notebook shows outputs: a frame of another origin, into which HTML and its scripts are put apart."""
    html, script = player({"mixture": tone(440)}, RATE).data.split("<script>")
    inner = f"<body>{html}</div><script>{script.removesuffix('</div>')}</body>".replace('"', "&quot;")
    (tmp_path / "outer.html").write_text(
        f'<iframe sandbox="allow-scripts" width=900 height=300 srcdoc="{inner}"></iframe>'
    )
    opened = page()
    opened.goto((tmp_path / "outer.html").as_uri())
    frame = opened.frame_locator("iframe")
    frame.get_by_role("button", name="Play").click()
    frame.get_by_role("button", name="Pause").wait_for()
    opened.wait_for_timeout(500)
    assert float(frame.get_by_role("slider").input_value()) > 0.2


@pytest.fixture
def notebook(tmp_path):
    """A notebook with one player, as a kernel would have left it: the code and its output."""
    code = "import numpy as np, sepkit\nclip = np.sin(np.arange(88200) / 20) / 4\n"
    code += "sepkit.player({'mixture': clip, 'estimate': clip / 2}, title='A song')"
    clip = np.sin(np.arange(88200) / 20) / 4
    data = {"text/html": player({"mixture": clip, "estimate": clip / 2}, title="A song").data}
    cell = nbformat.v4.new_code_cell(code, outputs=[nbformat.v4.new_output("display_data", data)], execution_count=1)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(book, tmp_path / "day.ipynb")
    return tmp_path / "day.ipynb"


@pytest.mark.long
def test_in_an_executed_notebook(page, notebook):
    """Executed without a browser, converted by nbconvert, opened from the disk: it plays."""
    offline = [f"--HTMLExporter.{name}_url=" for name in ("mathjax", "require_js", "jquery")]
    arguments = ["nbconvert", "--execute", "--to", "html", *offline, str(notebook)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True, env=environment)
    opened = page()
    opened.add_init_script(TAP)
    opened.goto(notebook.with_suffix(".html").as_uri())
    play(opened)
    sound, rate = record(opened, 0.3, "2")
    assert pitch(sound, rate) == pytest.approx(44100 / 20 / 2 / np.pi, abs=10)
    assert serious(opened, ".sepkit-player") == []


@pytest.mark.long
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_in_jupyterlab(lab, notebook, theme):
    """Run there, it plays, and its keys are not JupyterLab's, to which a 2 means a heading."""
    page = lab(notebook, theme=theme)
    shown = page.get_by_role("group", name="player: A song")
    shown.get_by_role("button").click()
    shown.get_by_role("button", name="Pause").wait_for()
    page.keyboard.press("2")
    assert shown.get_by_role("radio", name="2 estimate").is_checked()
    assert page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.get(0).type") == "code"
    page.wait_for_function("parseFloat(document.querySelector('.sepkit-player output').textContent) > 0.2")
    assert serious(page, ".sepkit-player") == []
    label, wave = (shown.locator(part).first.bounding_box() for part in ("th label", ".wave"))
    assert label["x"] + label["width"] <= wave["x"]


@pytest.mark.long
def test_untrusted_in_jupyterlab_the_rows_stay(lab, notebook):
    page = lab(notebook, run=False)
    assert page.locator(".sepkit-player audio[controls]:visible, table audio[controls]:visible").count() == 2
    assert page.get_by_role("button", name="Play").count() == 0
