"""Lists of models, of what happened to a name, and of what runs: keys that scripts may rely on."""

import datetime as dt

import pytest

from endpoint_files import model
from mlsys import errors, registry
from mlsys.registry import ledger
from mlsys.store import Store, write_json
from mlsys.workflow import inventory


@pytest.fixture
def store(tmp_path):
    """Two versions of `late`, of which the second was rolled back."""
    store = Store.open(tmp_path / "store")
    for letter in "ab":
        registry.register(store, "late", model(letter), metrics={"roc_auc": 0.75})
    for version in (1, 2):
        registry.set_alias(store, "late", "champion", version, f"number {version}")
    registry.rollback(store, "late", "champion", "worse")
    return store


def test_models_are_listed_with_versions_aliases_and_metrics(store):
    (listed,) = inventory.models(store)
    assert (listed["name"], listed["aliases"], listed["endpoint"]) == ("late", {"champion": 1}, None)
    assert [
        (row["version"], row["aliases"], row["rolled_back"], row["metrics"], row["stored"])
        for row in listed["versions"]
    ] == [(2, [], ["champion"], {"roc_auc": 0.75}, False), (1, ["champion"], [], {"roc_auc": 0.75}, False)]
    assert set(listed["versions"][0]) == {
        "version", "digest", "at", "who", "family", "metrics", "aliases", "rolled_back", "stored"
    }  # fmt: skip
    text = inventory.models_text([listed])
    assert "late: served nowhere" in text
    assert "rolled back from champion, its bundle is not in the store" in text


def test_history_says_who_when_and_why(store):
    lines = inventory.history(store, "late", "champion")
    moves = [line for line in lines if line["kind"] != "deploying"]
    assert [(line["kind"], line["version"], line["reason"]) for line in moves if line["kind"] != "register"] == [
        ("move", 1, "number 1"), ("move", 2, "number 2"), ("rollback", 1, "worse")
    ]  # fmt: skip
    assert all(line["who"] for line in lines)
    assert set(lines[0]) == {"at", "kind", "version", "digest", "alias", "who", "reason", "url"}


def test_an_alias_that_a_name_never_had_is_refused(store):
    for ask in (
        lambda: inventory.history(store, "late", "champoin"),
        lambda: inventory.served_then(store, "late", "2024", "x"),
    ):
        with pytest.raises(errors.RegistryError, match=r"history: 'late'\n  got:      (champoin|x)\n[\s\S]*'?champion"):
            ask()


def test_a_time_says_what_served_then(store):
    moves = registry.history(store, "late", "champion")
    between = [(moves[n].at + (moves[n + 1].at - moves[n].at) / 2).isoformat() for n in range(2)]
    assert [inventory.served_then(store, "late", at)[0]["version"] for at in between] == [1, 2]
    now = dt.datetime.now(dt.UTC).isoformat()
    assert inventory.served_then(store, "late", now)[0]["version"] == 1
    assert inventory.served_then(store, "late", "2001-01-01") == []
    assert inventory.history_text([]) == "nothing served then"


def test_a_time_that_is_none_is_refused(store):
    with pytest.raises(errors.RecipeError) as caught:
        inventory.served_then(store, "late", "yesterday")
    assert str(caught.value) == (
        "history: --at\n  got:      'yesterday'\n  expected: a time in ISO 8601, e.g. 2024-05-01T12:00"
    )


def test_status_names_work_in_progress_and_what_was_not_ended(store):
    entry = registry.resolve(store, "late", 2)
    registry.intend(store, entry, "champion", reason="to die")
    state = inventory.status(store)
    work = {"at_work", "unfinished", "canaries", "decisions", "alerts", "maintenance"}
    assert set(state) == {"store", "cluster", "endpoints", "together", *work}
    assert (state["cluster"], state["endpoints"], state["at_work"]) == (None, [], {})
    assert state["unfinished"]["late"]["reason"] == "to die"
    assert "late: version 2 as champion was begun by" in inventory.status_text(state)
    with registry.locked(store, "late", "deploy"):
        state = inventory.status(store)
    assert state["unfinished"] == {}
    assert state["at_work"]["late"].startswith("deploy of 'late': ")


def test_models_that_are_served_together_are_said_to(store):
    noted = {"url": "http://127.0.0.1:9", "cluster": "c", "models": {"late": "champion"}, "most_bytes": 1 << 20}
    write_json(store.root / "cluster" / "together.json", noted)
    state = inventory.status(store)
    assert state["together"] == {**noted, "held": None, "answers": False}
    assert inventory.status_text(state).splitlines()[-1] == (
        "together: late@champion at http://127.0.0.1:9, which does not answer"
    )
    listed = inventory.models(store)
    assert listed[0]["together"] == "http://127.0.0.1:9/late"
    assert inventory.models_text(listed).startswith("late: served with others at http://127.0.0.1:9/late\n")


def test_an_endpoint_that_does_not_answer_is_said_to(store):
    entry = registry.resolve(store, "late", 1)
    ledger.write(store, "served", entry, "champion", facts={"url": "http://127.0.0.1:9/late", "cluster": "c"})
    write_json(store.run_folder("late") / "result.json", {"monitor": {"decision": "watch", "summary": "s"}})
    state = inventory.status(store)
    assert inventory.status_text(state).splitlines()[1:] == [
        "late: was served at http://127.0.0.1:9/late, which does not answer", "late: monitor says watch"
    ]  # fmt: skip


def test_reports_are_paths_by_name_and_page(store):
    folder = store.run_folder("late") / "reports"
    folder.mkdir()
    (folder / "explore.html").write_text("<p>")
    assert inventory.reports(store) == {"late": {"explore": str(folder / "explore.html")}}
    with pytest.raises(errors.RegistryError, match="did you mean 'late'"):
        inventory.reports(store, "lte")
