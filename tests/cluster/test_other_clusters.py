"""A name on two clusters: what a command does on the one that it reaches arrives at the other by the ledger alone."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bundles import fit
from free_ports import free_ports
from mlsys import cluster, registry
from mlsys.deploy import by_name
from mlsys.store import Store
from shell import shell

NAME = "roaming"
SECTIONS = {"deploy": {"port": 0, "max_replicas": 1}}
LONGEST_S = 150
MLSYS = "from mlsys.cli import main; main()"


@pytest.fixture(scope="module")
def own(endpoints, tmp_path_factory):
    """A store of two versions, the first served on the cluster of the session, which another store started."""
    own = Store.open(tmp_path_factory.mktemp("own"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        for seed in range(2):
            registry.register(own, NAME, fit(own, seed=seed))
        registry.configure(own, registry.resolve(own, NAME, 1), SECTIONS)
        by_name.deploy(own, f"{NAME}@1")
        yield own


@pytest.fixture(scope="module")
def elsewhere(own, tmp_path_factory):
    """The address of the name on a second cluster, of a store of its own, to which `serve deploy` told the alias."""
    other = Store.open(tmp_path_factory.mktemp("other"))
    environment = shell(MLSYS_STORE=str(other.root))
    (port,) = free_ports(1)
    arguments = {"name": NAME, "store": str(own.root), "log": {"enabled": False}}
    application = {"name": NAME, "route_prefix": f"/{NAME}", "import_path": "mlsys.deploy.online:app"}
    config = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application | {"args": arguments}]}
    file = other.root / "serve.json"
    file.write_text(json.dumps(config))
    try:
        subprocess.run([sys.executable, "-c", MLSYS, "up", "--num-cpus", "1"], env=environment, check=True, timeout=250)
        with_token = {**environment, **cluster.client_environment(other)}
        tool = Path(sys.executable).parent / "serve"
        subprocess.run([tool, "deploy", str(file)], env=with_token, check=True, timeout=250, stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}/{NAME}"
        wait(lambda: version_at(url) == 1)
        yield url
    finally:
        subprocess.run([sys.executable, "-c", MLSYS, "down"], env=environment, check=True, timeout=250)


def wait(condition):
    """Wait until a condition holds; returns the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + LONGEST_S
        time.sleep(0.02)
    return time.monotonic() - start


def version_at(url):
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=30) as answer:
            return json.load(answer)["model"]["version"]
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_promotion_and_rollback_arrive_at_a_cluster_that_this_store_did_not_start(own, elsewhere):
    by_name.promote(own, f"{NAME}@2", reason="better")
    after = [wait(lambda: version_at(elsewhere) == 2)]
    by_name.rollback(own, NAME, reason="worse")
    after.append(wait(lambda: version_at(elsewhere) == 1))
    print(f"the other cluster answers {after[0]:.2f} s after a promotion, {after[1]:.2f} s after a rollback")
    assert registry.resolve(own, NAME).version == 1


def test_another_alias_changes_nothing_there(own, elsewhere):
    by_name.promote(own, f"{NAME}@2", alias="challenger", reason="try it")
    by_name.promote(own, f"{NAME}@2", reason="better")
    wait(lambda: version_at(elsewhere) == 2)
    by_name.promote(own, f"{NAME}@1", alias="challenger", reason="try that")
    for _ in range(20):
        assert version_at(elsewhere) == 2
        time.sleep(0.1)


def test_undeploy_ends_the_name_there_too(own, elsewhere):
    assert version_at(elsewhere) in (1, 2)
    by_name.undeploy(own, NAME)
    after = wait(lambda: version_at(elsewhere) in (404, 503, None))
    print(f"the other cluster has no application {after:.2f} s after the end of the name")
