"""The seven notebooks: their form, a whole week on small songs, and nbval on the cells that are stable.

The week runs once, headless, with the demo profile's rows and networks on a few short songs and for an eighth
of its steps.  `empty_cells` is the check by which a notebook fails whose cells ran without an error and did nothing.
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
from sepkit.commands.week import DAYS, execute, parameter_names
from sepkit.data.demo import make_demo_songs
from sepkit.storage import Root

FOLDER = Path(__file__).parents[1] / "notebooks"
# what a day must show when it has run: pictures, and words that only its numbers can bring about
SHOWS = {
    "day1_baseline": (
        4,
        [r"Base-s0 epoch \d+/\d+ train \d", r"Base-s0 against mixture.*p = \d", r"Base reads -?\d"],
    ),
    "day2_finetune": (1, [r"F-s0: [\d,]+ of [\d,]+ parameters", r"Against the network that it started from"]),
    "day3_phase_augment": (
        7,
        [
            r"C-s0 against Base-s0",
            r"C2-s0 against Base-s0",
            r"C\+D-s0 against Base-s0",
            r"gradient is zero",
        ],
    ),
    "day4_demucs_tiny": (
        7,
        [
            r"BiLSTM layers 0: .* hears 1[23] of 500 ms",
            r"A-s0 against Base-s0",
            r"G-s0 against Base-s0",
            r"H-s0 against Base-s0",
            r"A-4-s0 against Base-4-s0, sdr_onsets of drums",
        ],
    ),
    "day5_multitask_cv": (
        2,
        [
            r"Base over 3 folds: median",
            r"Over the \d+ songs of all folds",
            r"B-s0 against Base-s0",
            r"E-s0 against Base-s0",
            r"shared artists: 0",
        ],
    ),
    "day6_evaluate": (
        2,
        [
            r"\d+ runs are scored",
            r"nothing but the definition has changed",
            r"one seed: no claim",
            r"Best-s0 against H-s0",
            r"Better than Base at p < 0.01",
        ],
    ),
    "day7_milestone": (1, [r"milestone2\.html \(\d", r"finished: .*Base-s0"]),
}


def text_of(notebook) -> str:
    return "\n".join(
        output.get("text", "") or str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def empty_cells(path: Path, name: str) -> list[str]:
    """What an executed notebook lacks of what its day must show; [] where nothing."""
    notebook = nbformat.read(path, as_version=4)
    pictures, words = SHOWS[name]
    lacks = [
        f"cell {number} was not executed"
        for number, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    shown = sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    if shown < pictures:
        lacks.append(f"{shown} pictures, expected at least {pictures}")
    return lacks + [f"no {word!r}" for word in words if not re.search(word, text_of(notebook))]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return make_demo_songs(
        tmp_path_factory.mktemp("songs") / "songs", train=6, valid=2, test=8, duration_s=(4.0, 5.0)
    )


# found by every Python process whose PYTHONPATH leads to it: kernels, and their workers
SHORT = """
from dataclasses import replace
from sepkit.profiles import PROFILES

PROFILES["demo"] = replace(PROFILES["demo"], epochs=4, steps_per_epoch=5)
"""


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory):
    """The PYTHONPATH with which the demo profile trains an eighth as long."""
    folder = tmp_path_factory.mktemp("short")
    (folder / "sitecustomize.py").write_text(SHORT)
    return f"{folder}{os.pathsep}{FOLDER.parent}"


@pytest.fixture(scope="module")
def root(songs, short_demo, tmp_path_factory):
    """A root after a whole headless week on small songs."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", short_demo)
        sepkit.week(profile="demo", data=songs, root=root)
    return root


@pytest.mark.parametrize("name", DAYS)
def test_form(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells[:3]]
    assert kinds == ["markdown", "code", "code"]
    assert f"notebooks/{name}.ipynb" in notebook.cells[0].source  # the badge opens this notebook
    assert "drive_setup" in notebook.cells[1].source
    assert parameter_names(path) == ["profile", "data", "root", "seed", "pick"]
    assert notebook.cells[2].metadata["tags"] == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert "google.colab" not in path.read_text(encoding="utf-8").replace("colab.research.google", "")
    for cell in notebook.cells:
        if cell.cell_type == "code" and "nbval-check-output" not in cell.metadata.get("tags", []):
            assert cell.outputs == []
            assert cell.execution_count is None
    assert any("Conclude" in cell.source for cell in notebook.cells[-3:])
    assert "what_now" in notebook.cells[-1].source


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", DAYS)
def test_every_day_shows_what_it_computed(root, name):
    assert empty_cells(root / "week" / f"{name}.ipynb", name) == []


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_week_leaves_scored_runs_a_scoreboard_and_a_report(root):
    runs = {run.name: run for run in Root(root).runs()}
    rows = {*sepkit.experiments.week_experiments(), "Base-4", "A-4"}  # the last two on day 4
    expected = {f"{row}-s0" for row in rows} | {f"Base-s0-f{fold}" for fold in range(3)}
    assert expected | {"mixture", "oracle"} == set(runs)
    assert runs["Base-s0"].status["epochs"] == 4
    for run in runs.values():
        assert run.finished
        assert run.scores()["track"].nunique() > 0
    board = sepkit.scoreboard(root)
    assert set(board["Exp"]) == set(sepkit.experiments.week_experiments()) | {"mixture", "oracle"}
    assert board["SDR voc (sdr_bsseval)"].notna().all()
    report = (root / "report" / "milestone2.html").read_text(encoding="utf-8")
    assert "C+D" in report
    assert list((root / "week").glob("*.failed.ipynb")) == []
    assert sepkit.budget(root)["minutes"].sum() > 0


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_players_and_chooser_stay_without_a_kernel(root):
    first = (root / "week" / "day1_baseline.ipynb").read_text(encoding="utf-8")
    sixth = (root / "week" / "day6_evaluate.ipynb").read_text(encoding="utf-8")
    assert first.count("<audio controls") >= 12
    assert sixth.count("<audio controls") >= 3


def test_a_notebook_that_does_nothing_fails_the_check(tmp_path):
    for name in ("day1_baseline", "day6_evaluate"):
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells[3:]:
            if cell.cell_type == "code":
                cell.source, cell.outputs = "pass", []
        hollow = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, hollow)
        done = execute(
            hollow, tmp_path / "out", {"profile": "demo", "root": str(tmp_path / "root"), "seed": 0}
        )
        lacks = empty_cells(done, name)
        assert len(lacks) == 1 + len(SHOWS[name][1])


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("figsize", ["6.4,4.8", "3,2"])
def test_stable_cells_give_their_stored_output(root, songs, short_demo, tmp_path, figsize):
    """nbval with the runs in place, twice, with another default figure size the second time."""
    (tmp_path / "matplotlibrc").write_text(f"figure.figsize: {figsize}\n")
    checked = [FOLDER / f"{name}.ipynb" for name in ("day1_baseline", "day3_phase_augment")]
    environment = {
        "PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), "MATPLOTLIBRC": str(tmp_path),
        "SEPKIT_PROFILE": "demo", "SEPKIT_DATA": str(songs), "SEPKIT_ROOT": str(root), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": short_demo,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg",
        "--nbval-cell-timeout=600", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=default",
        *map(str, checked),
    ]  # fmt: skip
    answer = subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True, timeout=900
    )
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert re.search(r"\d+ passed", answer.stdout)


def test_nbval_notices_a_changed_output(tmp_path):
    """The stored output of a stable cell is compared, not only run."""
    notebook = json.loads((FOLDER / "day3_phase_augment.ipynb").read_text(encoding="utf-8"))
    stable = [cell for cell in notebook["cells"] if "nbval-check-output" in cell["metadata"].get("tags", [])]
    assert len(stable) == 1
    stable[0]["outputs"][0]["text"] = ["naive: the gradient is not zero\n"]
    notebook["cells"] = [stable[0]]
    stable[0]["source"] = ["from sepkit.reporting import figures\n", *stable[0]["source"]]
    changed = tmp_path / "changed.ipynb"
    changed.write_text(json.dumps(notebook))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        str(changed),
    ]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    answer = subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 1
    assert "Cell outputs differ" in answer.stdout
