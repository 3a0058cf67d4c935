"""A bundle of the world in `tests/support/traffic.py`, and a folder for its log."""

import pytest

from mlsys.store import Store
from traffic import World, fit


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Store and bundle, made once."""
    store = Store.open(tmp_path_factory.mktemp("world"))
    return store, fit(store)


@pytest.fixture
def world(made, tmp_path):
    # ROC AUC of the true probabilities, from a million rows drawn once: 0.8206.
    baseline = {"metrics": {"roc_auc": {"value": 0.8206, "low": 0.8126, "high": 0.8286, "error": 0.004}}}
    return World(*made, tmp_path / "log", baseline)
