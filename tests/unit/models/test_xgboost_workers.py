"""Workers of XGBoost that go on with another in the place of one that died."""

import contextlib
import threading

import pytest
import xgboost

from mlsys.models import xgboost_workers
from mlsys.models.xgboost_workers import Membership, XGBoostGroup

GONE = xgboost.core.XGBoostError("xgboost/src/collective/result.cc:83: Ring Allreduce failed.")


class Coordinators:
    """Coordinators one after another; a worker is connected by the newest."""

    def __init__(self, monkeypatch):
        self.newest, self.used = {"port": 1}, []
        self.membership = Membership()
        monkeypatch.setattr(xgboost_workers, "_MEMBERSHIP", self.membership)
        monkeypatch.setattr(xgboost_workers, "coordinator", lambda: self.newest)
        monkeypatch.setattr(xgboost.collective, "CommunicatorContext", self.connected)

    @contextlib.contextmanager
    def connected(self, port):
        self.used.append(port)
        yield

    def replace(self):
        """Say that a worker is replaced, and start another coordinator."""
        could = self.membership.expect()
        self.newest = {"port": self.newest["port"] + 1}
        return could


@pytest.fixture
def coordinators(monkeypatch):
    return Coordinators(monkeypatch)


def test_a_fit_that_lost_a_worker_is_done_again_with_another(coordinators):
    outcomes = [GONE, GONE, "model"]

    def fit():
        outcome = outcomes.pop(0)
        if outcome is GONE:
            assert coordinators.replace()
            raise GONE
        return outcome

    assert XGBoostGroup().run(fit) == "model"
    assert coordinators.used == [1, 2, 3]
    assert not coordinators.membership.is_member


def test_the_others_wait_for_a_death_that_is_noticed_after_them(coordinators):
    outcomes = [GONE, "model"]
    notice = threading.Timer(0.2, coordinators.replace)

    def fit():
        outcome = outcomes.pop(0)
        if outcome is GONE:
            notice.start()
            raise GONE
        return outcome

    assert XGBoostGroup().run(fit) == "model"
    assert coordinators.used == [1, 2]


def test_who_is_done_while_another_is_replaced_goes_on_with_it(coordinators):
    models = ["first", "second"]

    def fit():
        if len(models) == 2:
            coordinators.replace()
        return models.pop(0)

    assert XGBoostGroup().run(fit) == "second"


@pytest.mark.parametrize("error", [xgboost.core.XGBoostError("max_bin is too small"), ValueError("no"), GONE])
def test_other_errors_and_deaths_that_nobody_notices_end_the_fit(coordinators, monkeypatch, error):
    monkeypatch.setattr(xgboost_workers, "NOTICED_S", 0.1)

    def fit():
        raise error

    with pytest.raises(type(error)):
        XGBoostGroup().run(fit)
    assert coordinators.used == [1]


def test_who_is_not_connected_can_not_go_on(coordinators):
    assert not coordinators.replace()
    assert XGBoostGroup().run(lambda: "model") == "model"
    assert not coordinators.replace()


def test_a_group_without_another_worker_in_time_is_given_up(coordinators, monkeypatch):
    ended = []
    monkeypatch.setattr(xgboost_workers, "REPLACED_S", 0.1)
    monkeypatch.setattr(xgboost_workers.ray, "kill", ended.append)
    monkeypatch.setattr(
        xgboost_workers, "get_train_context", lambda: type("Context", (), {"controller_actor": "controller"})
    )

    def fit():
        coordinators.membership.expect()
        raise GONE

    with pytest.raises(TimeoutError, match="no other worker"):
        XGBoostGroup().run(fit)
    assert ended == ["controller"]
