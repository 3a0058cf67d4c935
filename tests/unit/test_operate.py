"""Operating models from Python and from the command line: one code, one result, one exit code."""

from __future__ import annotations

import inspect
import json
import sqlite3

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import mlsys
from bundles import CLASSES, fit
from mlsys import errors, operate, registry
from mlsys.alerts import alert_delivery
from mlsys.alerts.alert_book import Condition
from mlsys.cli import app
from mlsys.deploy import prediction_log
from mlsys.store import Store
from mlsys.workflow import retention


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A store with a bundle that can be registered."""
    return fit(Store.open(tmp_path_factory.mktemp("model")))


@pytest.fixture
def home(model, tmp_path, monkeypatch):
    """A store with one version of `train` and no cluster; MLflow is down."""
    for variable in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLSYS_STORE", str(tmp_path / "store"))
    assert operate.add("train", model.folder).version == 1
    return tmp_path / "store"


def called(*words):
    """The exit code and the output of a command."""
    done = CliRunner().invoke(app, words, catch_exceptions=True)
    return done.exit_code, done.output, done.exception


def test_each_function_has_a_verb_of_its_name_and_says_what_it_does():
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    functions = {
        name: value for name, value in inspect.getmembers(mlsys.operate, inspect.isfunction)
        if value.__module__ == "mlsys.operate" and name != "is_recipe"
    }  # fmt: skip
    of_groups = {"add", "submit", "jobs", "job", "cancel"}  # of `mlsys registry` and `mlsys batch`
    of_groups |= {"serve_together", "served_together", "stop_together"}  # of `mlsys together`
    assert set(functions) - of_groups <= verbs
    assert all(" " in function.__doc__ for function in functions.values())


def test_a_name_is_promoted_and_listed(home):
    change = operate.promote("train@1", reason="the first")
    assert (change.to_json()["version"], change.warning[:8]) == (1, "warning:")
    (listed,) = operate.models("train")
    assert listed["aliases"] == {"champion": 1}
    assert [line["reason"] for line in operate.history("train", alias="champion")][-1] == "the first"
    assert operate.history("train", at="2020-01-01") == []
    assert operate.status(store=home)["endpoints"] == []
    with pytest.raises(errors.RegistryError, match="an earlier one to go back to"):
        operate.rollback("train")
    assert operate.undeploy("train") is False


def test_verbs_of_many_models_say_where_none_run_and_that_a_name_is_served_with_others(home):
    code, text, _ = called("together", "show")
    assert (code, text.strip()) == (0, "no models are served together; `mlsys together serve NAME…` does")
    assert called("together", "stop", "--json")[1].split() == ["{", '"ended":', "false", "}"]
    assert "did you mean 'train'" in str(called("together", "serve", "trian")[2])
    noted = {"url": "http://127.0.0.1:9", "cluster": "c", "models": {"train": "champion"}, "most_bytes": 1}
    (home / "cluster").mkdir(exist_ok=True)
    (home / "cluster" / "together.json").write_text(json.dumps(noted))
    assert "it is served with others at http://127.0.0.1:9: `mlsys together serve`" in called("undeploy", "train")[1]
    assert json.loads(called("together", "show", "--json")[1]) == {**noted, "held": None, "answers": False}


def test_a_model_without_predictions_is_kept(home):
    operate.promote("train@1", reason="the first")
    assert operate.monitor("train").decision == "keep"
    with pytest.raises(errors.RegistryError, match="did you mean 'train'"):
        operate.monitor("trian")


def test_alerts_are_listed_acknowledged_muted_and_tried(home):
    operate.promote("train@1", reason="the first")
    assert called("alerts", "train")[1].startswith("no alerts of 'train'\nsent to: nowhere; monitor.alerts of a recipe")
    store = Store(home)
    entry = registry.resolve(store, "train")
    registry.configure(store, entry, {"monitor": {"alerts": [{"to": "file", "path": "alerts.jsonl"}]}})
    alert_delivery.tell(store, "train", (), [Condition("retrain", "critical", "Retrain: now.")])
    (alert,) = operate.alerts("train").book.alerts
    assert called("alerts", "train", "--ack", alert.id[:5], "--mute", "all", "--until", "8h")[0] == 0
    code, text, _ = called("alerts", "train", "--test", "--json")
    listed = json.loads(text)
    assert (code, listed["alerts"][0]["id"], list(listed["mutes"])) == (0, alert.id, ["all"])
    assert listed["alerts"][0]["acknowledged_by"]
    assert listed["tried"] == [{"place": "file alerts.jsonl", "error": None}]
    assert json.loads((home / "alerts.jsonl").read_text())["event"] == "test"
    with pytest.raises(errors.RecipeError, match="a time in ISO 8601"):
        operate.alerts("train", mute="all", until="soon")
    with pytest.raises(errors.RecipeError, match="--mute without --until"):
        operate.alerts("train", mute="all")
    with pytest.raises(errors.RegistryError, match="did you mean 'train'"):
        operate.alerts("trian")


def log_rows(home, ids):
    """A prediction log with rows of these ids."""
    folder = prediction_log.folder_of(Store(home), "train") / "2024-01-01"
    folder.mkdir(parents=True)
    table = pa.table({
        "prediction_id": ids, "logged_at": pa.array([0] * len(ids), pa.timestamp("us", "UTC")),
    })  # fmt: skip
    import pyarrow.parquet as pq

    pq.write_table(table, folder / "writer-000000000000.parquet")


def test_labels_of_a_database_query_are_taken_once(home, tmp_path):
    operate.promote("train@1", reason="the first")
    log_rows(home, ["a", "b"])
    with sqlite3.connect(tmp_path / "late.db") as database:
        database.execute("create table answers (which text, answer text, kind text)")
        rows = [("a", CLASSES["binary"][1], "final"), ("b", CLASSES["binary"][0], "draft"), ("c", "0", "final")]
        database.executemany("insert into answers values (?, ?, ?)", [(i, str(v), kind) for i, v, kind in rows])
    database.close()
    source = f"sqlite:///{tmp_path}/late.db"
    query = "SELECT which AS prediction_id, answer AS label FROM answers WHERE kind = 'final'"
    code, output, _ = called("labels", "train", source, "--set", f"reading.query={query}", "--json")
    assert code == 0
    taken = json.loads(output)
    assert {key: taken[key] for key in ("new", "known", "rows", "matched")} == {
        "new": 2, "known": 0, "rows": 2, "matched": 1,
    }  # fmt: skip
    again = operate.labels("train", source, set={"reading.query": query})
    assert (again.added.num_new, again.added.num_known) == (0, 2)
    with pytest.raises(errors.RecipeError, match="reading"):
        operate.labels("train", source)


@pytest.mark.parametrize("words", [
    ["models"], ["models", "train"], ["history", "train"], ["history", "train", "--at", "2020-01-01"], ["status"],
    ["gc"], ["gc", "--yes"], ["open"], ["logs"], ["promote", "train@1", "--reason", "x"], ["undeploy", "train"],
    ["monitor", "train@1"], ["registry", "add", "train", "FOLDER"], ["rollout", "train"],
])  # fmt: skip
def test_every_verb_of_a_name_prints_json_that_can_be_read(home, model, words):
    words = [str(model.folder) if word == "FOLDER" else word for word in words]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0
    json.loads(done.stdout)


@pytest.mark.parametrize("words", [
    ["models", "nobody"], ["history", "nobody"], ["undeploy", "nobody"], ["rollback", "nobody"],
    ["promote", "nobody@1", "--reason", "x"], ["deploy", "nobody"], ["rollout", "nobody"], ["monitor", "nobody"],
    ["labels", "nobody", "l.csv"], ["predict", "nobody", "a.csv", "out"], ["open", "nobody"], ["logs", "nobody"],
    ["registry", "add", "train", "no/such/folder"], ["registry", "sync"], ["history", "train", "--at", "noon"],
])  # fmt: skip
def test_every_refusal_says_where_what_and_what_was_expected(home, words):
    done = CliRunner().invoke(app, words)
    error = done.exception
    if isinstance(error, SystemExit):  # the verb printed the message itself
        assert error.code == 2
        text = done.output
    else:
        assert isinstance(error, errors.MlsysError), error
        text = str(error)
    assert "\n  got:      " in text
    assert "\n  expected: " in text


def test_an_option_without_effect_is_refused(home, tmp_path):
    (tmp_path / "r.yaml").write_text("name: r\ntarget: y\ndata: {source: a.csv}\n")
    for words, hint in (
        (["deploy", str(tmp_path / "r.yaml"), "--alias", "staging"], "--set deploy.alias=…"),
        (["deploy", "train", "--set", "deploy.port=1"], "as it was deployed last"),
        (["deploy", str(tmp_path / "r.yaml"), "--canary", "5%"], "--set deploy.rollout.steps=[5,25,50,100]"),
    ):
        _, _, error = called(*words)
        assert isinstance(error, errors.RecipeError)
        assert hint in str(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--canary", "some"], "deploy: --canary\n  got:      some\n  expected: percent of the requests, e.g. 5% or"),
        (["--steps", "50,25"], "steps that rise to 100"),
        (["--canary", "5%", "--every", "soon"], "a number and a unit"),
        (["--canary", "5%"], "got:      no endpoint\n  expected: one that answers with what champion means"),
    ],
)
def test_a_canary_that_cannot_begin_is_refused_and_starts_no_cluster(home, options, message):
    registry.set_alias(Store(home), "train", "champion", 1, "the first")
    _, _, error = called("deploy", "train@1", *options)
    assert isinstance(error, errors.MlsysError)
    assert message in str(error)
    assert called("rollout", "train")[1] == (
        "train never had a canary; `mlsys deploy train@VERSION --canary 5%` begins one\n"
    )


def test_gc_lists_and_deletes(home):
    registry.set_alias(Store(home), "train", "champion", 1, "the first")
    lost = Store(home).put_json("profile", 1)
    assert [row.path.name for row in operate.gc(days=0)] == [lost]
    assert [row.path.name for row in operate.gc(days=0, delete=True)] == [lost]
    assert operate.gc(days=0) == retention.leftovers(Store(home), 0) == []
    assert registry.resolve(Store(home), "train", 1).version == 1
