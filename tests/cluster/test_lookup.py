"""A run whose rows are joined with feature tables, its endpoint asked with keys alone, and the tables renewed."""

import datetime as dt
import json
import shlex
import subprocess
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import joined
from mlsys import bundle, errors, recipe
from mlsys.console import Console
from mlsys.dataset import Split
from mlsys.deploy import batch
from mlsys.predict import Predictor
from mlsys.workflow import Run, run, tables

NAME = "joined"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sources: rows, weather by the hour, aircraft."""
    folder = tmp_path_factory.mktemp("sources")
    pq.write_table(joined.rows(2_000), folder / "rows.parquet")
    for name, table in joined.tables().items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def settings(folder, **deploy):
    """A recipe that is quick to run and keeps all of the weather."""
    joins = {
        name: {**join.model_dump(mode="json"), "source": str(folder / f"{name}.parquet")}
        for name, join in joined.JOINS.items()
    }
    tree = {
        "name": NAME,
        "target": "y",
        "data": {"source": str(folder / "rows.parquet"), "id": "flight", "time": "at", "ignore": ["tail"]},
        "features": {"joins": joins},
        "split": {"by": "random"},
        "selection": {"families": ["dummy"]},
        "train": {"family": "xgboost", "rounds": 8},
        "tune": {"trials": 0},
        "evaluate": {"bootstrap": 20},
        "deploy": {"port": 0, "max_replicas": 1, "history": "400d", **deploy},
    }
    return recipe.Recipe.model_validate(tree)


@pytest.fixture(scope="module")
def deploy(store, endpoints, folder):
    """Runs the recipe up to its endpoint; what did not change is not done again."""

    def deploy(**changes):
        return run(Run(settings(folder, **changes), store, Console()), "deploy")

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield deploy


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def done(request, deploy):
    address = "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis_server")
    return deploy(lookup=address)


def rows_of(finished, part):
    return Split.open(finished.store, finished.results["collect"].split).table(part)


def ask(finished, rows, **params):
    url = finished.records["deploy"]["endpoint"]["url"] + "/invocations"
    body = json.dumps({"dataframe_records": rows, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from error


def test_training_rows_asked_with_their_keys_alone_get_the_bits_of_training(done):
    """The rows of the split carry the columns that collect joined; the requests do not."""
    table = rows_of(done, "train").slice(0, 300)
    truth = Predictor(bundle.open(done.store, done.results["train"].bundle)).table(table).probabilities.tolist()
    body = ask(done, joined.requests(table), features=True)
    assert body["probabilities"] == truth
    for row, found in zip(table.to_pylist(), body["features"], strict=True):
        values = {**found["weather"]["values"], **found["planes"]["values"]}
        assert values == {name: row[name] for name in values}
    singly = [ask(done, [row])["probabilities"][0] for row in joined.requests(table.slice(0, 20))]
    assert singly == truth[:20]


def test_the_command_line_that_is_printed_asks_with_keys_alone(done):
    curl = done.records["deploy"]["endpoint"]["curl"]
    found = subprocess.run(shlex.split(curl), capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout)["predictions"][0] in (True, False)
    (row,) = json.loads(shlex.split(curl)[-1])["dataframe_records"]
    assert set(row) == {"flight", "at", "origin", "tail", "distance"}


def test_new_values_reach_the_endpoint_without_training(done, folder):
    """Weather of a day later: unknown at first, then materialized; the second time there is nothing to do."""
    moment = joined.START + dt.timedelta(hours=joined.HOURS + (24 if done.recipe.deploy.lookup == "sqlite" else 48))
    row = {"flight": "x", "at": moment.isoformat(), "origin": "EWR", "tail": "N1", "distance": 500.0}
    before = ask(done, [row], features=True)
    assert before["features"][0]["weather"]["status"] == "too_old"
    source = folder / "weather.parquet"
    late = pa.table({"station": ["EWR"], "hour": [moment - dt.timedelta(minutes=30)], "temp": [71.5], "wind": [9]})
    pq.write_table(pa.concat_tables([pq.read_table(source), late.cast(joined.WEATHER.arrow())]), source)
    published = tables.materialize(done.context())
    assert [(one.view.split("/")[1], one.num_keys) for one in published] == [("weather", 1), ("planes", 0)]
    after = ask(done, [row], features=True)
    expected = {"status": "matched", "age_s": 1800.0, "values": {"temp": 71.5, "wind": 9}}
    assert after["features"][0]["weather"] == expected
    assert after["model"] == before["model"]
    assert [one.num_keys for one in tables.materialize(done.context())] == [0, 0]


def test_files_of_keys_are_joined_with_the_tables_published_last(done, store, tmp_path):
    table = rows_of(done, "test")
    pq.write_table(table.select(["flight", "at", "origin", "tail", "distance"]), tmp_path / "rows.parquet")
    result = batch.predict(store, NAME, tmp_path / "rows.parquet", tmp_path / "out")
    truth = Predictor(bundle.open(store, result.digest)).table(table).score.tolist()
    assert pq.read_table(tmp_path / "out")["probability_true"].to_pylist() == truth
    assert result.lookup["planes"]["matched"] + result.lookup["planes"]["missing"] == table.num_rows


def test_deploying_an_old_table_again_does_not_undo_what_was_materialized(done):
    views = bundle.open(done.store, done.results["train"].bundle).views
    assert tables.publish(done.context(), views, done.results["collect"].tables) == []


def test_other_joins_than_those_of_the_served_model_are_not_materialized(done, store, folder):
    other = settings(folder).model_copy(update={"features": recipe.FeaturesSection()})
    with pytest.raises(errors.RecipeError, match=r"other definitions of planes, weather"):
        tables.materialize(Run(other, store).context())
