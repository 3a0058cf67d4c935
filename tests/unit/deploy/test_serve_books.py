"""Serve's books through its own classes: those of a replica that was never started."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from ray.serve._private.common import DeploymentID
from ray.serve._private.http_util import RequestIdMiddleware
from ray.serve._private.replica import Replica, ReplicaMetricsManager
from ray.serve._private.utils import Semaphore

from mlsys.deploy.serve_books import ServeBooks


class Recorded:
    """What is told to the functions of a replica that count requests."""

    def __init__(self):
        self.told = []

    def record_request_metrics(self, **facts):
        self.told.append(facts)

    def record_ingress_request_metrics(self, **facts):
        self.told.append(facts)


@pytest.fixture
def replica():
    made = object.__new__(Replica)
    made._route_prefix = "/late"
    made._deployment_id = DeploymentID("Model", "late")
    made._metrics_manager = Recorded()
    made._semaphore = Semaphore(lambda: 2)
    return made


@pytest.fixture
def books(replica, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ray.serve"), "level", logging.WARNING)
    logging.getLogger("ray.serve").manager._clear_cache()
    yield ServeBooks.of(RequestIdMiddleware(replica._direct_ingress_asgi))
    logging.getLogger("ray.serve").manager._clear_cache()


def test_a_place_is_free_until_all_are_taken(books, replica):
    async def taken(count):
        for _ in range(count):
            await replica._semaphore.acquire()
        return books.is_free()

    assert asyncio.run(taken(1))
    assert not asyncio.run(taken(1))


def test_a_replica_that_logs_its_requests_logs_all(books):
    assert books.is_free()
    logging.getLogger("ray.serve").setLevel(logging.INFO)
    assert not books.is_free()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def test_a_request_is_counted_as_serve_itself_counts_it(books, replica):
    """The arguments are those of Serve's own wrapper around a request that was answered with 200."""
    books.record(1.5)
    ours, replica._metrics_manager.told = replica._metrics_manager.told, []
    metadata = SimpleNamespace(
        route="/late", _http_method="POST", call_method="__call__", request_id="a", _client="",
        is_direct_ingress=True, is_grpc_request=False, is_http_request=True,
    )  # fmt: skip
    replica._access_log_context, replica._ingress = {}, True
    replica._record_errors_and_metrics(None, "200", 1.5, metadata)
    assert replica._metrics_manager.told == ours
    for name in ("record_request_metrics", "record_ingress_request_metrics"):
        assert callable(getattr(ReplicaMetricsManager, name))


def test_another_app_has_no_books(replica):
    async def app(scope, receive, send):
        pass

    assert ServeBooks.of(app) is None
    assert ServeBooks.of(RequestIdMiddleware(app)) is None
    assert ServeBooks.of(replica._direct_ingress_asgi) is None
