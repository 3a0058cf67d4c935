"""What people read runs, parses, names what exists, and is as short as promised."""

import doctest
import json
import re
import subprocess

import pytest
import typer
import yaml

from mlsys import cli, expressions
from mlsys.collect import contract
from mlsys.evaluate.metrics import METRICS
from mlsys.models import FAMILIES
from mlsys.readers.registry import READERS
from mlsys.recipe import parse
from pages import LANGUAGES, ROOT, all_blocks, blocks, names_in, paths, places, tables

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths() if path.is_file()}
BLOCKS = all_blocks()
SHELL = [block for block in BLOCKS if block.is_shell]
PYTHON = sorted({block.page for block in BLOCKS if block.language == "python"})


def of(language):
    return [block for block in BLOCKS if block.language == language]


def test_the_readme_is_short():
    text = PAGES["README.md"]
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1_200


def test_the_guide_for_contributors_is_one_page():
    assert len(PAGES["CONTRIBUTING.md"].splitlines()) <= 120


def test_every_page_is_reached_from_the_readme():
    assert {name for name in PAGES if name.startswith("docs/")} <= set(re.findall(r"\]\(([^)#]+)", PAGES["README.md"]))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_in_a_language_that_the_tests_know(block):
    assert block.language in LANGUAGES


def test_there_are_commands_that_run():
    assert [block for block in BLOCKS if block.runs]


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_block_says_whether_it_is_run_or_what_it_needs(block):
    assert block.runs or block.reason


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_block_is_shell(block):
    checked = subprocess.run(["bash", "-n"], input=block.script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_block_names_verbs_targets_and_files_that_exist(block, tracked):
    verbs = set(re.findall(r"(?:^|[;&|(] *)mlsys ([a-z]+)", block.script, re.MULTILINE))
    assert verbs <= set(typer.main.get_command(cli.app).commands)
    targets = set(re.findall(r"^make ([a-z]+)", block.script, re.MULTILINE))
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    files = set(re.findall(r"(?:jobs|serve_configs|benchmarks)/[\w/.-]+\.\w+", block.script))
    assert files <= {path.as_posix() for path in tracked}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder from which the recipes of the repository are seen, with a store of its own."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "jobs").symlink_to(ROOT / "jobs")
    return folder


@pytest.fixture
def registries():
    """What a page registers is gone after it."""
    yield
    for parts in (FAMILIES, METRICS, READERS):
        for name in set(parts) - set(parts.built_in):
            parts.unregister(name)


@pytest.mark.parametrize("page", PYTHON)
@pytest.mark.usefixtures("registries")
def test_the_python_of_a_page_prints_what_it_says(page, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLSYS_STORE", str(place / ".mlsys"))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner, said = doctest.DocTestRunner(optionflags=options), []
    names = {}
    for block in of("python"):
        if block.page == page:
            example = doctest.DocTestParser().get_doctest(block.text, names, str(block), page, block.line)
            assert example.examples, f"{block}: no example after >>>"
            runner.run(example, out=said.append, clear_globs=False)
            names = example.globs
    assert runner.failures == 0, "".join(said)


REQUIRED = {"name": "page", "target": "y", "data": {"source": "table.csv"}}


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_part_of_a_recipe_or_of_a_contract(block, tmp_path):
    tree = yaml.load(block.text, yaml.BaseLoader)
    if block.info == "contract":
        (tmp_path / "contract.yaml").write_text(block.text)
        contract.load(str(tmp_path / "contract.yaml"))
        return
    assert block.info == ""
    missing = {key: value for key, value in REQUIRED.items() if key not in tree}
    text = block.text + "".join(f"\n{key}: {json.dumps(value)}" for key, value in missing.items())
    recipe = parse(text)
    for name, sql in {**recipe.data.derive, **recipe.features.derive}.items():
        expressions.parse(name, sql)


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_parses(block):
    json.loads(block.text)


def test_continuous_integration_runs_the_test_command_of_the_pages():
    assert any("make test" in block.script for block in SHELL)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_of_the_repository_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", PAGES[page])
    folder = (ROOT / page).parent
    for link in links:
        target, _, anchor = link.partition("#")
        assert (folder / target).exists(), link
        if anchor:
            text = (folder / target).read_text() if target else PAGES[page]
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_that_a_page_names_exist(page):
    names = set(re.findall(r"`((?:mlsys|tests|jobs|benchmarks|serve_configs|docs)/[\w/.-]*\w)`", PAGES[page]))
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("path", "name"), sorted({place for text in PAGES.values() for place in places(text)}))
def test_a_name_that_a_page_gives_for_a_file_is_in_it(path, name):
    assert name in names_in(ROOT / path)


# The parser itself

SAMPLE = """\
Text.

```bash run
mlsys down
```

1. In a list:

   ```console needs=kubernetes
   $ kubectl get pods
   NAME  READY
   ```

```yaml
name: demo
```

| dependency | what for |
|---|---|
| ray | the \\| cluster |
"""


def test_blocks_are_found_with_their_kind_and_line():
    first, second, third = blocks(SAMPLE)
    assert (first.line, first.language, first.script, first.runs, first.reason) == (
        3,
        "bash",
        "mlsys down\n",
        True,
        None,
    )
    assert (second.line, second.script, second.runs) == (9, "kubectl get pods\n", False)
    assert second.reason == "kubernetes"
    assert (third.language, third.is_shell, third.runs) == ("yaml", False, False)


def test_tables_are_found_with_their_cells():
    assert tables(SAMPLE) == [[["dependency", "what for"], ["ray", "the \\| cluster"]]]


def test_places_are_found_with_all_their_names():
    text = "see `mlsys/a.py` `B.c`, `d` and `mlsys/e.py`; `f`"
    assert places(text) == [("mlsys/a.py", "B.c"), ("mlsys/a.py", "d")]
