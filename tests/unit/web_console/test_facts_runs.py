"""Runs as the console tells them: pages of a list, the head of a run, and a whole one."""

import pytest

import console_store
from mlsys import errors
from mlsys.store import read_json, write_json
from mlsys.web_console import facts_runs


def test_runs_come_newest_first_in_pages_that_follow_one_another(store):
    for _ in range(3):
        console_store.run(store, "other")
    keys, before = [], None
    while True:
        page = facts_runs.listed(store, before=before, limit=2)
        keys += [run["key"] for run in page["runs"]]
        before = page["next"]
        if before is None:
            break
    assert len(keys) == page["total"] == 5
    assert keys == sorted(keys, reverse=True)
    assert facts_runs.listed(store, "other")["total"] == 3


def test_a_head_says_how_a_run_ended_and_what_it_came_to(store):
    failed, finished = facts_runs.listed(store, "late")["runs"]
    assert (failed["status"], failed["message"]) == ("failed", "ValueError: gate: roc_auc 0.5 is below 0.6")
    assert [(step["name"], step["status"]) for step in failed["steps"]] == [
        ("explore", "finished"), ("tune", "finished"), ("evaluate", "failed")
    ]  # fmt: skip
    assert finished["metrics"] == {"roc_auc": 0.72, "roc_auc_low": 0.7, "roc_auc_high": 0.74}
    assert (failed["metrics"], finished["version"]) == ({}, None)
    assert 0 <= finished["seconds"] < 60


def test_a_record_that_changed_is_read_again(store):
    (file,) = [path for path in (store.root / "runs/late/history").iterdir() if read_json(path)["status"] == "finished"]
    first = facts_runs.head(file)
    write_json(file, {**read_json(file), "status": "killed", "message": "the process ended without a word"})
    assert (first["status"], facts_runs.head(file)["status"]) == ("finished", "killed")


def test_a_run_is_found_by_its_key_and_by_its_id(store):
    listed = facts_runs.newest(store, "late")
    for key in (listed["key"], listed["id"], listed["id"][:8]):
        assert facts_runs.whole(store, "late", key)["id"] == listed["id"]
    assert facts_runs.whole(store, "late", listed["key"])["recipe"] == "name: late\n"
    for key in ("none", ""):
        with pytest.raises(errors.RegistryError, match="no such run"):
            facts_runs.whole(store, "late", key)


def test_reports_of_a_run_are_paths_below_the_store_as_long_as_they_are_there(store):
    found = facts_runs.whole(store, "late", facts_runs.newest(store, "late")["key"])
    assert facts_runs.report_pages(store, found) == {"explore": "runs/late/reports/explore.html"}
    (store.root / "runs/late/reports/explore.html").unlink()
    assert facts_runs.report_pages(store, found) == {}


def test_a_store_without_runs_has_none(tmp_path):
    empty = console_store.Store.open(tmp_path / "empty")
    assert facts_runs.listed(empty) == {"runs": [], "total": 0, "next": None}
    assert facts_runs.newest(empty, "late") is None
