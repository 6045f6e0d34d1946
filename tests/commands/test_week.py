"""The notebooks run headless: what is refused before work, and what a failure says and leaves."""

import os
import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sepkit.__main__ import main
from sepkit.commands import week as headless
from sepkit.commands.week import check_kernel, choose, execute, parameter_names, week
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import MENU, picked
from sepkit.profiles import PROFILES
from sepkit.storage import Root, write_text

PARAMETERS = "profile = None\nroot = None\ndata = None\nseed = 0\npick = None\n"
DAYS = ("day1_first", "day2_second")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where `write` puts notebooks, two days of them."""
    monkeypatch.setattr(headless, "DAYS", DAYS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for day in DAYS:
        write(tmp_path / "notebooks" / f"{day}.ipynb", "print(seed)")
    return tmp_path / "notebooks"


@pytest.fixture
def root(tmp_path):
    return Root.open(tmp_path / "root", "demo")


def write(path, *sources, parameters=(PARAMETERS,), tag="parameters", metadata=None):
    cells = [new_markdown_cell("# A day")]
    cells += [new_code_cell(source, metadata={"tags": [tag]}) for source in parameters]
    cells += [new_code_cell(source) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata=metadata or {}), path)
    return path


def text(path):
    """What an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_the_parameters_of_the_tagged_cell(folder):
    assert parameter_names(folder / "day1_first.ipynb") == ["profile", "root", "data", "seed", "pick"]


@pytest.mark.parametrize(
    ("parameters", "tag", "count"),
    [((), "parameters", 0), ((PARAMETERS,), "parameter", 0), ((PARAMETERS, "seed = 1"), "parameters", 2)],
)
def test_a_notebook_without_exactly_one_tagged_cell_is_refused_before_the_first_runs(
    folder, root, parameters, tag, count, monkeypatch
):
    """S45: papermill alone would run it with its own values."""
    monkeypatch.setattr(headless, "execute", None)
    write(folder / "day2_second.ipynb", parameters=parameters, tag=tag)
    with pytest.raises(
        SepkitError, match=f"day2_second.ipynb has {count} cells tagged 'parameters', expected exactly one"
    ):
        week(notebooks=folder, root=root)


def test_a_parameter_that_a_notebook_lacks_is_refused(folder, root):
    path = write(folder / "day1_first.ipynb", parameters=["seed = 0\nalpa = 1.0"])
    with pytest.raises(SepkitError, match=r"day1_first.ipynb has no parameter alpha; .* has seed, alpa"):
        execute(path, root.path / "week", {"alpha": 5})
    with pytest.raises(SepkitError, match="no parameter profile, root"):
        week(notebooks=folder, root=root)
    assert not (root.path / "week").exists()


def test_a_wrong_call_is_refused_before_any_work(folder, root, tmp_path):
    for days in ([], [0], [1, 3]):
        with pytest.raises(UsageError, match="Days are numbered 1 to 2"):
            week(notebooks=folder, root=root, days=days)
    with pytest.raises(UsageError, match="'Z'"):
        week(notebooks=folder, root=root, pick=["Z"])
    with pytest.raises(UsageError, match="hours above 0"):
        week(notebooks=folder, root=root, hours=0, profile="full")
    with pytest.raises(SepkitError, match=r"No day1_first.ipynb in .*empty"):
        week(notebooks=tmp_path / "empty", root=root)
    with pytest.raises(SepkitError, match="no Jupyter kernel 'colab-gpu-xyz' here"):
        check_kernel("colab-gpu-xyz")
    assert not (root.path / "week").exists()


def test_days_run_whatever_kernel_they_name_and_a_bar_stays_small(folder, root, capfd):
    """S46, S47: metadata stripped, or of another machine; a bar of 2000 steps is not 346 kB."""
    write(folder / "day1_first.ipynb", "print(profile, root, seed, pick)")
    bar = (
        "import sys, time\nfrom tqdm import tqdm\nfrom sepkit.parallel import progress\n"
        "for _ in tqdm(range(2000)): time.sleep(0.0005)\n"
        "for _ in progress(range(3), doing='train', total=3): pass"
    )
    colab = {"name": "colab-gpu-xyz", "display_name": "Colab", "language": "python"}
    write(folder / "day2_second.ipynb", bar, metadata={"kernelspec": colab})
    assert main(["week", "--root", str(root.path), "--seed", "3", "--pick", "C+D,F"]) == 0
    out, err = capfd.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == list(DAYS)
    assert err == ""  # no warning of a kernel
    done = [root.path / "week" / f"{day}.ipynb" for day in DAYS]
    assert sorted((root.path / "week").iterdir()) == done
    assert text(done[0]) == f"demo {root.path} 3 ['Base', 'C+D', 'F']\n"
    assert re.search(r"train: 3 done in \d s$", text(done[1]), re.M)
    assert "2000/2000" in text(done[1])
    assert done[1].stat().st_size < 10_000
    assert "widget" not in done[1].read_text()


def test_a_kernel_that_is_slow_to_end_says_nothing(folder, root, capfd):
    """nbclient interrupts a kernel after its last reply; this one is then still at work with the message."""
    slow = (
        "import time\nhandlers = get_ipython().kernel.shell_handlers\nanswer = handlers['kernel_info_request']\n"
        "async def slowly(*message):\n    await answer(*message)\n    time.sleep(1)\n"
        "handlers['kernel_info_request'] = slowly"
    )
    for path in (folder / "day1_first.ipynb", folder / "day2_second.ipynb"):
        write(path, slow)
    assert main(["week", "--root", str(root.path)]) == 0
    out, err = capfd.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == list(DAYS)
    assert err == ""


def test_the_week_ends_with_the_scoreboard_and_where_everything_lies(folder, root, monkeypatch, capsys):
    monkeypatch.setattr(headless, "execute", lambda path, *_: path)
    board = pd.DataFrame({"Exp": ["Base"]})
    board.attrs["plan"] = "Exp  SDR\nBase 1.0"
    monkeypatch.setattr("sepkit.scoreboard", lambda *_: board)
    write_text(root.path / "scoreboard.html", "")
    write_text(root.path / "week" / "day1_first.ipynb", "")
    week(notebooks=folder, root=root, days=[1])
    places = f"scoreboard: {root.path}/scoreboard.html\nexecuted notebooks: {root.path}/week\n"
    assert capsys.readouterr().out.endswith(f"\n\n{board.attrs['plan']}\n\n{places}")


def test_relative_places_of_the_environment_mean_the_same_folder_in_a_notebook(folder, monkeypatch, tmp_path):
    """S74: a notebook runs in its own folder, not in the shell's."""
    for name in ("ROOT", "DATA", "DRIVE"):
        monkeypatch.setenv(f"SEPKIT_{name}", name.lower())
    source = "import os\nprint(root, *(os.environ[f'SEPKIT_{name}'] for name in ('ROOT', 'DATA', 'DRIVE')))"
    write(folder / "day1_first.ipynb", source)
    assert main(["week", "--days", "1"]) == 0
    places = [tmp_path / name for name in ("root/demo", "root", "data", "drive")]
    assert text(places[0] / "week/day1_first.ipynb").split() == [str(place) for place in places]


def test_a_failing_cell_names_day_cell_and_reason_and_leaves_no_old_result(folder, root, capsys):
    write_text(root.path / "week" / "day1_first.ipynb", "of yesterday")
    write(folder / "day1_first.ipynb", "kept = 1", "\nlimit = 0\nraise ValueError('two\\nlines')", "print('never')")
    assert main(["week", "--root", str(root.path), "--days", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("sepkit: day1_first stopped in cell 4 (limit = 0): ValueError: two lines (see ")
    assert error.count("\n") == 1
    (left,) = (root.path / "week").iterdir()
    assert left.name == "day1_first.failed.ipynb"
    cells = nbformat.read(left, as_version=4).cells
    assert any("ValueError" in str(cell.get("outputs")) for cell in cells)


@pytest.mark.long
def test_a_killed_kernel_names_the_cell_and_what_is_saved_and_the_next_call_resumes(folder, root):
    """S48."""
    run = root.run("Base-s0")
    write_text(run.path / "config.json", '{"run": "Base-s0"}')
    write_text(run.path / "history.csv", "epoch,seconds\n1,2.0\n2,2.0\n")
    run.write_status(state="running")
    flag = root.path / "flag"
    kill = f"import os, pathlib, signal\nflag = pathlib.Path({str(flag)!r})\n"
    kill += "if not flag.exists():\n    flag.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    write(folder / "day1_first.ipynb", "print('before')", kill)
    with pytest.raises(SepkitError) as error:
        week(notebooks=folder, root=root, days=[1])
    message = str(error.value)
    assert message.startswith("day1_first stopped in cell 4 (import os, pathlib, signal): the kernel died")
    assert "saved epochs: Base-s0 2" in message
    (left,) = (root.path / "week").iterdir()
    assert left.name == "day1_first.failed.ipynb"
    assert "before" in text(left)
    (done,) = week(notebooks=folder, root=root, days=[1])
    assert list(done.parent.iterdir()) == [done]


def test_the_experiments_of_the_week(root, monkeypatch, capsys):
    demo, full = PROFILES["demo"], PROFILES["full"]
    assert choose(demo, None, None) is choose(full, None, None) is None  # the days know
    assert picked(None, full) == ["Base", "F", "C+D", "A", "B", "Best"]
    every = picked(None, demo)
    assert {"Base", "B", "C2", "Best"} <= set(every) and not set(demo.left_out) & set(every)
    assert set(demo.left_out) < set(MENU) and picked(["E"], demo) == ["E"]
    assert not any(MENU[name].variant_of for name in every)
    assert picked(["Base-flat"], demo) == ["Base-flat"]  # an ablation runs where it is picked
    with pytest.raises(UsageError, match="'Z'"):
        picked(["Z"], demo)
    assert choose(full, ["A", "Base", "A"], None) == ["Base", "A"]
    assert choose(full, list(MENU), None) == list(MENU)  # who picks, gets it
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sepkit.training.plan.pick_device", lambda device: "cpu")
    assert choose(full, ["A", "F"], 0.7, root) == ["Base", "F"]
    assert capsys.readouterr().out == "left out, beyond 0.7 hours: A\n"


def test_the_hours_of_the_week_reach_the_notebooks(folder, root, monkeypatch):
    write(folder / "day1_first.ipynb", "print(1)")
    seen = []

    def run(path, running, *_, **__):
        seen.append(os.environ.get("SEPKIT_HOURS"))
        running.write_text("{}")

    monkeypatch.setattr("papermill.execute_notebook", run)
    monkeypatch.setattr(headless, "choose", lambda *_: None)
    week(notebooks=folder, root=root, days=[1], hours=9.5)
    week(notebooks=folder, root=root, days=[1])
    assert seen == ["9.5", None]


def test_the_projects_own_notebooks_take_every_parameter():
    folder = headless.find_notebooks()
    for day in headless.DAYS:
        headless.check_parameters(folder / f"{day}.ipynb", ("profile", "root", "data", "seed", "pick"))
