"""What counts as the code of a step: what its function imports, without words that do not run."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from mlsys import errors
from mlsys.code_graph import LIBRARIES, CodeGraph, code_digest
from mlsys.store import Store

FILES = {
    "__init__.py": "",
    "steps.py": '''
        """Two steps."""
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from toy import low
        if TYPE_CHECKING:
            from toy import plugin
        ROWS = 10
        def first(table: plugin.Table):
            """The first."""
            from toy.high import work
            return work(table, _limit())
        def _limit():
            return ROWS  # at most
        def second(table):
            return low.less(table)
        def third():
            return registry()
        def registry():
            from toy import families
            return families
    ''',
    "low.py": "def less(x):\n    return x - 1\n",
    "high.py": "import numpy as np\nfrom toy.low import less\ndef work(x, n):\n    return np.add(less(x), n)\n",
    "families.py": 'NAMES = {"plugin": "toy.plugin"}\nFOLDER = "toy.parts.*"\n',
    "parts/__init__.py": "",
    "parts/part.py": "size = 5\n",
    "plugin.py": "class Table:\n    size = 3\n",
}


@pytest.fixture
def package(tmp_path):
    """A package of two steps; `edit(file, before, after)` changes it and returns which entries' digests changed."""
    import textwrap

    root = tmp_path / "toy"
    (root / "parts").mkdir(parents=True)
    for name, text in FILES.items():
        (root / name).write_text(textwrap.dedent(text))

    def digests():
        graph = CodeGraph.parse(root)
        return {entry: graph.digest(f"toy.steps:{entry}") for entry in ("first", "second", "third")}

    def edit(file, before, after):
        old, text = digests(), (root / file).read_text()
        assert before in text
        (root / file).write_text(text.replace(before, after))
        return {entry for entry, digest in digests().items() if digest != old[entry]}

    return edit


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("steps.py", "The first.", "The first of two."),
        ("steps.py", "  # at most", ""),
        ("steps.py", '"""Two steps."""', ""),
        ("low.py", "x - 1", "(x\n            - 1)"),
        ("steps.py", "from toy import plugin", "from toy import families"),  # for type checkers alone
        ("__init__.py", "", "VERSION = 2\n"),  # nobody reads it
    ],
)
def test_what_does_not_run_counts_for_nothing(package, file, before, after):
    assert package(file, before, after) == set()


@pytest.mark.parametrize(
    ("file", "before", "after", "steps"),
    [
        ("low.py", "x - 1", "x - 2", {"first", "second"}),  # a number, two imports away
        ("high.py", "np.add", "np.subtract", {"first"}),  # imported when the function runs
        ("steps.py", "ROWS = 10", "ROWS = 11", {"first"}),  # a constant of a function that it calls
        ("steps.py", "return low.less(table)", "return -low.less(table)", {"second"}),
        ("plugin.py", "size = 3", "size = 4", {"third"}),  # imported later, by the name that a registry holds
        ("parts/part.py", "size = 5", "size = 6", {"third"}),  # likewise, by the name of its folder
    ],
)
def test_a_change_counts_for_the_steps_that_import_it(package, file, before, after, steps):
    assert package(file, before, after) == steps


def test_the_version_of_a_library_counts_where_it_is_imported(package, monkeypatch, tmp_path):
    graph = CodeGraph.parse(tmp_path / "toy")
    before = {entry: graph.digest(f"toy.steps:{entry}") for entry in ("first", "second")}
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 0")
    assert graph.digest("toy.steps:first") != before["first"]
    assert graph.digest("toy.steps:second") == before["second"]


def test_an_entry_that_is_not_there_is_an_error_of_ours(package, tmp_path):
    graph = CodeGraph.parse(tmp_path / "toy")
    for entry in ("toy.nothing", "toy.steps:nothing"):
        with pytest.raises(errors.StoreError):
            graph.digest(entry)


def test_the_store_keeps_what_was_parsed_until_a_file_changes(tmp_path, monkeypatch):
    root = tmp_path / "toy"
    root.mkdir()
    (root / "one.py").write_text("X = 1\n")
    store = Store.open(tmp_path / "store")
    graph = CodeGraph.load(store, root)
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", None)
        assert CodeGraph.load(store, root) == graph
    (root / "one.py").write_text("X = 2\n")
    assert CodeGraph.load(store, root).digest("toy.one") != graph.digest("toy.one")


def test_files_beside_a_module_that_reads_them_are_its_code(tmp_path):
    root = Path(errors.__file__).parent
    copy = tmp_path / "mlsys"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = CodeGraph.parse(copy)
    assert before.digest("mlsys.reports.page") == CodeGraph.parse(root).digest("mlsys.reports.page")
    style = copy / "reports" / "page.css"
    style.write_text(style.read_text() + "p { color: red }\n")
    assert CodeGraph.parse(copy).digest("mlsys.reports.page") != before.digest("mlsys.reports.page")


def test_the_readers_of_rows_do_not_reach_what_learns_from_them(tmp_path):
    graph = CodeGraph.parse(Path(errors.__file__).parent)
    reached = graph.reached({"mlsys.collect.pipeline"})
    assert {"mlsys.readers.csv", "mlsys.collect.contract", "pyarrow"} <= reached
    beyond = ("cli", "cluster", "console", "deploy", "errors", "explore", "models", "monitor", "train", "workflow")
    assert not {name for name in reached if name.split(".")[1:2] and name.split(".")[1] in beyond}
    assert code_digest(Store.open(tmp_path), "mlsys.collect.pipeline") == graph.digest("mlsys.collect.pipeline")


def test_every_library_that_counts_is_imported_somewhere():
    graph = CodeGraph.parse(Path(errors.__file__).parent)
    imported = set().union(*(module.imports for module in graph.modules.values()))
    assert set(LIBRARIES) <= imported
