"""Rows that training saw and did not see give the same numbers on every path, or the version is refused."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundles import fit, rows, schema
from mlsys import errors
from mlsys.bundle import open as open_bundle
from mlsys.deploy import parity, parity_rows, rehearsal
from mlsys.deploy.service import load
from mlsys.predict import Predictions
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

ROWS = 230


def split(store, table):
    """A stored division that has these rows for validation; returns its digest."""
    facts = {"schema": schema().model_dump(mode="json"), "num_rows": {"validation": table.num_rows}, "num_folds": 2}

    def write(folder):
        (folder / "validation").mkdir()
        pq.write_table(table, folder / "validation" / "part-000000.parquet")
        return {**facts, "forward": False}

    return store.put("split", write)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model(store):
    return load(store, LedgerEntry("late", 1, fit(store).digest))


@pytest.mark.parametrize("kind", TaskKind)
def test_every_kind_of_task_gives_the_same_numbers_on_every_path(store, kind):
    loaded = load(store, LedgerEntry("late", 1, fit(store, kind).digest))
    certificate = parity.make(store, loaded, ROWS)
    assert certificate.is_equal
    assert certificate.ulps == {"batch": 0, "http": 0}
    assert certificate.decisions == {"batch": 0, "http": 0}
    assert certificate.latency_ms["p50"] > 0
    assert certificate.memory_mb > 10
    assert list(certificate.edges) == sorted(set(certificate.edges))
    assert len(certificate.edges) > 10


def test_probabilities_are_counted_in_equal_steps_and_numbers_between_quantiles(model):
    sure, surer = ({"probabilities": np.array([[1 - p, p]]), "score": np.array([p])} for p in (0.97, 0.9999))
    task = model.predictor.task
    edges = parity.score_edges(Predictions(task, np.array([True]), **sure))
    assert edges == parity.score_edges(Predictions(task, np.array([True]), **surer))
    assert (len(edges), edges[0], edges[-1]) == (19, 0.05, 0.95)
    values = np.append(np.arange(64.0), np.inf)
    assert parity.score_edges(Predictions(task, values, None, values)) == tuple(np.arange(1.0, 63.0, 2.0))


def test_the_rows_have_nulls_unknown_categories_and_extremes(model):
    bundle = model.predictor.bundle
    table = parity_rows.generate(bundle, 1_000)
    assert table.equals(parity_rows.generate(bundle, 1_000))
    assert table.column_names == bundle.schema.names
    for name in ("distance", "carrier", "night", "departs"):
        assert 20 < table[name].null_count < 200
    assert table["seats"].null_count == 0
    assert min(table["seats"].to_pylist()) >= 0
    assert {"never seen before", "AA"} <= set(table["carrier"].to_pylist())
    assert 1.7976931348623157e308 in table["distance"].to_pylist()
    assert sum(model.predictor.unseen(model.predictor.conform(table)).values()) > 20


def test_every_second_row_is_a_validation_row_where_the_store_has_them(tmp_path):
    store, held_out = Store.open(tmp_path), rows(100, seed=9)
    digest = split(store, held_out)
    bundle = open_bundle(store, fit(store, provenance={"split": digest}).digest)
    real = parity_rows.validation_rows(store, bundle, 60)
    table = parity_rows.generate(bundle, 120, real)
    names = [name for name in table.column_names if name != "flight"]
    assert table.select(names).to_pylist()[::2] == held_out.slice(0, 60).select(names).to_pylist()
    generated = parity_rows.generate(bundle, 120)
    assert table.to_pylist()[1::2] == generated.to_pylist()[1::2]
    certificate = parity.make(store, load(store, LedgerEntry("late", 1, bundle.digest)), 120)
    assert (certificate.is_equal, certificate.num_real) == (True, 60)


def test_a_value_that_a_request_may_not_carry_is_not_taken_from_a_real_row(model):
    table = pa.table({"seats": [-5, None, 60], "carrier": ["ZZ", None, "AA"], "distance": [2.5, math.inf, math.nan]})
    mixed, generated = (parity_rows.generate(model.predictor.bundle, 6, real) for real in (table, None))
    assert mixed["seats"].to_pylist() == [*generated["seats"].to_pylist()[:4], 60, generated["seats"][5].as_py()]
    assert mixed["carrier"].take([0, 2, 4]).to_pylist() == ["ZZ", None, "AA"]
    assert mixed["distance"].to_pylist() == [2.5, *generated["distance"].to_pylist()[1:]]
    assert mixed["load"].equals(generated["load"])


def test_a_version_whose_validation_rows_are_gone_is_proved_by_generated_ones(store, model):
    bundle = open_bundle(store, fit(store, provenance={"split": "0" * 64}).digest)
    assert parity_rows.validation_rows(store, bundle, 10) is None
    assert parity_rows.validation_rows(store, model.predictor.bundle, 10) is None


@pytest.mark.parametrize("path", ["of_http", "of_batch"])
def test_other_numbers_on_a_path_are_refused_and_the_certificate_says_so(store, tmp_path, model, monkeypatch, path):
    honest = getattr(parity, path)

    def off(*args):
        done = honest(*args)
        result = done[0] if path == "of_http" else done
        result.scores[3] += 1e-9
        return done

    monkeypatch.setattr(parity, path, off)
    monkeypatch.setattr(parity, "file_of", lambda *_: tmp_path / "certificate.json")
    with pytest.raises(errors.ParityError) as caught:
        parity.certify(store, model, ROWS)
    name = path.removeprefix("of_")
    assert str(caught.value).startswith(
        f"deploy: late version 1, path '{name}'\n  got:      scores up to 1e-09 from those of training, and "
        "0 other decisions, in 230 rows\n  expected: the same numbers on every path, to 1 unit in the last place\n"
    )
    written = json.loads((tmp_path / "certificate.json").read_text())
    assert (written["equal"], written["differences"][name]) == (False, pytest.approx(1e-9, rel=1e-3))


def test_a_certificate_that_holds_is_not_made_again(store, model, monkeypatch):
    first = parity.certify(store, model, ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(parity, "make", lambda *_: pytest.fail("made again"))
        assert parity.certify(store, model, ROWS) == first
        assert parity.known(store, first.digest, ROWS + 1) is None
    monkeypatch.setattr(parity, "libraries", lambda: {"numpy": "0"})
    assert parity.known(store, first.digest, ROWS) is None
    assert parity.certify(store, model, ROWS).libraries == {"numpy": "0"}


def test_a_damaged_certificate_is_made_again(store, model):
    file = parity.file_of(store, model.entry.digest)
    parity.certify(store, model, ROWS)
    file.write_text('{"digest": "x"}')
    assert parity.known(store, model.entry.digest, ROWS) is None
    assert parity.certify(store, model, ROWS).is_equal


def test_the_process_of_a_rehearsal_leaves_the_certificate_beside_the_version(store):
    entry = LedgerEntry("late", 1, fit(store, seed=5).digest)
    certificate = rehearsal.rehearse(store, entry, num_rows=120)
    assert certificate == parity.known(store, entry.digest, 120)
    assert parity.file_of(store, entry.digest).parent == store.root / "registry" / "certificates"


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ([1.0], [1.0], 0),
        ([1.0], [np.nextafter(1.0, 0)], 1),
        ([-5e-324], [5e-324], 2),
        ([np.nan], [-np.nan], 0),
        ([1.0, 2.0], [1.0], 1 << 62),
    ],
)
def test_distances_count_the_doubles_between(first, second, distance):
    assert parity.ulps(np.array(first), np.array(second)) == distance


def test_nan_beside_a_number_is_far_away():
    assert parity.ulps(np.array([np.nan]), np.array([0.5])) > 1 << 50
    assert parity.largest_difference(np.array([np.nan]), np.array([0.5])) == np.inf


def test_bytes_and_times_are_sent_as_json_has_them():
    table = pa.table({"a": [b"x", None], "b": pa.array([0, 1], pa.timestamp("us", "UTC"))})
    assert parity_rows.as_json(table) == [
        {"a": "eA==", "b": "1970-01-01T00:00:00+00:00"},
        {"a": None, "b": "1970-01-01T00:00:00.000001+00:00"},
    ]
