"""When a step runs again: exactly when code that it imports changed."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import mlsys
from mlsys.code_graph import CodeGraph
from mlsys.workflow import STEPS

COLLECT, EXPLORE, SELECTION, TUNE = {"collect"}, {"explore"}, {"selection"}, {"tune"}
EVALUATE, MONITOR = {"evaluate"}, {"monitor"}
FITS = SELECTION | TUNE | {"train"}

KEYED = {name for name in STEPS if name != "deploy"}  # which is done each time

CHANGES = {
    "mlsys.workflow.data": COLLECT,
    "mlsys.collect.assignment": COLLECT,
    "mlsys.readers.csv": COLLECT | MONITOR,  # which reads labels
    "mlsys.explore.leakage": EXPLORE,
    "mlsys.selection.leaderboard": SELECTION,
    "mlsys.tune": TUNE,
    "mlsys.models.families.linear": FITS | EVALUATE | MONITOR,
    "mlsys.evaluate.slices": EVALUATE,
    "mlsys.monitor.drift": MONITOR,
    "mlsys.console": set(),
    "mlsys.cli.endings": set(),
    "mlsys.errors": set(),
    "mlsys.workflow.run": set(),
}
"""Modules in which a number changes, and the steps that import them."""


def code(root):
    graph = CodeGraph.parse(root)
    return {name: graph.digest(f"{STEPS[name].work.__module__}:{STEPS[name].work.__name__}") for name in KEYED}


def one_more(text):
    """The source with its last number that stands in a function or a constant, one larger."""
    numbers = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and type(node.value) is int]
    last = max(numbers, key=lambda node: (node.lineno, node.col_offset))
    lines = text.splitlines(keepends=True)
    line = lines[last.lineno - 1].encode()
    number = str(last.value + 1).encode()
    lines[last.lineno - 1] = (line[: last.col_offset] + number + line[last.end_col_offset :]).decode()
    return "".join(lines)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package."""
    root = tmp_path_factory.mktemp("copy") / "mlsys"
    shutil.copytree(Path(mlsys.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def original(package):
    return code(package)


def test_comments_and_docstrings_run_nothing_again(package):
    before = code(package)
    texts = {file: file.read_text() for file in package.rglob("*.py")}
    for file, text in texts.items():
        file.write_text(text.replace('"""', '"""Truly: ', 1) + "\n# The end.\n")
    assert code(package) == before
    for file, text in texts.items():
        file.write_text(text)


@pytest.mark.parametrize("module", CHANGES)
def test_a_number_runs_the_steps_again_that_import_its_module(package, original, module):
    path = package.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = file.read_text()
    file.write_text(one_more(text))
    changed = code(package)
    file.write_text(text)
    assert {name for name in KEYED if changed[name] != original[name]} == CHANGES[module]
