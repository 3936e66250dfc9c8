"""The house keeps its order: what import-linter cannot say of it."""

from __future__ import annotations

import ast
import gc
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.merging.rules.plans import Action

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "reports", "tasks", "deployments")


def modules(folder: Path = ROOT) -> dict[str, Path]:
    """Dotted name to file, of the product's modules."""
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts): path
        for package in PACKAGES
        for path in sorted((folder / package).rglob("*.py"))
    }


def parsed(source: str) -> ast.Module:
    """A module's tree.

    What the collector runs in the middle of it, other tests' forgotten tasks, upsets the depth that
    Python's parser counts ("AST constructor recursion depth mismatch", CPython issue 106905).
    """
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


def imports_of(path: Path, *, running: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Module and names of each ``from ... import`` of a file; only those that run at import."""
    tree = parsed(path.read_text("utf-8"))
    nodes = tree.body if running else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def targets(path: Path, known: dict[str, Path], *, running: bool = False) -> set[str]:
    """The product's modules that a file imports."""
    found = set()
    for module, names in imports_of(path, running=running):
        found |= {f"{module}.{name}" for name in names if f"{module}.{name}" in known}
        found |= {module} & known.keys()
    return found


def stage_files() -> set[str]:
    """The files of the scan's own wing whose verb ``flows/order.py`` runs."""
    return {
        module
        for module, _ in imports_of(ROOT / "flows" / "order.py")
        if module.startswith("tasks.scan.")
    }


def test_a_stage_imports_no_other_stage():
    """So that none can lean on one that runs after it; what two share is below both."""
    stages, known = stage_files(), modules()
    assert len(stages) >= 7
    leaning = {
        name: sorted(targets(known[name], known) & (stages - {name}))
        for name in stages
        if targets(known[name], known) & (stages - {name})
    }
    assert leaning == {}


def test_the_scan_wing_holds_stages_and_nothing_else():
    files = {name for name in modules() if name.startswith("tasks.scan.")}
    assert files - {"tasks.scan.__init__"} == stage_files()


def test_few_files_lie_directly_in_tasks():
    assert len(list((ROOT / "tasks").glob("*.py"))) <= 12


def test_the_formatter_wins():
    here = [*modules().values(), *(ROOT / "tests").rglob("*.py")]
    mark = "fmt: " + "skip"
    assert [str(path) for path in here if mark in path.read_text("utf-8")] == []


def test_no_private_name_is_imported_across_files():
    private = [
        f"{name} takes {wanted} from {module}"
        for name, path in modules().items()
        for module, names in imports_of(path)
        for wanted in names
        if module.split(".")[0] in PACKAGES and wanted.startswith("_")
    ]
    assert private == []


def test_no_two_modules_import_one_another():
    """Not even for their types: a circle is one room with two doors."""
    known = modules()
    arrows = {name: targets(path, known) for name, path in known.items()}
    circles = [
        (one, other)
        for one, others in arrows.items()
        for other in others
        if one < other and one in arrows[other]
    ]
    assert circles == []


@pytest.mark.parametrize("room", ["catalog", "dedup", "delivery", "embedding", "search", "sources"])
def test_rooms_do_not_import_one_another(room):
    known = modules()
    rooms = {"catalog", "dedup", "delivery", "embedding", "search", "sources"} - {room}
    wrong = [
        (name, target)
        for name, path in known.items()
        if name.startswith(f"tasks.{room}.")
        for target in targets(path, known)
        if target.split(".")[1] in rooms
    ]
    assert wrong == []


def test_every_merge_action_has_its_words():
    """An action without words would stop every mail and page that names it."""
    words = json.loads((ROOT / "reports" / "texts" / "en.json").read_text("utf-8"))
    for action in Action:
        assert {f"press.{action.value}", f"line.{action.value}"} <= words.keys(), action


def test_a_wheel_holds_every_package():
    """Installed from a clone, a folder that is not named still imports: only a wheel lacks it."""
    told = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    tops = {name.partition(".")[0] for name in told}
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in tops
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert told == there


def test_decisions_are_numbered_as_their_files():
    """Who writes "ADR 14" means one of them."""
    files = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in files]
    assert numbers == list(range(1, len(files) + 1))
    for number, path in zip(numbers, files, strict=True):
        assert path.read_text("utf-8").startswith(f"# {number}. "), path.name


def test_no_process_is_forked():
    """A fork copies the locks that other threads hold, and then waits for them for ever."""
    pools = [
        (name, call)
        for name, path in modules().items()
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", ""))
        in ("ProcessPoolExecutor", "Pool")
    ]
    assert pools
    for name, call in pools:
        contexts = [word.value for word in call.keywords if word.arg == "mp_context"]
        assert [ast.unparse(context) for context in contexts] == ["get_context('spawn')"], name


def test_the_tables_of_what_a_merge_keeps_name_tests_that_there_are():
    """Every row names its tests, or says that there is none; at most four say so."""
    page = (ROOT / "docs" / "merging.md").read_text("utf-8")
    known = {
        f"{path.name}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    untested = 0
    for head in ("| property | what", "| metadata | what"):
        rows = page[page.index(head) :].split("\n\n")[0].splitlines()[2:]
        assert len(rows) > 12
        for row in rows:
            last = row.rstrip("| ").rpartition("| ")[2]
            named = re.findall(r"`([\w.:]+)`", last)
            assert named or last == "none", f"no test: {row}"
            assert known.issuperset(named), row
            untested += not named
    assert untested <= 4, "owner, SSE-C, CRCs and what the store alone decides"
