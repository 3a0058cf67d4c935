"""The cluster tier: one Ray of two CPUs for the whole session, started as users start it."""

import os

import pytest

import faulty
import object_store
from mlsys import cluster
from mlsys.deploy import serving
from mlsys.recipe.names import GATEWAY
from mlsys.store import Store


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory):
    """A store with its own running cluster, token and loopback dashboard; both end with the session.

    Its processes know the address of an object store and a family whose models fail, which they have from the
    environment in which it was started.
    """
    before = dict(os.environ)  # what `connect` sets, among it the token, is for this tier alone
    store = Store.open(tmp_path_factory.mktemp("cluster"))
    try:
        with object_store.running(), faulty.installed(tmp_path_factory.mktemp("package")):
            cluster.up(store, num_cpus=2)
            cluster.connect(store)
            yield store
            cluster.down(store)
    finally:
        cluster.down(store)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def endpoints(store):
    """What a module serves ends with it; Serve and the gateway, whose start takes longer, go on for the next one."""
    from ray import serve

    yield
    for name in serve.status().applications.keys() - {GATEWAY}:
        serving.stop(store, name)
