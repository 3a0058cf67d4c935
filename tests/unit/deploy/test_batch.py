import errno
import gzip
import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from bundles import fit, requests, rows
from mlsys import errors, recipe, registry
from mlsys.deploy import batch, batch_worker
from mlsys.predict import Predictor
from mlsys.readers import parquet
from mlsys.readers import registry as readers
from mlsys.recipe import Reading
from mlsys.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("batch"))
        bundle = fit(store)
        registry.set_alias(store, "late", "champion", registry.register(store, "late", bundle), "test")
    return store


@pytest.fixture(scope="module")
def predictor(store):
    from mlsys import bundle

    return Predictor(bundle.open(store, registry.resolve(store, "late").digest))


@pytest.fixture(scope="module")
def table():
    return rows(300, seed=31).drop_columns(["y"])


def write(path, table):
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=70)
    elif name.endswith((".csv", ".csv.gz", ".tsv")):
        delimiter = "\t" if name.endswith(".tsv") else ","
        with pa.output_stream(path) as stream:
            pacsv.write_csv(table, stream, pacsv.WriteOptions(delimiter=delimiter))
    else:
        text = "".join(json.dumps(record) + "\n" for record in requests(table.append_column("y", pa.nulls(len(table)))))
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(folder):
    return pq.read_table(folder)


def bits(folder):
    """Everything of an output that follows from its rows: all but the time of the run."""
    return read(folder).drop_columns(["predicted_at"])


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.jsonl.gz"])
def test_every_format_is_predicted_to_the_bits_of_the_process(store, predictor, table, tmp_path, name):
    result = batch.predict(store, "late", write(tmp_path / name, table), tmp_path / "out")
    truth = predictor.table(table)
    found = read(tmp_path / "out")
    assert found["prediction"].to_pylist() == truth.prediction.tolist()
    assert found["probability_true"].to_pylist() == truth.probabilities[:, 1].tolist()
    assert found["flight"].to_pylist() == table["flight"].to_pylist()
    assert set(found["model_version"].to_pylist()) == {"1"}
    assert (result.num_rows, result.num_rejected) == (300, 0)


def test_the_order_of_the_rows_stays_over_files_and_row_groups(store, table, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_ROWS", 100)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 32)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.parquet", table.slice(number * 100, 100))
    batch.predict(store, "late@1", folder, tmp_path / "out")
    assert read(tmp_path / "out")["flight"].to_pylist() == table["flight"].to_pylist()
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_rows_with_large_cells_are_predicted_a_few_at_a_time(store, predictor, tmp_path, monkeypatch, name):
    """Whatever the reader hands over at once: 300 rows here, of which 20 have notes of a thousand letters."""
    table = rows(300, seed=31).drop_columns(["y"])
    notes = pa.array(["x" * 1_000 if number % 15 == 0 else "" for number in range(300)])
    table = table.set_column(table.column_names.index("flight"), "flight", notes)
    whole = batch.predict(store, "late", write(tmp_path / name, table), tmp_path / "whole")
    sizes, batched = [], batch_worker.BatchPredictor._batch

    def counted(self, fragment, part):
        sizes.append((len(part.rows), part.table.nbytes))
        return batched(self, fragment, part)

    monkeypatch.setattr(batch_worker, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(batch_worker.BatchPredictor, "_batch", counted)
    parts = batch.predict(store, "late", tmp_path / name, tmp_path / "parts")
    assert bits(tmp_path / "parts").equals(bits(tmp_path / "whole"))
    assert parts.num_rows == whole.num_rows == sum(count for count, _ in sizes) == 300
    assert len(sizes) > 5
    assert max(size for _, size in sizes) < 3 * 4_000


def test_json_columns_are_texts_or_numbers_in_all_parts_alike(store, tmp_path, monkeypatch):
    """A file whose numbers are numbers in some rows and texts in others is read the same in parts as at once."""
    lines = [{"seats": number if number % 3 else str(number), "distance": str(number)} for number in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"max_rejected_fraction": 1.0, "settings": ['reading.thousands=","']}
    batch.predict(store, "late", tmp_path / "a.jsonl", tmp_path / "whole", **given)
    monkeypatch.setattr(batch_worker, "BATCH_BYTES", 10)
    batch.predict(store, "late", tmp_path / "a.jsonl", tmp_path / "parts", **given)
    assert bits(tmp_path / "parts").equals(bits(tmp_path / "whole"))


def test_a_large_parquet_file_is_several_fragments(tmp_path, table, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_ROWS", 140)
    parts = readers.split(readers.find(write(tmp_path / "a.parquet", table), Reading())[0])
    assert [(part.row_groups, part.first_row) for part in parts] == [((0, 1), 0), ((2, 3), 140), ((4,), 280)]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_rows_that_do_not_fit_are_set_aside_with_their_reasons(store, table, tmp_path, name):
    bad = table.to_pylist()
    bad[5]["seats"] = -4
    bad[9]["seats"] = None
    schema = pa.schema([field.with_nullable(True) for field in table.schema])
    result = batch.predict(store, "late", write(tmp_path / name, pa.Table.from_pylist(bad, schema)), tmp_path / "out")
    assert (result.num_rows, result.num_rejected) == (300, 2)
    kept = read(tmp_path / "out")
    assert kept["flight"].to_pylist() == [row["flight"] for row in bad if row["flight"] not in ("F31-5", "F31-9")]
    rejected = pq.read_table(tmp_path / "out" / "_rejected").to_pylist()
    assert [(row["file"], row["row"]) for row in rejected] == [(name, 5), (name, 9)]
    assert rejected[0]["reasons"] == "seats: got number -4, expected an integer (int64) of at least 0"
    assert rejected[1]["reasons"] == "seats: got null, expected an integer (int64) of at least 0, never null"
    assert json.loads(rejected[0]["content"])["flight"] == "F31-5"
    assert "2 rejected" in result.summary


def test_cells_that_are_no_values_and_lines_that_are_no_rows_are_set_aside(store, tmp_path):
    lines = [
        "seats,distance,night,extra",
        "100,1.5,true,a",
        "many,1.5,true,b",
        "100,1.5",
        "100,1_000,true,c",
        " 100 ,+1e2,FALSE,d",
        "100,x,perhaps,e",
        "3.0,,1,f",
        "1e3,,0,g",
        "3.5,,,h",
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out", keys=["extra"], max_rejected_fraction=1)
    assert read(tmp_path / "out")["extra"].to_pylist() == ["a", "d", "f", "g"]
    rejected = pq.read_table(tmp_path / "out" / "_rejected").sort_by("row").to_pylist()
    assert [(row["row"], row["reasons"]) for row in rejected] == [
        (1, "seats: got text 'many', expected an integer (int64) of at least 0"),
        (2, "cells: 2 in a table of 4 columns"),
        (3, "distance: got text '1_000', expected a number"),
        (5, "distance: got text 'x', expected a number; night: got text 'perhaps', expected true or false"),
        (8, "seats: got text '3.5', expected an integer (int64) of at least 0"),
    ]
    assert rejected[1]["content"] == "100,1.5"


def test_json_lines_are_read_as_in_training_and_broken_ones_are_set_aside(store, tmp_path):
    """A JSON string in a file is its text, as training reads it; an object is no number."""
    nested = '{"seats": ' + "[" * 5_000
    half = '{"seats": 1, "carrier": "\\ud800"}'
    lines = ['{"seats": 1}', '{"seats": "1"}', "{", "[1]", "", '{"seats": 2.0, "k": {"a": 1}}', '{"seats": {}}', nested]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, half]))
    result = batch.predict(store, "late", tmp_path / "a.jsonl", tmp_path / "out", max_rejected_fraction=1)
    assert (result.num_rows, result.num_rejected) == (8, 5)
    rejected = pq.read_table(tmp_path / "out" / "_rejected").sort_by("row").to_pylist()
    assert [row["row"] for row in rejected] == [2, 3, 5, 6, 7]
    assert rejected[2]["reasons"] == "seats: got text '{}', expected an integer (int64) of at least 0"
    assert [row["content"] for row in rejected[:2]] == ["{", "[1]"]
    assert [row["content"] for row in rejected[3:]] == [nested, half]


def test_times_without_a_zone_are_those_of_training_unless_another_is_given(store, predictor, tmp_path):
    (tmp_path / "a.csv").write_text("seats,departs\n100,2013-07-01 10:00:00.768\n")
    batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out")
    truth = predictor.rows([{"seats": 100, "departs": "2013-07-01T10:00:00.768Z"}])
    assert read(tmp_path / "out")["probability_true"].to_pylist() == truth.probabilities[:, 1].tolist()
    batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out", settings=["timezone=America/New_York"])
    truth = predictor.rows([{"seats": 100, "departs": "2013-07-01T14:00:00.768Z"}])
    assert read(tmp_path / "out")["probability_true"].to_pylist() == truth.probabilities[:, 1].tolist()


def test_a_rejected_time_is_answered_with_the_zone_of_those_without_an_offset(store, tmp_path):
    (tmp_path / "a.csv").write_text("seats,departs\n100,noon\n")
    settings = ["timezone=America/New_York"]
    batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out", settings=settings, max_rejected_fraction=1)
    expected = "an ISO 8601 time with an offset, or local in America/New_York, e.g. 2013-10-01T08:00:00Z"
    reasons = pq.read_table(tmp_path / "out" / "_rejected")["reasons"].to_pylist()
    assert reasons == [f"departs: got text 'noon', expected {expected}"]


def test_too_many_rejected_rows_stop_it_and_leave_the_old_output(store, table, tmp_path):
    source = write(tmp_path / "a.parquet", table)
    batch.predict(store, "late", source, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.parquet")}
    bad = table.set_column(table.schema.get_field_index("seats"), "seats", pa.array([-1] * 30 + [1] * 270))
    with pytest.raises(errors.ContractError) as caught:
        batch.predict(store, "late", write(tmp_path / "b.parquet", bad), tmp_path / "out")
    assert str(caught.value) == (
        "predict: rows that do not fit the model\n"
        "  got:      30 of 300; the first: seats: got number -1, expected an integer (int64) of at least 0\n"
        "  expected: at most 1.0%\n"
        "  hint:     correct the files; --set says how they are read, if not as in training"
    )
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.parquet")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "out"]


def test_an_output_of_ours_is_replaced_and_anything_else_is_not(store, table, tmp_path):
    source = write(tmp_path / "a.parquet", table)
    first = batch.predict(store, "late", source, tmp_path / "out")
    batch.predict(store, "late", write(tmp_path / "b.parquet", table.slice(0, 10)), tmp_path / "out")
    assert read(tmp_path / "out").num_rows == 10
    assert first.num_rows == 300
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.StoreError, match="something else is there"):
        batch.predict(store, "late", source, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_output_and_no_half_of_a_new_one(store, table, tmp_path, monkeypatch):
    source = write(tmp_path / "a.parquet", table)
    batch.predict(store, "late", source, tmp_path / "out")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    other = write(tmp_path / "b.parquet", table.slice(0, 10))
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(errors.StoreError, match="no space left on the disk"):
        batch.predict(store, "late", other, tmp_path / "out")
    assert read(tmp_path / "out").num_rows == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "out"]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_no_rows_give_an_output_without_rows(store, table, tmp_path, name):
    result = batch.predict(store, "late", write(tmp_path / name, table.slice(0, 0)), tmp_path / "out")
    assert result.num_rows == 0
    assert read(tmp_path / "out").num_rows == 0
    assert "prediction" in read(tmp_path / "out").column_names


def test_keys_are_carried_over_as_they_are(store, table, tmp_path):
    extra = table.append_column("order", pa.array(range(300), pa.int32()))
    batch.predict(store, "late", write(tmp_path / "a.parquet", extra), tmp_path / "out", keys=["order", "carrier"])
    found = read(tmp_path / "out")
    assert found.column_names == [
        "order", "carrier", "prediction", "probability_false", "probability_true", "model_version", "predicted_at",
        "run_id",
    ]  # fmt: skip
    assert found["order"].type == pa.int32()
    assert found["order"].to_pylist() == list(range(300))


def test_a_key_that_is_not_there_is_named(store, table, tmp_path):
    source = write(tmp_path / "a.parquet", table)
    with pytest.raises(errors.SourceError, match="did you mean 'carrier'"):
        batch.predict(store, "late", source, tmp_path / "out", keys=["carier"])


def test_a_column_that_the_model_needs_is_missed_in_the_file(store, table, tmp_path):
    source = write(tmp_path / "a.parquet", table.drop_columns(["seats"]))
    with pytest.raises(errors.RequestError, match=r"row all of a.parquet, field 'seats': got nothing"):
        batch.predict(store, "late", source, tmp_path / "out")


def test_unseen_categories_are_counted(store, tmp_path):
    (tmp_path / "a.csv").write_text("seats,carrier\n1,B6\n1,ZZ\n1,YY\n")
    assert batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out").unseen == {"carrier": 2}


def test_values_that_training_saw_too_seldom_are_counted_as_online(store, tmp_path):
    few = recipe.FeaturesSection(columns={"carrier": {"operation": "codes", "min_rows": 1_000}})
    version = registry.register(store, "few", fit(store, features=few))
    (tmp_path / "a.csv").write_text("seats,carrier\n1,B6\n1,B6\n1,??\n1,\n")
    result = batch.predict(store, f"few@{version}", tmp_path / "a.csv", tmp_path / "out")
    assert (result.unseen, result.rare) == ({"carrier": 1}, {"carrier": 2})
    stored = json.loads((tmp_path / "out/_result.json").read_text())
    assert (stored["unseen"], stored["rare"]) == ({"carrier": 1}, {"carrier": 2})


def test_delimiter_and_null_values_can_be_given(store, tmp_path):
    (tmp_path / "a.csv").write_bytes("seats;carrier\n1;Zürich\n2;-\n".encode("latin-1"))
    settings = ["reading.delimiter=;", "reading.encoding=latin-1", "reading.null_values=['-']"]
    batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out", keys=["carrier"], settings=settings)
    assert read(tmp_path / "out")["carrier"].to_pylist() == ["Zürich", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"no parquet", "^predict: source 'a.parquet'"),
        ("a.csv", b"seats\n\xff\xfe\n", "byte 0xff at offset 6\n.*\n  hint:     --set reading.encoding=latin-1"),
        ("a.jsonl", b'{"seats": 1}\n\xff\n', "predict: source 'a.jsonl', line 2"),
        ("a.xlsx", b"PK", "BadZipFile"),
        ("a.sav", b"$FL2", "a name in .csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(store, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.SourceError, match=message):
        batch.predict(store, "late", tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_named_with_what_is(store, table, tmp_path):
    write(tmp_path / "flights.csv", table)
    with pytest.raises(errors.SourceError, match=r"did you mean .flights\.csv"):
        batch.predict(store, "late", tmp_path / "flihgts.csv", tmp_path / "out")


def test_a_model_that_is_not_there_is_named(store, table, tmp_path):
    source = write(tmp_path / "a.csv", table)
    with pytest.raises(errors.RegistryError, match="did you mean 'champion'"):
        batch.predict(store, "late@champoin", source, tmp_path / "out")


def test_any_numbers_survive_the_way_through_csv(store, predictor, tmp_path):
    """Shortest texts of floats read back as the same bits."""
    rng = np.random.default_rng(8)
    numbers = pa.table(
        {"seats": rng.integers(0, 2**60, 200), "distance": rng.normal(size=200) * 10.0 ** rng.integers(-300, 300, 200)}
    )
    batch.predict(store, "late", write(tmp_path / "a.csv", numbers), tmp_path / "out")
    truth = predictor.table(numbers).probabilities[:, 1].tolist()
    assert read(tmp_path / "out")["probability_true"].to_pylist() == truth


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("reading.delimitr=;", "did you mean 'delimiter'"),
        ("timezone=Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("reading.version=3", "^predict: '--set reading.version'"),
        ("reading.format=csvv", "did you mean 'csv'"),
    ],
)
def test_a_setting_that_is_not_known_or_has_no_effect_is_refused(store, tmp_path, setting, message):
    (tmp_path / "a.csv").write_text("seats\n1\n")
    with pytest.raises(errors.RecipeError, match=message):
        batch.predict(store, "late", tmp_path / "a.csv", tmp_path / "out", settings=[setting])


def test_parts_of_large_rows_are_bounded_by_their_bytes(tmp_path, table, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 5_000)
    parts = readers.split(readers.find(write(tmp_path / "a.parquet", table), Reading())[0])
    assert len(parts) > 1
    assert [group for part in parts for group in part.row_groups] == [0, 1, 2, 3, 4]


def test_explanations_are_a_column_of_structs_that_add_up(store, predictor, table, tmp_path):
    source = write(tmp_path / "a.parquet", table)
    plain = batch.predict(store, "late", source, tmp_path / "plain")
    result = batch.predict(store, "late", source, tmp_path / "out", explain=3)
    assert result.run_id != plain.run_id
    found = read(tmp_path / "out")
    rest = bits(tmp_path / "out").drop_columns(["explanation", "run_id"])
    assert rest.equals(bits(tmp_path / "plain").drop_columns(["run_id"]))
    truth = predictor.explain(predictor.conform(table), predictor.table(table))
    explained = found["explanation"].to_pylist()
    assert [each["margin"] for each in explained] == pytest.approx(truth.margin.tolist(), abs=1e-12)
    for each in explained:
        listed = [part["contribution"] for part in each["contributions"]]
        assert (len(listed), each["scale"], each["of"]) == (3, "log_odds", True)
        assert each["base"] + sum(listed) + each["rest"] == pytest.approx(each["margin"], abs=1e-12)
    query = "SELECT explanation.contributions[1].column AS c, count(*) AS n FROM found GROUP BY c"
    assert sum(duckdb.sql(query).to_arrow_table()["n"].to_pylist()) == 300


def test_what_cannot_be_explained_is_said_before_a_row_is_read(store, table, tmp_path):
    number = registry.register(store, "far", fit(store, family="kernel"))
    source = write(tmp_path / "a.parquet", table)
    with pytest.raises(errors.RequestError, match="kernel"):
        batch.predict(store, f"far@{number}", source, tmp_path / "out", explain=3)
    with pytest.raises(errors.RequestError, match="1,000"):
        batch.predict(store, "late", source, tmp_path / "out", explain=1001)
    assert not (tmp_path / "out").exists()
