"""The form of the seven notebooks, and that their calls exist; no cell runs.  test_whole_week.py runs them."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import nbformat
import pytest

from sepkit.commands.week import DAYS, execute, parameter_names
from sepkit.profiles import PROFILES

FOLDER = Path(__file__).parents[1] / "notebooks"
STABLE = "nbval-check-output"
OWN = "own_songs"  # no day of the week


@pytest.fixture(params=DAYS)
def path(request):
    return FOLDER / f"{request.param}.ipynb"


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_form(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells[:3]] == ["markdown", "code", "code"]
    assert "drive_setup" in notebook.cells[1].source
    assert [tags(cell) for cell in notebook.cells].count(["parameters"]) == 1
    assert tags(notebook.cells[2]) == ["parameters"]
    assert parameter_names(path) == ["profile", "pick", "data", "root", "seed"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert all("google" not in cell.source for cell in notebook.cells[2:])  # S44
    assert "what_now" in notebook.cells[-1].source


def test_the_notebook_of_own_songs_has_the_form_of_a_day_and_stores_nothing():
    path = FOLDER / f"{OWN}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert tags(notebook.cells[2]) == ["parameters"]
    assert parameter_names(path) == ["profile", "pick", "data", "root", "seed"]
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(path))


@pytest.mark.long
def test_the_notebook_of_own_songs_runs_on_songs_that_it_makes(tmp_path):
    done = execute(FOLDER / f"{OWN}.ipynb", tmp_path / "done", {"profile": "demo", "root": str(tmp_path / "root")})
    shown = "\n".join(output.get("text", "") for cell in code_cells(done) for output in cell.outputs)
    assert "two_stems, read as two stems: 12 songs, mixtures of 12 summed" in shown
    assert "odd_names, read as stems.yaml" in shown
    assert (tmp_path / "root" / "report" / "milestone2.html").exists()


def part(path, name):
    """The cells from the heading `name` on, up to the next heading of its level."""
    cells = nbformat.read(path, as_version=4).cells
    places = [place for place, cell in enumerate(cells) if re.match(r"#{1,2} ", cell.source)]
    start = next(place for place in places if cells[place].source.startswith(f"## {name}"))
    return cells[start : next((place for place in places if place > start), None)]


def test_a_day_goes_from_a_prediction_to_what_is_handed_in(path):
    cells = nbformat.read(path, as_version=4).cells
    headings = [cell.source.splitlines()[0] for cell in cells if cell.source.startswith("## ")]
    parts = [f"## {name}" for name in ("Predict first", "Idea", "Were you right?", "Try this", "Hand in")]
    assert [heading for heading in headings if heading in parts] == parts
    idea = part(path, "Idea")[0].source
    assert "](https://" in idea and ("$" in idea or path.stem == DAYS[-1])
    sources = [cell.source for cell in cells]
    trains = [place for place, source in enumerate(sources) if re.search(r"sepkit\.train(_many)?\(", source)]
    for place, source in enumerate(sources):
        if "day.predict(" in source:
            assert place < min(trains)
            assert {value for value, _ in fields(source.partition("\n\n")[0]).values()} == {None, ""}
    assert sum("day.predict(" in source for source in sources) == (path.stem[3] < "6")
    assert nbformat.read(path, as_version=4).metadata.get("accelerator") == ("GPU" if path.stem[3] < "6" else None)


def test_what_can_be_tried_costs_nothing_unasked(path):
    cells = [cell.source for cell in part(path, "Try this") if cell.cell_type == "code"]
    assert len(cells) == 2
    for source in cells:
        first, *rest = ast.parse(source).body
        ((value, _),) = fields(source.splitlines()[0]).values()
        if re.search(r"sepkit\.|out_of_fold", source):
            assert not value and [type(node) for node in rest] == [ast.If]
            assert ast.unparse(rest[0].test).startswith(first.targets[0].id)


def test_stored_outputs_are_those_of_stable_cells_and_no_errors(path):
    cells = code_cells(path)
    assert any(STABLE in tags(cell) for cell in cells)
    for cell in cells:
        stable = STABLE in tags(cell)
        assert cell.execution_count == (1 if stable else None)  # nbval compares cells that have a number
        assert bool(cell.outputs) is stable, cell.source
        assert all(output.output_type != "error" for output in cell.outputs)
        assert not any("widget" in kind for output in cell.outputs for kind in output.get("data", {}))


def test_set_up_and_form_are_the_same_everywhere():
    for number in range(2):
        assert len({code_cells(FOLDER / f"{name}.ipynb")[number].source for name in (*DAYS, OWN)}) == 1


def fields(source):
    """{name: (value, what stands behind @param)} of a form cell of Colab; every assignment has to be a field."""
    found = {}
    for line in source.splitlines():
        if not re.match(r"# @(title|markdown) \S|$", line):
            name, value, kind = re.fullmatch(r"(\w+) = (.*?)  # @param (.+)", line).groups()
            found[name] = (ast.literal_eval(value), ast.literal_eval(kind.replace("{type:", '{"type":')))
    return found


def test_the_form_is_one_that_colab_draws_and_papermill_fills():
    """Colab writes strings in quotes and leaves raw fields as typed; a choice has to be among its options."""
    form = fields(code_cells(FOLDER / f"{DAYS[0]}.ipynb")[1].source)
    assert {name: value for name, (value, _) in form.items()} == {
        "profile": "", "pick": "", "data": "", "root": "", "seed": 0,
    }  # fmt: skip
    assert form["profile"][1] == ["", *PROFILES]
    assert [form[name][1]["type"] for name in ("pick", "data", "root", "seed")] == ["string"] * 3 + ["integer"]


def test_only_an_address_that_the_project_has_is_named():
    """Nobody here owns a name at a host yet: no badge and no clone may lead to what somebody else puts there."""
    cells = {day: nbformat.read(FOLDER / f"{day}.ipynb", as_version=4).cells for day in DAYS}
    address = re.search(r'^REPOSITORY = "(.*)"', cells[DAYS[0]][1].source, re.MULTILINE)[1].removesuffix(".git")
    opens = (
        f"https://colab.research.google.com/github/{address.removeprefix('https://github.com/')}/blob/main/notebooks"
    )
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    texts = {"README": readme, **{day: each[0].source for day, each in cells.items()}}
    for day, text in texts.items():
        links = re.findall(r"https://colab\.research\.google\.com/github/[^)]*", text)
        assert links == ([f"{opens}/{day}.ipynb"] if address and day in DAYS else []), day
        assert address or "`MyDrive/sepkit`" in text
        assert not re.search(r"github\.com/sepkit", text.replace(address or "-", "-"))


def wrong_calls(tree: ast.AST) -> list[str]:
    """Names of sepkit that don't exist, and calls whose arguments its functions don't take."""
    known, wrong = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "sepkit":
                    known[alias.asname or "sepkit"] = importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "sepkit":
            for alias in node.names:
                try:
                    exec(f"from {node.module} import {alias.name} as it", found := {})
                    known[alias.asname or alias.name] = found["it"]
                except ImportError as error:
                    wrong.append(str(error))

    def value(node):
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute) and inspect.ismodule(holder := value(node.value)):
            if not hasattr(holder, node.attr):
                wrong.append(f"{holder.__name__} has no {node.attr}")
            return getattr(holder, node.attr, None)
        return None

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value(node)
        if isinstance(node, ast.Call) and (function := value(node.func)) is not None:
            given = [each for each in node.args if not isinstance(each, ast.Starred)]
            named = {each.arg: each for each in node.keywords if each.arg}
            signature = inspect.signature(function)
            whole = len(given) + len(named) == len(node.args) + len(node.keywords)
            try:
                (signature.bind if whole else signature.bind_partial)(*given, **named)
            except TypeError as error:
                wrong.append(f"{ast.unparse(node.func)}: {error}")
    return list(dict.fromkeys(wrong))


@pytest.mark.parametrize("name", [*DAYS, OWN])
def test_every_cell_compiles_and_calls_what_exists(name):
    path = FOLDER / f"{name}.ipynb"
    tree = ast.parse("\n\n".join(cell.source for cell in code_cells(path)))
    assert wrong_calls(tree) == []


def test_a_call_of_what_does_not_exist_is_found():
    source = "import sepkit\nfrom sepkit import notebook\nfrom sepkit.dsp import STTF\n"
    source += "sepkit.train('Base', **where)\nsepkit.train('Base', epoch=3)\nsepkit.score()\nnotebook.begin()\n"
    assert [text.split(" (")[0] for text in wrong_calls(ast.parse(source))] == [
        "cannot import name 'STTF' from 'sepkit.dsp'",
        "sepkit.train: got an unexpected keyword argument 'epoch'",
        "sepkit has no score",
        "notebook.begin: missing a required argument: 'number'",
    ]
