import re
import subprocess

import pytest
import typer

from mlsys import cli
from readme import ROOT, blocks, tables

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").is_file() else ""
BLOCKS = blocks(README)


def test_there_is_a_readme_with_commands():
    assert [block for block in BLOCKS if block.runs]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_whether_it_is_run_or_what_it_needs(block):
    assert block.runs or block.reason


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_shell(block):
    checked = subprocess.run(["bash", "-n"], input=block.script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_names_verbs_targets_and_files_that_exist(block, tracked):
    verbs = set(re.findall(r"(?:^|[;&|(] *)mlsys ([a-z]+)", block.script, re.MULTILINE))
    assert verbs <= set(typer.main.get_command(cli.app).commands)
    targets = set(re.findall(r"^make ([a-z]+)", block.script, re.MULTILINE))
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    files = set(re.findall(r"(?:jobs|serve_configs|benchmarks)/[\w/.-]+\.\w+", block.script))
    assert files <= {path.as_posix() for path in tracked}


def test_continuous_integration_runs_the_test_command_of_the_readme():
    assert any("make test" in block.script for block in BLOCKS)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_to_files_of_the_repository_lead_somewhere():
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


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
    first, second = blocks(SAMPLE)
    assert (first.line, first.language, first.script, first.runs, first.reason) == (
        3,
        "bash",
        "mlsys down\n",
        True,
        None,
    )
    assert (second.line, second.script, second.runs) == (9, "kubectl get pods\n", False)
    assert second.reason == "kubernetes"


def test_tables_are_found_with_their_cells():
    assert tables(SAMPLE) == [[["dependency", "what for"], ["ray", "the \\| cluster"]]]
