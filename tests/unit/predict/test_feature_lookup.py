"""Rows without the columns of feature tables: looked up by the definitions of training, to the same bits."""

import datetime as dt

import pyarrow as pa
import pytest

import joined
from mlsys import errors
from mlsys.features.online import publishing
from mlsys.features.online.lookup import StoreSource, TableSource, open_store
from mlsys.predict import Predictor
from mlsys.store import Store

LATER = joined.START + dt.timedelta(days=1000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("lookup"))


@pytest.fixture(scope="module")
def model(store):
    return joined.fit(store)


@pytest.fixture(scope="module")
def online(store, model):
    """The tables of training in a store that remembers all of it."""
    found = open_store("sqlite", store.root)
    for view in model.views:
        publishing.publish(found, view, joined.tables()[view.name], history="400d", until=LATER)
    return StoreSource(found)


@pytest.fixture(scope="module", params=["store", "tables"])
def predictor(request, model, online):
    tables = TableSource(model.schema, lambda view: joined.tables()[view.name])
    return Predictor(model, source={"store": online, "tables": tables}[request.param])


@pytest.fixture(scope="module")
def plain(model):
    return Predictor(model)


@pytest.fixture(scope="module")
def sent():
    return joined.rows(60, seed=7)


@pytest.fixture(scope="module")
def truth(plain, sent):
    """What the model says of the rows as training would have joined them."""
    return plain.table(joined.join(sent))


def test_rows_with_keys_alone_are_the_bits_of_joined_rows(predictor, sent, truth):
    assert predictor.rows(joined.requests(sent)).score.tolist() == truth.score.tolist()
    assert predictor.table(sent).score.tolist() == truth.score.tolist()


def test_the_columns_that_are_looked_up_are_those_of_the_join(predictor, sent):
    names = ["temp", "wind", "plane_seats", "plane_maker"]
    expected = joined.join(sent).select(names).to_pylist()
    table, _ = predictor.lookup.table(sent)
    records, _ = predictor.lookup.records(joined.requests(sent))
    assert table.select(names).to_pylist() == expected
    assert [{name: record[name] for name in names} for record in records] == expected


def test_what_was_looked_up_is_counted_as_the_join_counts(predictor, sent):
    _, few = predictor.lookup.records(joined.requests(sent))
    _, many = predictor.lookup.table(sent)
    assert few.counts == many.counts
    assert {name: counts.total() for name, counts in few.counts.items()} == {"weather": 60, "planes": 60}
    assert few.counts["weather"]["matched"] == 60 - few.counts["weather"]["missing"] - few.counts["weather"]["too_old"]
    assert {"matched", "missing", "too_old"} == set(few.counts["weather"])


def test_rows_that_carry_all_columns_are_used_as_they_are(predictor, plain, sent):
    carried = joined.requests(joined.join(sent), keys_only=False)
    other = [{**row, "temp": 12.5, "wind": 3} for row in carried]
    assert predictor.rows(other).score.tolist() == plain.rows(other).score.tolist()
    assert predictor.lookup.records(other)[1].counts == {"weather": {"given": 60}, "planes": {"given": 60}}


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_rows_that_carry_all_columns_are_checked_and_nothing_is_looked_up(model, sent, num_rows):
    def no_table(view):
        raise AssertionError(f"{view.name} was looked up")

    lookup = Predictor(model, source=TableSource(model.schema, no_table)).lookup
    rows = joined.requests(joined.join(sent), keys_only=False)[:num_rows]
    records, looked = lookup.records(rows)
    assert [record["temp"] for record in records] == [row["temp"] for row in rows]
    assert {name: counts.total() for name, counts in looked.counts.items()} == {"weather": num_rows, "planes": num_rows}
    assert (looked.features, looked.unknown()) == ([{}] * num_rows, [0] * num_rows)
    for row in range(num_rows):
        with pytest.raises(errors.RequestError) as caught:
            lookup.records([*rows[:row], {**rows[row], "distance": "far"}, *rows[row + 1 :]])
        assert [(fault["row"], fault["field"]) for fault in caught.value.violations] == [(row, "distance")]


def test_columns_are_given_only_if_no_join_lacks_one(predictor, sent):
    keys = ["flight", "at", "origin", "tail", "distance"]
    assert predictor.lookup.is_given([*keys, "temp", "wind", "plane_seats", "plane_maker"])
    assert not predictor.lookup.is_given(keys)
    assert not predictor.lookup.is_given([*keys, "temp", "wind"])
    assert not predictor.lookup.is_given([*keys, "temp", "wind", "plane_seats"])


def test_one_join_can_be_carried_and_the_other_looked_up(predictor, sent):
    carried = [{**row, "temp": 12.5, "wind": 3} for row in joined.requests(sent)]
    records, looked = predictor.lookup.records(carried)
    assert {record["temp"] for record in records} == {12.5}
    assert looked.counts["weather"] == {"given": 60}
    assert looked.counts["planes"]["matched"] > 0


def test_a_part_of_a_join_is_a_fault_that_names_the_rest(predictor, sent):
    with pytest.raises(errors.RequestError) as caught:
        predictor.rows([{**joined.requests(sent)[0], "temp": 1.0}])
    assert caught.value.violations == [
        {"row": 0, "field": "wind", "got": "nothing",
         "expected": "all columns of 'weather', or none of them to have them looked up"}
    ]  # fmt: skip


def test_a_key_that_is_left_out_is_a_fault_and_one_that_is_null_is_not(predictor, sent):
    row = joined.requests(sent)[0]
    records, looked = predictor.lookup.records([{**row, "tail": None}])
    assert (records[0]["plane_seats"], looked.counts["planes"]) == (None, {"missing": 1})
    del row["tail"]
    with pytest.raises(errors.RequestError) as caught:
        predictor.rows([row])
    assert caught.value.violations == [
        {"row": 0, "field": "tail", "got": "nothing",
         "expected": "a key of 'planes', null if unknown; or all of plane_seats, plane_maker"}
    ]  # fmt: skip


def test_a_row_without_time_is_of_the_moment_at_which_it_is_asked(predictor, sent):
    row = joined.requests(sent)[0]
    now = dt.datetime.fromisoformat(row.pop("at"))
    records, _ = predictor.lookup.records([row], now)
    assert records[0]["at"] == now
    assert records[0]["temp"] == joined.join(sent.slice(0, 1))["temp"][0].as_py()
    table, _ = predictor.lookup.table(sent.slice(0, 1).drop_columns(["at"]), now)
    assert table["at"][0].as_py() == now
    assert table["temp"].to_pylist() == [records[0]["temp"]]
    much_later, looked = predictor.lookup.records([row])
    assert much_later[0]["temp"] is None
    assert looked.counts["weather"] in ({"too_old": 1}, {"missing": 1})


def test_a_row_whose_time_is_null_has_no_moment_to_look_up(predictor, sent):
    row = {**joined.requests(sent)[0], "at": None}
    records, looked = predictor.lookup.records([row])
    assert (records[0]["temp"], looked.counts["weather"]) == (None, {"missing": 1})


def test_columns_of_json_are_looked_up_as_rows_are(predictor, sent, truth):
    rows = joined.requests(sent)
    table, _ = predictor.lookup.columns({name: [row[name] for row in rows] for name in rows[0]})
    assert predictor.conformed_table(table).score.tolist() == truth.score.tolist()


def test_the_age_of_what_was_found_is_told(model, online, sent):
    row = {**joined.requests(sent)[0], "origin": "EWR"}
    reports = joined.tables()["weather"].to_pylist()
    hours = [report["hour"] for report in reports if report["station"] == "EWR"]
    row["at"] = (max(hours) + dt.timedelta(minutes=90)).isoformat()
    _, looked = Predictor(model, source=online).lookup.records([row])
    assert looked.features[0]["weather"].age_us == 90 * 60_000_000


def test_a_time_of_which_nothing_is_remembered_is_a_fault_and_no_guess(model, tmp_path, sent):
    short = open_store("sqlite", tmp_path)
    for view in model.views:
        publishing.publish(short, view, joined.tables()[view.name], history="1h", until=LATER)
    asked = Predictor(model, source=StoreSource(short))
    row = joined.requests(sent)[0]
    with pytest.raises(errors.RequestError) as caught:
        asked.rows([row])
    newest = max(joined.tables()["weather"]["hour"].to_pylist())
    since = (newest - dt.timedelta(hours=1)).isoformat()
    assert caught.value.violations == [
        {"row": 0, "field": "at", "got": "an earlier time",
         "expected": f"a time from {since} on, since when 'weather' is remembered; or its columns"}
    ]  # fmt: skip
    with pytest.raises(errors.RequestError, match="an earlier time"):
        asked.table(sent)
    assert len(asked.rows([{**row, "at": newest.isoformat()}])) == 1


def test_a_table_that_was_never_published_is_said_to_be(store, model, tmp_path, sent):
    for source in (StoreSource(open_store("sqlite", tmp_path)), TableSource.latest(store, model.schema)):
        with pytest.raises(errors.StoreError, match=r"(?s)table 'weather'.*never published.*mlsys materialize"):
            Predictor(model, source=source).rows(joined.requests(sent)[:1])


def test_columns_that_nobody_knows_do_not_fill_the_memory(predictor, sent):
    row = joined.requests(sent)[0]
    for number in range(20):
        with pytest.raises(errors.RequestError):
            predictor.rows([{**row, f"unknown{number}": 1}])
    assert len(predictor.lookup._plans) < 20


def test_joins_of_which_the_model_reads_no_column_are_not_looked_up(model, online):
    contract = type(Predictor(model).contract)(model.schema, ["distance", "temp", "wind"])
    from mlsys.predict.feature_lookup import FeatureLookup

    assert [view.name for view in FeatureLookup(model.views, contract, online).views] == ["weather"]


def test_a_table_whose_key_comes_from_another_table_is_looked_up_after_it(model, online, store, sent):
    """Makers by name: the key is a column that the aircraft gives."""
    from mlsys import recipe
    from mlsys.features.online import views
    from mlsys.predict.feature_lookup import FeatureLookup
    from mlsys.predict.validation import RequestValidator
    from mlsys.schema import Schema

    makers = Schema(columns=(joined.column("maker", "string"), joined.column("country", "string")))
    spec = recipe.Join(source="m.csv", keys={"plane_maker": "maker"})
    view = views.define("makers", spec, makers, model.schema, owner=joined.NAME)
    found = open_store("sqlite", store.root)
    table = pa.table({"maker": ["AIRBUS", "BOEING"], "country": ["FR", "US"]})
    publishing.publish(found, view, table, history="1d", until=LATER)
    whole = Schema(columns=(*model.schema, joined.column("country", "string")))
    lookup = FeatureLookup([*model.views, view], RequestValidator(whole, [*whole.names]), StoreSource(found))
    expected = {"AIRBUS": "FR", "BOEING": "US", None: None}
    records, _ = lookup.records(joined.requests(sent))
    assert [record["country"] for record in records] == [expected[record["plane_maker"]] for record in records]
    assert lookup.table(sent)[0]["country"].to_pylist() == [record["country"] for record in records]
