"""What holds for every tier: their order, their store, and what chance may do.

Tiers are folders, from the quickest to the slowest: a broken unit is reported before a
cluster has been started for a test that would fail of the same cause.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

TIERS = ("unit", "contracts", "golden", "repo", "cluster", "e2e")
HERE = Path(__file__).parent

# The same examples on every machine and on every run: a red build means a changed project. To look for new
# counter-examples: HYPOTHESIS_PROFILE=search. A slow machine fails no test, so there are no deadlines.
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def tier(path: Path) -> str:
    """Tier of a test file; the examples in docstrings of the package count as units."""
    return path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else "unit"


def pytest_collection_modifyitems(items):
    """Quick tiers first; within a tier the order stays."""
    items.sort(key=lambda item: TIERS.index(tier(item.path)))


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    """Tests never see the store of the person who runs them, nor a cluster that happens to be up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSYS_STORE", str(tmp_path_factory.mktemp("store")))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
