"""Operations on names without a cluster: what is refused, what is found again, what a bundle's folder is enough for."""

import contextlib
import http.server
import json
import shutil
import threading
from types import SimpleNamespace

import pytest

from bundles import fit
from endpoint_files import model
from free_ports import free_ports
from mlsys import errors, registry
from mlsys.deploy import by_name, endpoints, parity, rehearsal
from mlsys.deploy.rehearsal import rehearse
from mlsys.registry import LedgerEntry, ledger
from mlsys.store import Store, write_json


@pytest.fixture
def store(tmp_path, monkeypatch):
    for variable in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return Store.open(tmp_path / "store")


@contextlib.contextmanager
def answering(digest):
    """An endpoint of a cluster that nobody here knows."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"model": {"name": "late", "version": 1, "digest": digest}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/late"
        server.shutdown()


def test_a_name_that_a_cluster_elsewhere_serves_is_not_moved_behind_its_back(store):
    for letter in "ab":
        registry.register(store, "late", model(letter))
    registry.set_alias(store, "late", "champion", 1, "first")
    with answering("a" * 64) as url:
        entry = registry.resolve(store, "late", 2)
        registry.settle(store, registry.intend(store, entry, "champion"), url=url, cluster="10.0.0.5:6379")
        with pytest.raises(errors.ClusterError) as caught:
            by_name.rollback(store, "late")
        assert str(caught.value) == (
            f"deploy: endpoint 'late'\n  got:      answers at {url}, from the cluster 10.0.0.5:6379\n"
            "  expected: the cluster that serves the name, or nothing would change there\n"
            "  hint:     export RAY_ADDRESS=10.0.0.5:6379, and its token, and run the command again"
        )
        assert registry.resolve(store, "late").version == 2
    assert endpoints.reach(store, "late") is None  # it is gone
    with answering("f" * 64) as other:
        registry.settle(store, registry.intend(store, entry, "champion"), url=other, cluster="10.0.0.5:6379")
        assert endpoints.reach(store, "late") is None  # another store's model at that address
    with answering("a" * 64) as left:
        (port,) = free_ports(1)
        registry.settle(store, registry.intend(store, entry, "champion"), url=left, cluster=f"127.0.0.1:{port}")
        assert endpoints.reach(store, "late") is None  # a replica that a head which was killed has left behind


def test_a_bundle_loads_and_predicts_in_a_process_of_its_own(store):
    good = fit(store)
    rehearse(store, LedgerEntry("late", 1, good.digest))
    (good.folder / "bundle.json").write_text("{}")
    with pytest.raises(errors.BundleError, match="missing or changed bytes"):
        rehearse(store, LedgerEntry("late", 1, good.digest))


def test_a_version_with_a_certificate_that_holds_needs_no_process_while_its_bytes_are_whole(store, monkeypatch):
    entry = LedgerEntry("late", 1, fit(store).digest)
    certificate = rehearse(store, entry, num_rows=20)
    with monkeypatch.context() as patch:
        patch.setattr(rehearsal.subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
        assert rehearse(store, entry, num_rows=20) == certificate
        patch.setattr(rehearsal.psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
        with pytest.raises(pytest.fail.Exception, match="a process"):
            rehearse(store, entry, num_rows=20)
    write_json(parity.file_of(store, entry.digest), {**certificate.to_json(), "ulps": {"batch": 0, "http": 9}})
    with pytest.raises(errors.ParityError, match="path 'http'"):
        rehearse(store, entry, num_rows=20)


def test_a_folder_of_a_bundle_is_enough_to_register_and_move_it(store, tmp_path):
    copy = shutil.copytree(fit(store).folder, tmp_path / "copy")
    other = Store.open(tmp_path / "other")
    entry = by_name.add(other, "late", copy)
    assert (entry.version, other.has("bundle", entry.digest)) == (1, True)
    change = by_name.promote(other, "late@1", reason="from a backup")
    assert change.summary == f"late@champion is version 1 ({entry.digest[:12]}); no cluster runs"
    assert change.to_json() == {
        "name": "late", "alias": "champion", "version": 1, "digest": entry.digest, "before": None, "changed": True,
        "url": None, "note": "no cluster runs", "canary": None,
    }  # fmt: skip
    assert [move.who for move in ledger.read(other)].count("") == 0


def test_promoting_a_name_without_a_version_says_which_there_are(store):
    registry.register(store, "late", model("a"))
    with pytest.raises(errors.RegistryError) as caught:
        by_name.promote(store, "late", reason="because")
    assert str(caught.value) == (
        "promote: 'late'\n  got:      a name\n  expected: the version of it to promote\n  hint:     the last: late@1"
    )


def test_a_name_that_is_not_registered_is_named_with_the_nearest(store):
    registry.register(store, "late", model("a"))
    for verb in (by_name.rollback, by_name.undeploy):
        with pytest.raises(errors.RegistryError, match="did you mean 'late'"):
            verb(store, "lat")
