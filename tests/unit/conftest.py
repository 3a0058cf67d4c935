"""The unit tier is what cannot start or join Ray: its two doors are shut."""

import pytest
import ray

from mlsys import cluster
from mlsys.cluster import head


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """A unit that reaches for a cluster fails at once instead of starting one."""

    def refuse(*args, **kwargs):
        message = "a unit test may not start or join Ray; tests that need it belong in tests/cluster"
        raise RuntimeError(message)

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(cluster, "up", refuse)
    monkeypatch.setattr(head, "up", refuse)
