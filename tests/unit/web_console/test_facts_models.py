"""Models as the console tells them: from the ledger alone for the list, with all that is known for one."""

import datetime as dt
import shutil

import pytest

import console_store
from mlsys import errors, registry
from mlsys.registry import ledger
from mlsys.web_console import facts_models

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def test_a_list_says_what_serves_how_good_it_is_and_what_the_monitor_says(store):
    (late,) = facts_models.listed(store)
    assert (late["name"], late["aliases"], late["version"], late["num_versions"]) == ("late", {"champion": 1}, 1, 2)
    assert (late["family"], late["metric"], late["metrics"]["roc_auc"]) == ("xgboost", "roc_auc", 0.71)
    assert (late["url"], late["decision"]["decision"], late["run"]["status"]) == (None, "retrain", "failed")


def test_an_endpoint_is_where_it_was_last_brought_up_and_nowhere_after_its_end(store):
    console_store.served(store, "http://127.0.0.1:9/late")
    assert facts_models.listed(store)[0]["url"] == "http://127.0.0.1:9/late"
    ledger.write(store, "undeploy", registry.resolve(store, "late", 1))
    assert facts_models.listed(store)[0]["url"] is None


def test_a_model_without_an_alias_is_shown_by_its_newest_version():
    lines = [ledger.Move("register", NOW, "new", number, "a" * 64) for number in (1, 2)]
    assert facts_models.by_name(lines)["new"].shown.version == 2


def test_a_name_that_has_no_version_is_no_model():
    line = ledger.Move("settings", NOW, "none", 1, "a" * 64)
    assert facts_models.by_name([line]) == {}


def test_one_model_is_told_with_versions_windows_ledger_and_runs(store):
    late = facts_models.whole(store, "late")
    newest, oldest = late["versions"]
    assert (newest["version"], newest["aliases"], oldest["aliases"]) == (2, [], ["champion"])
    assert oldest["provenance"]["snapshot"] == "5" * 64
    assert late["windows"][0]["verdict"] == "degraded"
    assert (late["metric"]["title"], late["backlog_rows"], late["endpoint"]) == ("ROC AUC", 0, None)
    assert [line["kind"] for line in late["history"]][:2] == ["rollback", "deploying"]
    assert [run["status"] for run in late["runs"]["runs"]] == ["failed", "finished"]
    assert late["pages"] == {"explore": "runs/late/reports/explore.html"}


def test_a_judgement_that_was_deleted_leaves_the_decision(store):
    noted = facts_models.decision(store, "late")
    shutil.rmtree(store.path("monitor", noted["judgement"]))
    late = facts_models.whole(store, "late")
    assert (late["windows"], late["decision"]["decision"]) == ([], "retrain")


def test_batch_jobs_are_told_without_the_secrets_of_their_addresses(store):
    console_store.submitted(store, "s3://KEY:hidden@bucket/a.csv")
    (job,) = facts_models.jobs(store)
    assert (job["name"], job["state"], job["input"]) == ("late", "queued", "s3://KEY:***@bucket/a.csv")
    assert facts_models.jobs(store, "other") == []


def test_a_model_that_is_not_there_is_an_error_with_the_nearest_name(store):
    with pytest.raises(errors.RegistryError, match="did you mean 'late'"):
        facts_models.whole(store, "lat")


@pytest.mark.parametrize(
    "path",
    ["runs/late/result.json", "registry/ledger.jsonl", "runs/late/reports/../../../registry/ledger.jsonl",
     "runs/late/reports/none.html", "/etc/passwd", "../x.html", "runs/late/history/a.html"],
)  # fmt: skip
def test_only_reports_of_runs_are_pages(store, path):
    with pytest.raises(errors.RegistryError, match="no such page"):
        facts_models.page_file(store, path)


def test_a_report_of_a_run_is_a_page(store):
    file = facts_models.page_file(store, "runs/late/reports/explore.html")
    assert file.read_text(encoding="utf-8") == "<h1>explored</h1>"
    assert file.is_relative_to(store.root.resolve())


def test_a_link_out_of_the_store_is_no_page(store, tmp_path):
    (tmp_path / "secret.html").write_text("secret")
    (store.root / "runs" / "late" / "reports" / "linked.html").symlink_to(tmp_path / "secret.html")
    with pytest.raises(errors.RegistryError, match="no such page"):
        facts_models.page_file(store, "runs/late/reports/linked.html")
