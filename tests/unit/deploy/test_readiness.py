"""When a version counts as taken by all replicas of an endpoint, and when not."""

from types import SimpleNamespace

import pytest

from mlsys import errors
from mlsys.deploy import readiness

ROOT, OLD, NEW = "http://127.0.0.1:1", "a" * 64, "b" * 64


class Client:
    """What is asked of Serve's client: the state of an application."""

    def __init__(self, status="RUNNING"):
        self._status = status

    def get_serve_status(self, name):
        return SimpleNamespace(app_status=SimpleNamespace(status=self._status, message=""))


def ready(digest, **more):
    return {"status": "ready", "model": {"name": "late", "version": 1, "digest": digest}, **more}


@pytest.fixture
def answers(monkeypatch):
    """What each address says, one after another, the last for ever; replicas are those with a port of their own."""
    said = {}
    monkeypatch.setattr(readiness, "get", lambda url, *_: said[url][0] if len(said[url]) == 1 else said[url].pop(0))
    monkeypatch.setattr(
        readiness,
        "replicas",
        lambda *_: [url.removesuffix("/ready") for url in said if not url.startswith(ROOT + "/")],
    )
    monkeypatch.setattr(readiness, "POLL_S", 0.0)
    monkeypatch.setattr(readiness, "TAKEN_S", 0.05)
    return said


def taken(status="RUNNING"):
    return readiness.has_taken(Client(status), ROOT, "late", NEW, answers=2)


def test_all_replicas_have_to_answer_with_the_version(answers):
    answers[f"{ROOT}/late/ready"] = [ready(OLD), ready(NEW), ready(OLD), ready(NEW)]
    answers["http://127.0.0.1:7/late/ready"] = [ready(OLD), ready(NEW)]
    assert taken()
    answers["http://127.0.0.1:8/late/ready"] = [ready(OLD)]
    assert not taken()


def test_a_replica_that_is_gone_or_out_of_reach_holds_up_nothing(answers):
    answers[f"{ROOT}/late/ready"] = [ready(NEW)]
    answers["http://10.0.0.1:7/late/ready"] = ["URLError: <urlopen error timed out>"]
    assert taken()
    answers["http://10.0.0.1:8/late/ready"] = ["HTTPError: HTTP Error 503: Service Unavailable"]
    assert not taken()


def test_a_replica_that_cannot_load_the_version_ends_the_wait(answers):
    answers[f"{ROOT}/late/ready"] = [ready(OLD, refused={"digest": NEW, "error": "BundleError"})]
    with pytest.raises(errors.ClusterError, match="a replica cannot load it: BundleError"):
        taken()


def test_a_version_that_was_refused_before_holds_up_no_other(answers):
    answers[f"{ROOT}/late/ready"] = [ready(NEW, refused={"digest": OLD, "error": "BundleError"})]
    assert taken()


def test_an_application_that_does_not_run_takes_nothing_from_the_ledger(answers):
    answers[f"{ROOT}/late/ready"] = [ready(NEW)]
    assert not taken("DEPLOYING")
