import asyncio

import pytest

from bundles import fit
from endpoint_files import EndpointFiles, registered
from mlsys import errors, registry
from mlsys.deploy import alias_follower, online, rollout, serving
from mlsys.deploy.alias_follower import AliasFollower
from mlsys.registry import ledger
from mlsys.store import Store

REPLICA = online.Model.func_or_class.__mro__[1]


@pytest.fixture
def store(tmp_path):
    """`late` has three versions; champion meant 1, then 2."""
    store = registered(tmp_path, "abc")
    for version in (1, 2):
        registry.set_alias(store, "late", "champion", version, "test")
    return store


def entry(store, version):
    return registry.resolve(store, "late", version)


def test_the_ledger_is_read_again_only_after_it_was_written(store):
    follower = AliasFollower(store, "late")
    assert [follower.has_changed() for _ in range(3)] == [True, False, False]
    registry.set_alias(store, "late", "champion", 3, "test")
    assert [follower.has_changed() for _ in range(2)] == [True, False]
    follower.forget()
    assert follower.has_changed()


def test_a_store_without_a_ledger_never_changed(tmp_path):
    follower = AliasFollower(Store.open(tmp_path / "empty"), "late")
    assert not follower.has_changed()
    assert not follower.is_ended()


def test_what_the_alias_means_counts_for_more_than_what_is_configured(store):
    follower = AliasFollower(store, "late")
    assert follower.meaning("champion", entry(store, 1)) == entry(store, 2)
    assert follower.meaning("challenger", entry(store, 1)) == entry(store, 1)
    assert follower.others("champion", entry(store, 2)) == [entry(store, 1)]
    assert follower.others("champion", entry(store, 3)) == [entry(store, 2), entry(store, 1)]


def test_while_a_version_is_deployed_its_configuration_counts_where_it_is_and_nowhere_else(store):
    follower = AliasFollower(store, "late")
    intent = registry.intend(store, entry(store, 3), "champion")
    assert follower.meaning("champion", entry(store, 3)) == entry(store, 3)
    assert follower.meaning("champion", entry(store, 1)) == entry(store, 2)
    registry.withdraw(store, intent, "it does not answer")
    assert follower.meaning("champion", entry(store, 3)) == entry(store, 2)


def test_a_name_is_ended_by_an_undeploy_that_comes_later_and_not_by_one_of_before(store, monkeypatch):
    there = EndpointFiles(store.root / "endpoints")
    monkeypatch.setattr(rollout, "rehearse", lambda *_: None)

    def deploy_and_undeploy():
        rollout.put(store, entry(store, 2), "champion", there, reason="test")
        rollout.undeploy(store, "late", there, reason="test")

    deploy_and_undeploy()
    follower = AliasFollower(store, "late")
    assert not follower.is_ended()
    ledger.write(store, "undeploy", registry.resolve(store, "late", 1)._replace(name="other"))
    assert not follower.is_ended()
    deploy_and_undeploy()
    assert follower.is_ended()
    rollout.put(store, entry(store, 2), "champion", there, reason="test")
    assert not follower.is_ended()


def test_a_ledger_that_cannot_be_read_ends_nothing_and_is_read_when_it_can_be(store):
    ledger.write(store, "undeploy", entry(store, 2))
    file = ledger.path(store)
    good = file.read_bytes()
    file.write_bytes(b"{}\n" + good)
    follower = AliasFollower(store, "late")
    with pytest.raises(errors.RegistryError, match="line 1 of ledger"):
        follower.is_ended()
    file.write_bytes(good)
    assert not follower.is_ended()
    ledger.write(store, "undeploy", entry(store, 2))
    assert follower.is_ended()


@pytest.fixture
def own(tmp_path):
    """A store with bundles that load, but for the third; champion means 1."""
    own = Store.open(tmp_path / "own")
    for seed in range(3):
        fitted = fit(own, seed=seed, num_rows=100)
        registry.register(own, "late", fitted)
    (fitted.folder / "program.json").write_text("{}")
    registry.set_alias(own, "late", "champion", 1, "test")
    return own


def served(replica):
    service = replica._service
    return service.model.entry.version, service.refused is not None


async def until(condition):
    while not condition():  # noqa: ASYNC110  (nothing tells a client of a replica)
        await asyncio.sleep(0.01)


def test_a_replica_takes_the_moves_of_its_alias_and_ends_with_its_name(own, monkeypatch):
    monkeypatch.setattr(alias_follower, "POLL_S", 0.01)
    withdrawn = []
    monkeypatch.setattr(serving, "withdraw", lambda *place: withdrawn.append(place))
    args = {"name": "late", "store": str(own.root), "log": {"enabled": False}}
    built = online.app(args)
    replica = REPLICA(*built._bound_deployment.init_args)

    async def moved():
        await replica.reconfigure(built._bound_deployment._deployment_config.user_config)
        seen = [served(replica)]
        for version, is_refused in ((2, False), (3, True), (1, False)):
            registry.set_alias(own, "late", "champion", version, "test")
            expected = (2 if is_refused else version, is_refused)
            await until(lambda expected=expected: served(replica) == expected)
            seen.append(expected)
        ledger.write(own, "undeploy", registry.resolve(own, "late", 1))
        await until(lambda: withdrawn)
        return seen

    assert asyncio.run(asyncio.wait_for(moved(), 60)) == [(1, False), (2, False), (2, True), (1, False)]
    assert withdrawn[0] == (own, "late")


def test_a_new_replica_whose_version_does_not_load_answers_with_the_one_that_the_alias_meant_before(own):
    registry.set_alias(own, "late", "champion", 3, "test")
    replica = REPLICA({"name": "late", "store": str(own.root), "log": {"enabled": False}})
    asyncio.run(replica.reconfigure({"alias": "champion", "version": 3, "follow": True}))
    assert served(replica) == (1, True)


def test_a_version_or_a_digest_of_a_configuration_is_followed_by_nothing(own):
    for choice, follows in (({}, True), ({"alias": "champion"}, True), ({"version": 1}, False)):
        config = online.app({"name": "late", "store": str(own.root), "choice": choice})
        assert config._bound_deployment._deployment_config.user_config["follow"] is follows
