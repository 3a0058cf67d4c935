"""Names on a running cluster: deployed, promoted and rolled back without a recipe, alias and endpoint together."""

import json
import shutil
import time
import urllib.error
import urllib.request

import psutil
import pytest
from ray.serve.context import _get_global_client

from bundles import fit
from mlsys import cluster, errors, registry
from mlsys.deploy import by_name, endpoints, readiness, rollout, serving
from mlsys.registry import ledger
from mlsys.store import Store

SECTIONS = {"deploy": {"port": 0, "max_replicas": 1}}


@pytest.fixture(scope="module")
def own(endpoints, tmp_path_factory):
    """A store that did not start the cluster, in which `train` has three versions, of which the third does not load."""
    own = Store.open(tmp_path_factory.mktemp("names"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing here needs MLflow
        for opened in (fit(own), fit(own, seed=1), unloadable(own)):
            registry.register(own, "train", opened)
        registry.configure(own, registry.resolve(own, "train", 1), SECTIONS)
        yield own


def unloadable(store):
    """A whole bundle whose model is of a family that does not take its file."""
    good = fit(store, seed=2)
    with store.staging() as staged:
        shutil.copytree(good.folder, staged, dirs_exist_ok=True)
        for path in (staged / "model").iterdir():
            path.write_bytes(b"{}")
        (staged / "manifest.json").unlink()
        digest = store.commit("bundle", staged)
    from mlsys import bundle

    return bundle.open(store, digest)


@pytest.fixture
def served(own):
    """The address of `train`, version 1 in service."""
    return by_name.deploy(own, "train@1").transition.endpoint.url


def version_at(url):
    with urllib.request.urlopen(f"{url}/ready", timeout=30) as answer:
        return json.load(answer)["model"]["version"]


def test_deploy_promote_and_rollback_move_traffic_on_a_cluster_of_another_store(own, served):
    assert version_at(served) == 1
    assert by_name.promote(own, "train@2", reason="better").transition.endpoint.url == served
    assert (version_at(served), registry.resolve(own, "train").version) == (2, 2)
    change = by_name.rollback(own, "train", reason="worse")
    assert change.summary.endswith(f"before it version 2; {served} answers with it")
    assert change.warning.startswith("warning: MLflow does not know of 'train' yet")
    assert (version_at(served), registry.resolve(own, "train").version) == (1, 1)


def test_a_promotion_tells_serve_nothing_and_a_replica_that_starts_later_takes_the_version(store, own, served):
    told = serving.configured("train")
    by_name.promote(own, "train@2", reason="better")
    assert version_at(served) == 2
    assert serving.configured("train") == told
    assert endpoints.ServeEndpoints(own).configured("train").version == 2
    (address,) = readiness.replicas(_get_global_client(), "train")
    assert address != served
    assert version_at(address) == 2
    (before,) = replicas(store)
    before.kill()
    end = time.monotonic() + 60
    while not (after := replicas(store)) or after == [before] or answer_of(served) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert version_at(served) == 2


def replicas(store):
    """Processes of the replicas of `train`."""
    started = psutil.Process(cluster.status(store)["pid"]).children(recursive=True)
    return [each for each in started if is_replica(each)]


def is_replica(process):
    try:
        return "".join(process.cmdline()[:1]).startswith("ray::ServeReplica:train")
    except psutil.Error:
        return False


def answer_of(url):
    try:
        return version_at(url)
    except (urllib.error.URLError, OSError):
        return None


def test_another_alias_never_takes_the_endpoint_of_champion(own, served):
    change = by_name.promote(own, "train@2", alias="challenger", reason="try it")
    assert change.transition.alone == "the endpoint of 'train' serves champion"
    assert version_at(served) == 1


def test_a_version_that_does_not_load_is_refused_before_a_replica_hears_of_it(own, served):
    before = len(ledger.read(own))
    with pytest.raises(errors.BundleError, match=r"models: file 'booster\.json'"):
        by_name.promote(own, "train@3", reason="no")
    assert len(ledger.read(own)) == before
    assert version_at(served) == 1


def test_a_version_that_loads_in_no_replica_leaves_the_one_before_in_service(own, served, monkeypatch):
    monkeypatch.setattr(rollout, "rehearse", lambda *_: None)
    with pytest.raises(errors.ClusterError, match="a replica cannot load it"):
        by_name.promote(own, "train@3", reason="no")
    assert (version_at(served), registry.resolve(own, "train").version) == (1, 1)
    assert endpoints.ServeEndpoints(own).configured("train").version == 1
    assert ledger.read(own)[-1].kind == "withdrawn"


def test_a_deployment_that_died_after_its_endpoint_changed_is_settled_by_the_next_command(own, served, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "settle", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            by_name.promote(own, "train@2", reason="better")
    assert (version_at(served), registry.resolve(own, "train").version) == (2, 1)
    messages = []
    by_name.recover(own, ["train"], messages.append)
    assert f"settled, {served} answers with it" in messages[0]
    assert (version_at(served), registry.resolve(own, "train").version) == (2, 2)


def test_undeploy_ends_the_endpoint_and_deploy_brings_it_back(own, served):
    assert by_name.undeploy(own, "train")
    assert by_name.rollback(own, "train").transition.alone == "no endpoint of 'train' runs"
    assert version_at(by_name.deploy(own, "train@2").transition.endpoint.url) == 2
