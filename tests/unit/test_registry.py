import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from endpoint_files import model, own_tracking, registered
from mlsys import errors, registry
from mlsys.registry import ledger, mlflow_mirror
from mlsys.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store in which `late` has three versions; MLflow takes seconds to make a database."""
    with own_tracking():
        store = registered(tmp_path_factory.mktemp("registry") / "store", "abc")
        mlflow_mirror.sync(store)
    return store


@pytest.fixture
def three(template, tmp_path, monkeypatch):
    """A copy of its own of that store, in an otherwise empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(shutil.copytree(template.root, tmp_path / "store"))


def mlflow(store):
    from mlflow import MlflowClient

    uri = f"sqlite:///{store.root / 'registry' / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_versions_count_from_one_and_a_known_bundle_keeps_its_own(three):
    assert registry.register(three, "late", model("b")) == 2
    assert registry.register(three, "late", model("d")) == 4
    assert registry.register(three, "other", model("a")) == 1
    assert [entry.version for entry in registry.versions(three, "late")] == [1, 2, 3, 4]


def test_mlflow_holds_the_run_its_metrics_parameters_and_reports(three, tmp_path):
    report = tmp_path / "evaluate.html"
    report.write_text("<p>good</p>")
    registry.register(
        three, "early", model("a", l2=0.5), metrics={"roc_auc": 0.75}, tags={"owner": "me"}, reports=[report]
    )
    mlflow_mirror.sync(three)
    client = mlflow(three)
    version = client.get_model_version("early", "1")
    assert version.tags == {"mlsys.digest": "a" * 64, "mlsys.version": "1", "owner": "me"}
    run = client.get_run(version.run_id)
    assert run.data.metrics == {"roc_auc": 0.75}
    assert run.data.params == {"family": "linear", "l2": "0.5"}
    assert run.info.status == "FINISHED"
    kept = three.root / "registry" / "artifacts" / "early" / version.run_id / "artifacts" / "evaluate.html"
    assert kept.read_text() == "<p>good</p>"


def test_nothing_is_written_outside_of_the_store(three, tmp_path):
    registry.register(three, "other", model("a"))
    registry.set_alias(three, "late", "champion", 1, "first")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_alias_a_version_and_a_digest_resolve_to_the_same_entry(three):
    registry.set_alias(three, "late", "champion", 2, "better")
    entry = registry.LedgerEntry("late", 2, "b" * 64)
    for which in ("champion", 2, "2", "b" * 64, "b" * 8):
        assert registry.resolve(three, "late", which) == entry
    assert mlflow_mirror.mirror(three, "late") is None
    assert int(mlflow(three).get_model_version_by_alias("late", "champion").version) == 2


def test_what_is_not_there_is_named_with_what_is(three):
    registry.set_alias(three, "late", "champion", 2, "better")
    with pytest.raises(errors.RegistryError) as caught:
        registry.resolve(three, "late", "champoin")
    assert str(caught.value) == (
        "registry: model 'late'\n  got:      champoin\n  expected: an alias, a version or a digest\n"
        "  hint:     did you mean 'champion'?"
    )
    with pytest.raises(errors.RegistryError, match="did you mean 'late'"):
        registry.resolve(three, "lat")
    with pytest.raises(errors.RegistryError, match="an alias, a version or a digest"):
        registry.set_alias(three, "late", "champion", 9, "no such version")


def test_moving_an_alias_to_where_it_is_is_no_move(three):
    for _ in range(3):
        registry.set_alias(three, "late", "champion", 1, "again")
    assert [move.version for move in registry.history(three, "late", "champion")] == [1]


def test_rolling_back_goes_one_further_each_time_and_no_further_than_the_first(three):
    for version in (1, 2, 3):
        registry.set_alias(three, "late", "champion", version, "better")
    assert registry.rollback(three, "late", "champion").version == 2
    assert registry.rollback(three, "late", "champion").version == 1
    with pytest.raises(errors.RegistryError, match="an earlier one to go back to"):
        registry.rollback(three, "late", "champion")
    registry.set_alias(three, "late", "champion", 3, "mended")
    assert registry.rollback(three, "late", "champion").version == 1
    kinds = [(move.kind, move.version) for move in registry.history(three, "late", "champion")]
    assert kinds == [
        ("move", 1), ("move", 2), ("move", 3), ("rollback", 2), ("rollback", 1), ("move", 3), ("rollback", 1)
    ]  # fmt: skip


def test_the_ledger_says_what_was_served_when(three):
    registry.set_alias(three, "late", "champion", 1, "first")
    between = dt.datetime.now(dt.UTC)
    registry.set_alias(three, "late", "champion", 2, "better")
    moves = registry.history(three, "late", "champion")
    assert [(move.version, move.at <= between) for move in moves] == [(1, True), (2, False)]


def test_aliases_do_not_touch_each_other(three):
    registry.set_alias(three, "late", "champion", 1, "first")
    registry.set_alias(three, "late", "challenger", 2, "try it")
    assert registry.resolve(three, "late", "champion").version == 1
    assert registry.resolve(three, "late", "challenger").version == 2


def test_a_line_that_a_crash_cut_off_is_ignored_and_overwritten(three):
    file = three.root / "registry" / "ledger.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind": "move", "na')
    assert len(registry.versions(three, "late")) == 3
    registry.set_alias(three, "late", "champion", 1, "first")
    lines = file.read_bytes()
    assert lines.startswith(whole)
    assert [json.loads(line)["kind"] for line in lines.splitlines()] == [
        "register", "register", "register", "deploying", "move"
    ]  # fmt: skip


def test_a_damaged_line_is_named_and_nothing_is_guessed(three):
    file = three.root / "registry" / "ledger.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "{}", lines[2]]) + "\n")
    with pytest.raises(errors.RegistryError, match=r"line 2 of ledger.jsonl"):
        registry.versions(three, "late")


def test_a_reason_may_hold_any_character(three):
    reason = "line\nbreak \u2028 \x85 'quotes' \"double\" ☃"
    registry.set_alias(three, "late", "champion", 1, reason)
    assert registry.history(three, "late")[0].reason == reason


def test_moves_at_the_same_time_are_all_kept(three):
    def move(version):
        registry.set_alias(three, "late", f"alias{version}", version, "at once")

    threads = [threading.Thread(target=move, args=(version,)) for version in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(move.version for move in ledger.read(three) if move.kind == "move") == [1, 2, 3]


def test_finding_a_model_does_not_import_mlflow(three):
    registry.set_alias(three, "late", "champion", 1, "first")
    code = (
        "import sys; from mlsys import registry; from mlsys.store import Store;"
        f"print(registry.resolve(Store.open({str(three.root)!r}), 'late').version, 'mlflow' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.split() == ["1", "False"]
