"""The house: imports point to earlier rooms only, and no module or function is long.

`python tests/test_house.py` prints the import graph.
"""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sepkit"
ROOMS = (
    "errors", "dsp", "parallel", "devices", "profiles", "models", "storage", "experiments", "data", "training",
    "evaluation", "reporting", "__init__", "commands", "notebook", "__main__",
)  # fmt: skip
APART = {
    "training": {"evaluation"},
    "evaluation": {"training"},
    "reporting": {"models", "training", "lightning"},
}  # neither names the other, though one of them comes first
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The room of `sepkit.room.module`; other packages stand for themselves.

    >>> room_of("sepkit.data.demo.songs"), room_of("sepkit"), room_of("torch.nn")
    ('data', '__init__', 'torch')
    """
    parts = module.split(".")
    return (parts[1] if len(parts) > 1 else "__init__") if parts[0] == "sepkit" else parts[0]


def imports(source: str) -> list[str]:
    """The modules that a source imports, those inside functions included.

    >>> imports("from sepkit import dsp, train\\ndef f():\\n    import sepkit.models.mask as m")
    ['sepkit.dsp', 'sepkit', 'sepkit.models.mask']
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            inside = node.module == "sepkit"
            names = [alias.name for alias in node.names]
            found += [f"sepkit.{name}" if name in ROOMS else "sepkit" for name in names] if inside else [node.module]
    return found


@cache
def graph() -> dict[str, dict[str, list[str]]]:
    """For each room the rooms and packages that it imports, with the modules that do so."""
    arrows: dict[str, dict[str, list[str]]] = {room: defaultdict(list) for room in ROOMS}
    for path in MODULES:
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0].removesuffix(".py")
        for module in imports(path.read_text(encoding="utf-8")):
            arrows[room][room_of(module)].append(str(relative))
    return arrows


def as_text(arrows: dict[str, dict[str, list[str]]]) -> str:
    lines = [f"{room:12} <- {', '.join(r for r in ROOMS if r in arrows[room] and r != room)}" for room in ROOMS]
    return "\n".join(lines)


def test_every_file_is_in_a_room_of_the_list():
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_earlier_rooms(room):
    arrows = graph()
    print(as_text(arrows))
    later = {*ROOMS[ROOMS.index(room) + 1 :], *APART.get(room, ())}
    assert {name: files for name, files in arrows[room].items() if name in later} == {}


def test_audio_goes_through_soundfile():
    """S43: newer versions of torchaudio read no file without another package."""
    users = {package for room in graph().values() for package in room}
    assert "soundfile" in users
    assert not users & {"torchaudio", "audioread", "torchcodec"}


def n_lines() -> dict[str, int]:
    return {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}


def test_no_module_is_over_300_lines():
    assert {name: count for name, count in n_lines().items() if count > 300} == {}


def test_the_package_is_under_16100_lines():
    assert sum(n_lines().values()) < 16100


def test_no_function_is_over_60_lines():
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = node.end_lineno - node.lineno + 1
                if count > 60:
                    long[f"{path.relative_to(PACKAGE)}: {node.name}"] = count
    assert long == {}


if __name__ == "__main__":
    print(as_text(graph()))
    print(f"{sum(n_lines().values())} lines")
