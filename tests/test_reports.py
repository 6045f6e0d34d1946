"""docs/reports.md: no report is missing, and the tests that it names are there."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| S(\d\d) \|(.*)\|$", (PROJECT / "docs" / "reports.md").read_text(encoding="utf-8"), re.MULTILINE)
NODES = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_report_has_its_row():
    assert [int(number) for number, _ in ROWS] == list(range(1, 91))
    assert [number for number, row in ROWS if not NODES.search(row)] == []


def test_every_test_that_is_named_exists():
    named = {node for _, row in ROWS for node in NODES.findall(row)}
    there = set()
    for file in {file for file, _ in named}:
        for node in ast.parse((PROJECT / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                there.add((file, node.name))
    assert named - there == set()
