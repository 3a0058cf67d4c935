"""Alias and endpoint move together, also when the process that moves them is killed or the endpoint fails."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from endpoint_files import POINTS, EndpointFiles, deploy_in_a_fork, ending_of, model
from mlsys import errors, registry
from mlsys.deploy import rollout
from mlsys.registry import ledger
from mlsys.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store in which version 1 of `late` is champion and served; bundles need not load."""
    monkeypatch.setattr(rollout, "rehearse", lambda *_: None)
    store = Store.open(tmp_path / "store")
    for letter in "abc":
        registry.register(store, "late", model(letter))
    put(store, 1)
    return store


def there(store, broken=()):
    return EndpointFiles(store.root / "endpoints", broken)


def put(store, version, alias="champion", **more):
    entry = registry.resolve(store, "late", version)
    return rollout.put(store, entry, alias, more.pop("endpoints", None) or there(store), reason="test", **more)


def state(store, name="late"):
    """The version that the alias means, and the one that the endpoint serves."""
    configured = there(store).configured(name)
    return registry.resolve(store, name).version, configured and configured.version


def kinds(store):
    return [move.kind for move in ledger.read(store) if move.kind != "register"]


def killed(store, version, point):
    assert ending_of(deploy_in_a_fork(store, "late", version, point)) == -signal.SIGKILL


def test_a_deployment_writes_its_intent_first_and_its_move_last(store):
    put(store, 2)
    assert kinds(store) == ["deploying", "move", "deploying", "move"]
    assert state(store) == (2, 2)
    last = ledger.read(store)[-1]
    assert (last.facts["url"], last.facts["cluster"], last.reason) == ("http://127.0.0.1:1/late", "files", "test")
    assert last.who.endswith(f" {os.getpid()}")


@pytest.mark.parametrize("point", POINTS)
def test_a_deployment_that_is_killed_is_settled_or_taken_back_by_the_next_command(store, point):
    killed(store, 2, point)
    messages = []
    rollout.recover(store, "late", there(store), messages.append)
    is_served = POINTS.index(point) >= POINTS.index("after the endpoint")
    assert state(store) == ((2, 2) if is_served else (1, 1))
    assert registry.unfinished(store, "late") is None
    if point == "before the intent":
        assert messages == []
    else:
        (message,) = messages
        assert "late version 2 as champion, begun by " in message
        assert ("settled" if is_served else "taken back") in message


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_after_a_kill_any_deployment_ends_with_alias_and_endpoint_at_one(store, point, version):
    killed(store, 2, point)
    put(store, version, tell=lambda _: None)
    assert state(store) == (version, version)


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_a_rollback_ends_with_alias_and_endpoint_at_one(store, point):
    put(store, 3)
    killed(store, 2, point)
    rollout.rollback(store, "late", "champion", there(store), reason="worse", tell=lambda _: None)
    alias, endpoint = state(store)
    assert alias == endpoint
    assert alias in (1, 3)


def test_a_kill_while_the_cluster_went_too_leaves_the_alias_where_it_was(store):
    killed(store, 2, "after the endpoint")
    rollout.recover(store, "late", None, lambda _: None)
    assert registry.resolve(store, "late").version == 1


@pytest.mark.parametrize("served", [False, True])
def test_an_endpoint_that_does_not_answer_changes_nothing(store, served):
    if not served:
        there(store).stop("late")
    with pytest.raises(errors.ClusterError, match="an answer"):
        put(store, 2, endpoints=there(store, broken=["b" * 64]))
    assert state(store) == (1, 1 if served else None)
    assert kinds(store)[-2:] == ["deploying", "withdrawn"]
    assert registry.unfinished(store, "late") is None


def test_a_bundle_that_does_not_load_is_never_given_to_the_endpoint(store, monkeypatch):
    def refuse(*_):
        raise errors.BundleError.build("deploy: late version 2", got="format 9", expected="format 2")

    monkeypatch.setattr(rollout, "rehearse", refuse)
    before = kinds(store)
    with pytest.raises(errors.BundleError):
        put(store, 2)
    assert state(store) == (1, 1)
    assert kinds(store) == before


def test_an_endpoint_that_serves_another_alias_is_left_alone(store):
    change = put(store, 2, alias="challenger")
    assert (change.endpoint, change.alone) == (None, "the endpoint of 'late' serves champion")
    assert state(store) == (1, 1)
    assert registry.resolve(store, "late", "challenger").version == 2
    put(store, 3, alias="challenger")
    rollout.rollback(store, "late", "challenger", there(store), reason="worse")
    assert state(store) == (1, 1)
    assert registry.resolve(store, "late", "challenger").version == 2


def test_a_rollback_starts_no_endpoint(store):
    put(store, 2)
    there(store).stop("late")
    change = rollout.rollback(store, "late", "champion", there(store), reason="worse")
    assert (change.entry.version, change.endpoint) == (1, None)
    assert state(store) == (1, None)


def test_a_version_that_is_served_already_is_no_news(store):
    before = kinds(store)
    assert not put(store, 1).is_new
    assert kinds(store) == before
    there(store).stop("late")
    assert put(store, 1).is_new
    assert kinds(store)[len(before) :] == ["deploying", "served"]


def test_undeploying_ends_the_endpoint_and_keeps_the_alias(store):
    assert rollout.undeploy(store, "late", there(store), reason="enough")
    assert state(store) == (1, None)
    assert registry.served_at(store, "late") is None
    assert not rollout.undeploy(store, "late", there(store), reason="again")
    assert kinds(store)[-1] == "undeploy"


def test_settings_are_noted_once_and_serve_the_name_without_a_recipe(store):
    sections = {"deploy": {"port": 0, "max_replicas": 3}, "monitor": {"min_rows": 50}}
    for _ in range(2):
        put(store, 2, sections=sections)
    assert kinds(store).count("settings") == 1
    assert registry.settings(store, "late") == sections
    put(store, 3)
    assert registry.settings(store, "late") == sections


def test_settings_with_which_an_endpoint_did_not_start_are_not_kept(store):
    put(store, 1, sections={"deploy": {"port": 0}})
    with pytest.raises(errors.ClusterError):
        put(store, 2, sections={"deploy": {"num_cpus": 999}}, endpoints=there(store, broken=["b" * 64]))
    assert registry.settings(store, "late") == {"deploy": {"port": 0}}


def test_many_processes_at_once_leave_alias_and_endpoint_at_one(store):
    processes = [deploy_in_a_fork(store, "late", version) for version in (2, 3, 2, 3)]
    assert [ending_of(process) for process in processes] == [0, 0, 0, 0]
    alias, endpoint = state(store)
    assert alias == endpoint
    moves = [move.kind for move in ledger.read(store) if move.kind in ("deploying", "move", "served")]
    assert moves == ["deploying", "move"] * (len(moves) // 2)


def test_a_command_that_waits_says_for_whom(store):
    program = (
        "import sys; from mlsys import registry; from mlsys.store import Store\n"
        "with registry.locked(Store.open(sys.argv[1]), 'late', 'promotion'):\n"
        "    print('holds', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "holds\n"
    messages = []

    def tell(message):
        messages.append(message)
        holder.kill()  # the lock ends with its process

    put(store, 2, tell=tell)
    holder.communicate()
    assert messages[0].startswith("deploy of 'late' waits for promotion of 'late': ")
    assert f" {holder.pid}, since " in messages[0]
    assert state(store) == (2, 2)


def test_a_held_lock_names_its_holder_and_a_free_one_nobody(store):
    from mlsys import locks

    file = registry.lock_file(store, "late")
    assert locks.holder(file) is None
    with registry.locked(store, "late", "promotion"):
        assert locks.holder(file).startswith(f"promotion of 'late': {locks.who()}")
    with file.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert locks.holder(file) == "another process"
