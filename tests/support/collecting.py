"""Fixtures of tests that collect a small source into a store of their own."""

import pytest

from mlsys.collect import snapshot
from mlsys.recipe import DataSection
from mlsys.store import Store

__all__ = ["store", "take", "write"]


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


@pytest.fixture
def take(store, tmp_path):
    """Collect a source into the run folder ``run``, with keys of ``data`` by name."""

    def run(source, target="y", into=None, **data):
        return snapshot.take(
            into or store, DataSection(source=str(source), **data), target=target, folder=tmp_path / "run"
        )

    return run


@pytest.fixture
def write(tmp_path):
    """Write a file below the test's folder and return its path."""

    def run(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return run
