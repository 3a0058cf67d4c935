"""Which changes of an endpoint need no configuration, and whose version the ledger says before an alias moves."""

import pytest
from ray.serve.schema import ServeApplicationSchema

from endpoint_files import registered
from mlsys import recipe, registry
from mlsys.deploy import endpoints, ledger_swap, serving
from mlsys.deploy.alias_follower import AliasFollower
from mlsys.deploy.serving import Configured

HERE, ELSEWHERE = "session_1", "session_2"


@pytest.fixture
def store(tmp_path):
    """`late` has three versions, and champion means the first."""
    store = registered(tmp_path, "abc")
    registry.set_alias(store, "late", "champion", 1, "test")
    return store


def entry(store, version):
    return registry.resolve(store, "late", version)


def application(store, version, *, follow=True, **settings):
    known = entry(store, version)
    return serving.application(store, "late", known.digest, version, recipe.DeploySection(**settings), follow=follow)


def given_back(app):
    """A configuration as Serve's controller keeps it and gives it back."""
    kept = ServeApplicationSchema.model_validate(app).model_dump(exclude_unset=True)
    return ServeApplicationSchema.model_validate(kept).model_dump(exclude_unset=True)


def test_only_another_version_of_an_application_that_follows_needs_no_configuration(store):
    before = given_back(application(store, 1))
    assert ledger_swap.is_same_but_version(before, application(store, 1))
    assert ledger_swap.is_same_but_version(before, application(store, 2))
    assert not ledger_swap.is_same_but_version(None, application(store, 2))
    for changed in ({"max_replicas": 3}, {"num_cpus": 1}, {"alias": "challenger"}, {"limits": {"rows": 5}}):
        assert not ledger_swap.is_same_but_version(before, application(store, 2, **changed)), changed
    assert not ledger_swap.is_same_but_version(given_back(application(store, 1, follow=False)), before)


def test_a_canary_that_ends_needs_a_configuration(store):
    app = application(store, 1)
    app["deployments"][0]["user_config"]["canary"] = {"digest": "b" * 64, "version": 2, "trial": "t", "weight": 5}
    assert not ledger_swap.is_same_but_version(given_back(app), application(store, 2))


def test_an_application_that_an_alias_alone_names_is_not_followed_by_the_configuration(store):
    builder = {"name": "late", "route_prefix": "/late", "import_path": serving.MODEL_APP, "args": {"name": "late"}}
    for app in (builder, {**builder, "deployments": [{"name": "Model"}]}):
        assert not ledger_swap.is_same_but_version(given_back(app), application(store, 1))


def test_what_a_command_is_about_to_do_is_for_the_replicas_of_its_cluster_alone(store):
    intent = registry.intend(store, entry(store, 3), "champion", facts={"session": HERE})
    meanings = [
        AliasFollower(store, "late", place).meaning(alias, entry(store, 2))
        for place in (HERE, ELSEWHERE, None)
        for alias in ("champion", "challenger")
    ]
    assert [each.version for each in meanings] == [3, 2, 1, 2, 1, 2]
    registry.withdraw(store, intent, "it does not answer")
    assert AliasFollower(store, "late", HERE).meaning("champion", entry(store, 2)) == entry(store, 1)


def test_an_intent_that_names_no_cluster_is_for_nobody(store):
    registry.intend(store, entry(store, 3), "champion")
    assert ledger_swap.about_to_mean(store, "late", "champion", None) is None


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, 2),
        ({"follows": None}, 1),
        ({"follows": "/of/another/store"}, 1),
        ({"digest": None, "version": None}, None),
    ],
)
def test_a_served_version_is_what_the_ledger_says_where_replicas_follow_this_one(store, monkeypatch, told, found):
    registry.set_alias(store, "late", "champion", 2, "test")
    first = {"alias": "champion", "digest": "a" * 64, "version": 1, "url": "http://127.0.0.1:1/late"}
    configured = Configured(**{**first, "follows": str(store.root), **told})
    monkeypatch.setattr(serving, "configured", lambda _: configured)
    assert endpoints.ServeEndpoints(store).configured("late").version == found
