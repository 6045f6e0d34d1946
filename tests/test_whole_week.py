"""A whole week on small songs, once: what its notebooks show, what it leaves, and nbval over all seven.

The demo's experiments and networks, headless, on a few short songs and for an eighth of the steps.  nbval then
runs on the same root, where every run is finished: cells tagged nbval-check-output must give their stored output.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import sepkit
from sepkit.commands.week import DAYS
from sepkit.data.demo.songs import make_demo_songs
from sepkit.experiments import BASE, BOUNDS, week_experiments
from sepkit.storage import Root

FOLDER = Path(__file__).parents[1] / "notebooks"
TRAINED = [name for name in week_experiments() if name != BASE]
# of each day: pictures, words that only its scores can give, and comparisons that it prints
SHOWS = {
    "day1_baseline": (4, [r"Base-s0 [^:]+: \d+ epochs, best \d", r"p = \d"], [("Base", "mixture")]),
    "day2_finetune": (1, [r"[\d,]+ of [\d,]+ parameters are trained"], [("F", "UMX")]),
    "day3_phase_augment": (5, [r"gradient is zero"], [("C", "Base"), ("C2", "Base"), ("C+D", "Base")]),
    "day4_demucs_tiny": (7, [r"\n0 +5\d\d +1[23]\n"], [("A", "Base"), ("G", "Base"), ("H", "Base")]),
    "day5_multitask_cv": (
        7,
        [r"Base over 3 folds: medians", r"by artist, fold 2 +\d+ +0\n", r"after the Wiener step +0 %"],
        [("B", "Base"), ("E", "Base"), ("Best", "Base"), ("Best", "H")],
    ),
    "day6_evaluate": (
        2 * len(TRAINED) + 2,
        [r"\d+ runs are scored", r"Only the definition has changed"],
        [(name, "Base") for name in TRAINED],
    ),
    "day7_milestone": (1, [r"milestone2\.html \(\d", r"finished: \d+ of \d+ runs"], []),
}
# found by every Python process whose PYTHONPATH leads to it: kernels, and their workers
SHORT = """
from dataclasses import replace
from sepkit.experiments import MENU
from sepkit.profiles import PROFILES

PROFILES["demo"] = replace(PROFILES["demo"], epochs=4, steps_per_epoch=5)
for experiment in MENU.values():
    experiment.profiles.get("demo", {}).get("training", {}).pop("steps_per_epoch", None)
"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]


def run_of(root, experiment):
    return Root(root).run(experiment if experiment in BOUNDS else f"{experiment}-s0")


def comparison(root, experiment, base):
    """Pattern of the sentence on both runs: their names and the interval of the gain, whatever Holm's p says."""
    run, other = run_of(root, experiment), run_of(root, base)
    low, high = sepkit.compare(run, other).interval
    return rf"{re.escape(run.name)} .*{re.escape(other.name)}.*interval {re.escape(f'{low:+.2f} to {high:+.2f}')} dB"


def empty_cells(path: Path, name: str, root: Path | None = None) -> list[str]:
    """What an executed notebook lacks of what its day must show; [] where nothing."""
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(each.get("text", "") or str(each.get("data", {}).get("text/plain", "")) for each in outputs)
    pictures, words, compared = SHOWS[name]
    lacks = [
        f"cell {number} was not executed"
        for number, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    if shown < pictures:
        lacks.append(f"{shown} pictures, expected at least {pictures}")
    if root is not None:
        words = [*words, *(comparison(root, *pair) for pair in compared)]
    return lacks + [f"no {word!r}" for word in words if not re.search(word, text)]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs") / "songs"
    return make_demo_songs(folder, train=6, valid=2, test=8, duration_s=(4.0, 5.0))


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory):
    """The PYTHONPATH with which the demo profile trains an eighth as long."""
    folder = tmp_path_factory.mktemp("short")
    (folder / "sitecustomize.py").write_text(SHORT)
    return f"{folder}{os.pathsep}{FOLDER.parent}"


@pytest.fixture(scope="module")
def root(songs, short_demo, tmp_path_factory):
    """A root after a whole headless week on small songs."""
    root = tmp_path_factory.mktemp("roots") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", short_demo)
        sepkit.week(profile="demo", data=songs, root=root, pick=[*week_experiments(), "Base-4", "A-4"])
    return root


@pytest.mark.parametrize("name", DAYS)
def test_every_day_shows_what_it_computed(root, name):
    assert empty_cells(root / "week" / f"{name}.ipynb", name, root) == []


@pytest.mark.parametrize("name", DAYS)
def test_a_notebook_that_does_nothing_fails_the_check(tmp_path, name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, cell.outputs, cell.execution_count = "pass", [], 1
    nbformat.write(notebook, tmp_path / "hollow.ipynb")
    assert len(empty_cells(tmp_path / "hollow.ipynb", name)) == 1 + len(SHOWS[name][1])


def test_the_week_leaves_scored_runs_a_scoreboard_and_a_report(root):
    runs = {run.name: run for run in Root(root).runs()}
    experiments = {*week_experiments(), "Base-4", "A-4"}
    expected = {f"{name}-s0" for name in experiments} | {f"Base-s0-f{fold}" for fold in range(3)}
    assert expected | {*BOUNDS} == set(runs)
    assert runs["Base-s0"].status["epochs"] == 4
    for run in runs.values():
        assert run.finished
        assert run.scores()["track"].nunique() > 0
    board = sepkit.scoreboard(root)
    assert set(board["Exp"]) == {*week_experiments(), *BOUNDS}
    assert board["SDR voc (sdr_bsseval)"].notna().all()
    report = (root / "report" / "milestone2.html").read_text(encoding="utf-8")
    assert "C+D" in report
    assert list((root / "week").glob("*.failed.ipynb")) == []
    assert sepkit.budget(root)["minutes"].sum() > 0


def printed_words(path: Path) -> int:
    """Words of prose in the outputs: no tables, code, pictures, players or progress, nothing that opens by a click."""
    count = 0
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = (
                output.get("text", "")
                or data.get("text/html")
                or data.get("text/markdown")
                or data.get("text/plain", "")
            )
            if "image/png" not in data and not re.search('class="highlight"|<audio', text):
                text = re.sub(
                    r"<(details|table|script|style)\b.*?</\1>|<[^>]*>|^(\||cache|score|train|\S+-s\d)[^\n]*",
                    " ",
                    text,
                    flags=re.S | re.M,
                )
                count += len(text.split())
    return count


@pytest.mark.parametrize("name", DAYS)
def test_a_day_prints_few_words_and_stays_small(root, name):
    path = root / "week" / f"{name}.ipynb"
    print(f"{name}: {printed_words(path)} words, {path.stat().st_size / 1e6:.2f} MB")
    assert printed_words(path) < 250
    assert path.stat().st_size < 3e6


def test_players_and_chooser_stay_without_a_kernel(root):
    first = (root / "week" / "day1_baseline.ipynb").read_text(encoding="utf-8")
    sixth = (root / "week" / "day6_evaluate.ipynb").read_text(encoding="utf-8")
    assert first.count("<audio controls") >= 12
    assert sixth.count("<audio controls") >= 3


def nbval(*notebooks, **environment):
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=600", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg", "-o", "addopts=", "-o", "filterwarnings=default"]
    return subprocess.run(
        [*command, *map(str, notebooks)],
        cwd=FOLDER.parent,
        env={"PATH": str(Path(sys.executable).parent), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=2000,
    )


def test_stable_cells_of_all_days_give_their_stored_output(root, songs, short_demo, tmp_path):
    """With the runs in place and a default figure size that is not matplotlib's."""
    (tmp_path / "matplotlibrc").write_text("figure.figsize: 3,2\n")
    answer = nbval(
        *(FOLDER / f"{name}.ipynb" for name in DAYS),
        HOME=str(tmp_path), MATPLOTLIBRC=str(tmp_path), PYTHONPATH=short_demo,
        SEPKIT_PROFILE="demo", SEPKIT_DATA=str(songs), SEPKIT_ROOT=str(root.parent),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert re.search(r"\d+ passed", answer.stdout)


def test_nbval_notices_a_changed_output(tmp_path):
    """The stored output of a stable cell is compared, not only run."""
    notebook = json.loads((FOLDER / "day3_phase_augment.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    stable = next(cell for cell in code if "phase_loss" in "".join(cell["source"]))
    assert stable["metadata"]["tags"] == ["nbval-check-output"]
    stable["outputs"][0]["text"] = ["naive: the gradient is not zero\n"]
    notebook["cells"] = [stable]
    changed = tmp_path / "changed.ipynb"
    changed.write_text(json.dumps(notebook))
    answer = nbval(changed, HOME=str(tmp_path), PYTHONPATH=str(FOLDER.parent))
    assert answer.returncode == 1
    assert "Cell outputs differ" in answer.stdout
