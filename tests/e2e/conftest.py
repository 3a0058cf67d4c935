"""The end-to-end tier: the commands that people type, as processes of their own."""

import subprocess
from pathlib import Path

import pytest

from shell import shell

ROOT = Path(__file__).parents[2]
LIMIT_S = 900


def pytest_collection_modifyitems(items):
    """A whole workflow on a busy machine takes longer than any other test may hang."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="module")
def store_root(tmp_path_factory):
    """An empty store for the commands of one file; the cluster that they leave behind is ended."""
    root = tmp_path_factory.mktemp("e2e")
    yield root
    _command(["mlsys", "down"], root)


@pytest.fixture(scope="module")
def command(store_root):
    """Run a command of the README in the repository; its output is shown if it does not end with `expect`."""

    def run(*words, expect=0, **options):
        done = _command([str(word) for word in words], store_root, **options)
        assert done.returncode == expect, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def _command(words, root, *, cwd=ROOT, timeout=LIMIT_S):
    return subprocess.run(
        words, cwd=cwd, env=shell(MLSYS_STORE=str(root)), capture_output=True, text=True, timeout=timeout, check=False
    )
