import datetime as dt

import pytest
from pydantic import ValidationError

from mlsys import errors, recipe
from mlsys.deploy import gateway, online, serving
from mlsys.registry import LedgerEntry, ledger
from mlsys.registry.ledger import Move
from mlsys.store import Store


@pytest.fixture
def store(tmp_path):
    """Versions 1 and 2 of `late`, the first of them in service; MLflow is not needed to find them."""
    store = Store.open(tmp_path)
    now = dt.datetime(2013, 10, 1, tzinfo=dt.UTC)
    with ledger.locked(store):
        for version, letter in enumerate("ab", 1):
            ledger.append(store, Move("register", now, "late", version, letter * 64))
        ledger.append(store, Move("move", now, "late", 1, "a" * 64, "champion", "test"))
    return store


@pytest.mark.parametrize(
    ("choice", "version"), [({}, 1), ({"alias": "champion"}, 1), ({"version": 2}, 2), ({"digest": "b" * 64}, 2)]
)
def test_a_choice_is_looked_up_in_the_ledger(store, choice, version):
    entry = online.ModelChoice(**choice).entry(store, "late")
    assert entry == LedgerEntry("late", version, "xab"[version] * 64)


def test_a_digest_with_its_version_needs_no_look_up(tmp_path):
    choice = online.ModelChoice(digest="c" * 64, version=7)
    assert choice.entry(Store.open(tmp_path), "late") == LedgerEntry("late", 7, "c" * 64)


def test_a_choice_that_is_not_there_is_named(store):
    with pytest.raises(errors.RegistryError, match="did you mean 'champion'"):
        online.ModelChoice(alias="champoin").entry(store, "late")


@pytest.mark.parametrize("build", [online.app, gateway.app], ids=["model", "gateway"])
def test_arguments_that_nobody_reads_are_refused(build):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        build({"name": "late", "modle": 1})


def test_what_serve_is_given_depends_on_the_version_in_one_place_alone(store):
    """All else being equal, Serve hands a new `user_config` to running replicas and starts none."""
    settings = recipe.DeploySection(max_ongoing_requests=7)
    first, second = (
        serving.application(store, "late", letter * 64, version, settings) for version, letter in ((1, "a"), (2, "b"))
    )
    assert first["deployments"][0].pop("user_config") == {"alias": "champion", "digest": "a" * 64, "version": 1}
    assert second["deployments"][0].pop("user_config") == {"alias": "champion", "digest": "b" * 64, "version": 2}
    assert first == second
    assert first["deployments"][0]["max_ongoing_requests"] == 7


def test_the_recipe_reaches_the_autoscaler(store):
    settings = recipe.DeploySection(min_replicas=3, max_replicas=2, target_ongoing_requests=5, num_cpus=0.5)
    (model,) = serving.application(store, "late", "a" * 64, 1, settings)["deployments"]
    assert model["autoscaling_config"] == {"min_replicas": 3, "max_replicas": 3, "target_ongoing_requests": 5}
    assert model["ray_actor_options"] == {"num_cpus": 0.5}
