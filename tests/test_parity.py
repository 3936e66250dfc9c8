"""Every test that docs/reference-parity.md names exists, and every row names one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference-parity.md").read_text("utf-8")


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """The first cell of each row of the page's tables, and the tests in its last (file, name)."""
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or cells[0] == "reference" or set(cells[0]) <= set("-: "):
            continue
        found.append((cells[0], re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells[2])))
    return found


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("row", "tests"), rows(), ids=[row for row, _ in rows()])
def test_a_row_is_proven(row: str, tests: list[tuple[str, str]]) -> None:
    assert tests, "no test"
    for path, name in tests:
        assert name.startswith("test_")
        assert (ROOT / path).is_file(), path
        assert name in functions(path), f"{path} has no {name}"


def test_no_test_is_named_outside_a_row() -> None:
    assert PAGE.count("::") == sum(len(tests) for _, tests in rows())
    assert len(rows()) > 30, "the page was read"
