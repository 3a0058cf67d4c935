import asyncio
import datetime as dt

import pytest
from pydantic import ValidationError

from asgi_client import call
from bundles import fit
from mlsys import errors, recipe
from mlsys.deploy import asgi, gateway, online, serving, tallies
from mlsys.registry import LedgerEntry, ledger
from mlsys.registry.ledger import Move
from mlsys.store import Store

REPLICA = online.Model.func_or_class.__mro__[1]
"""The class as it is written, without Serve's wrapper, whose constructor needs a running Serve."""


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


@pytest.mark.parametrize(
    ("idle", "window", "delay"), [("10m", 30, 570), ("30s", 15, 15), ("20s", 11, 9), ("11s", 11, 0), ("1s", 11, 0)]
)
def test_an_endpoint_that_may_sleep_begins_awake_and_sleeps_after_the_time_of_the_recipe(store, idle, window, delay):
    settings = recipe.DeploySection(min_replicas=0, max_replicas=1, idle=idle)
    (model,) = serving.application(store, "late", "a" * 64, 1, settings)["deployments"]
    assert model["autoscaling_config"] == {
        "min_replicas": 0, "max_replicas": 1, "target_ongoing_requests": 16, "initial_replicas": 1,
        "look_back_period_s": window, "downscale_to_zero_delay_s": delay,
    }  # fmt: skip


def test_an_alias_is_resolved_once_where_the_application_is_built(store):
    """So replicas that start before and after the alias moves are of one version."""
    built = online.app({"name": "late", "store": str(store.root)})
    replica = REPLICA(*built._bound_deployment.init_args)
    with ledger.locked(store):
        moved = dt.datetime(2013, 10, 2, tzinfo=dt.UTC)
        ledger.append(store, Move("move", moved, "late", 2, "b" * 64, "champion", "test"))
    later = REPLICA(*built._bound_deployment.init_args)
    assert replica._args.store == str(store.root)
    for config in (built._bound_deployment._deployment_config.user_config, {"alias": "champion"}):
        for one in (replica, later):
            assert one._entry(online.ModelChoice(**config)) == LedgerEntry("late", 1, "a" * 64)
    assert replica._entry(online.ModelChoice(version=2)).digest == "b" * 64


def configure(replica, config):
    """Give a replica a configuration, and wait until it has loaded what that names."""

    async def whole():
        await replica.reconfigure(config)
        await replica.adopted()

    asyncio.run(whole())


def test_a_version_that_does_not_load_leaves_the_one_that_answers(tmp_path):
    store = Store.open(tmp_path)
    good, bad = fit(store), fit(store, seed=3)
    (bad.folder / "program.json").write_text("{}")
    replica = REPLICA({"name": "late", "store": str(store.root), "log": {"enabled": False}})
    configure(replica, {"digest": good.digest, "version": 1})
    configure(replica, {"digest": bad.digest, "version": 2})
    stats = replica._service.stats()
    assert stats["model"]["version"] == 1
    assert stats["refused"] == {"digest": bad.digest, "error": "BundleError"}
    configure(replica, {"digest": good.digest, "version": 1})
    assert replica._service.stats()["refused"] is None


def test_a_canary_is_loaded_beside_stable_and_becomes_it_without_loading_again(tmp_path):
    store = Store.open(tmp_path)
    first, second = (fit(store, seed=seed) for seed in (0, 3))
    canary = {"digest": second.digest, "version": 2, "trial": "t1", "weight": 5_000}
    stable = {"digest": first.digest, "version": 1}
    replica = REPLICA({"name": "late", "store": str(store.root), "log": {"enabled": False}})
    service = replica._service
    configure(replica, stable)
    assert service.respond == service.answer
    configure(replica, {**stable, "canary": canary})
    loaded = replica._canary.model(LedgerEntry("late", 2, second.digest))
    assert (service.model.entry.version, service.canary["version"], service.canary["percent"]) == (1, 2, 50)
    configure(replica, {"digest": second.digest, "version": 2})
    assert service.model is loaded
    assert (service.canary, service.respond) == (None, service.answer)


def test_a_damaged_canary_leaves_all_requests_to_stable(tmp_path):
    store = Store.open(tmp_path)
    good, bad = fit(store), fit(store, seed=3)
    (bad.folder / "program.json").write_text("{}")
    replica = REPLICA({"name": "late", "store": str(store.root), "log": {"enabled": False}})
    canary = {"digest": bad.digest, "version": 2, "trial": "t1", "weight": 5_000}
    configure(replica, {"digest": good.digest, "version": 1, "canary": canary})
    stats = replica._service.stats()
    assert (stats["model"]["version"], stats["canary"]["error"]) == (1, "BundleError")
    assert tallies.refusal(store, "late", "t1").startswith("a replica cannot load it: BundleError: ")
    configure(replica, {"digest": good.digest, "version": 1})


def test_a_new_replica_without_a_version_that_loads_fails_and_answers_nobody(tmp_path):
    """So Serve sends it no requests, and the replicas that still have the version before answer them."""
    store = Store.open(tmp_path)
    bad = fit(store, seed=3)
    (bad.folder / "program.json").write_text("{}")
    replica = REPLICA({"name": "late", "store": str(store.root), "log": {"enabled": False}})
    with pytest.raises(errors.BundleError):
        configure(replica, {"digest": bad.digest, "version": 2})
    app = asgi.app(replica._handler)
    for method, path in (("GET", "/ready"), ("POST", "/invocations"), ("POST", "/v2/models/late/infer")):
        status, headers, _ = asyncio.run(call(app, method, path, b"{}"))
        assert (status, headers[b"retry-after"]) == (503, b"1")
    assert asyncio.run(call(app, "GET", "/health"))[0] == 200
    with pytest.raises(RuntimeError, match="no model is loaded yet"):
        asyncio.run(replica.describe())


def test_the_limits_of_the_recipe_reach_replicas_queue_and_gateway(store):
    limits = {"rows": 200_000, "body_bytes": 5_000, "queue": 7}
    settings = recipe.DeploySection.model_validate({"limits": limits})
    application = serving.application(store, "late", "a" * 64, 1, settings)
    args = online.ModelArgs.model_validate(application["args"])
    assert args.limits == settings.limits
    assert args.log.max_pending_rows == 200_000
    (model,) = application["deployments"]
    assert (model["max_queued_requests"], model["backpressure_config"]["status_code"]) == (7, 503)
    assert gateway.GatewayArgs(models={"late": application["args"]["limits"]}).limits == {"late": settings.limits}
    assert gateway.GatewayArgs(models=["late"]).limits == {"late": recipe.LimitsSection()}


def test_a_log_that_could_not_hold_a_request_is_refused():
    with pytest.raises(ValidationError, match=r"log.max_pending_rows of at least limits.rows \(500\)"):
        online.ModelArgs(name="late", limits={"rows": 500}, log={"max_pending_rows": 400})


def test_a_key_of_earlier_recipes_is_read_as_the_limit_that_it_was():
    assert recipe.DeploySection.model_validate({"max_body_bytes": 2048}).limits.body_bytes == 2048


@pytest.mark.parametrize("name", ["v2", "gateway"])
def test_a_model_cannot_take_a_route_of_the_gateway(store, name):
    with pytest.raises(errors.RecipeError, match="another name"):
        serving.application(store, name, "a" * 64, 1, recipe.DeploySection())
    with pytest.raises(ValidationError, match="another name"):
        online.ModelArgs(name=name)


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "", "a\\b"])
def test_a_feature_table_has_no_name_that_leaves_its_folder(name):
    join = {"source": "x.csv", "keys": ["k"]}
    with pytest.raises(ValidationError, match="a name of at most 100 characters"):
        recipe.FeaturesSection.model_validate({"joins": {name: join}})
    assert recipe.FeaturesSection.model_validate({"joins": {"météo 2": join}})
