"""Files without the columns of feature tables: joined as of each row's time, as for training."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batches
import joined
from mlsys import errors
from mlsys.dataset import Snapshot
from mlsys.deploy.batch_job import BatchCounts
from mlsys.deploy.batch_worker import predict_fragments
from mlsys.features.online import publishing
from mlsys.predict import Predictor
from mlsys.readers import registry as readers
from mlsys.recipe import Reading
from mlsys.registry import LedgerEntry
from mlsys.store import Store

SENT = joined.rows(150, seed=5).drop_columns(["y"])
SCORE = "probability_true"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def model(store):
    """A model whose tables were published: their snapshots are what files are joined with."""
    found = joined.fit(store)
    for view in found.views:
        publishing.record_snapshot(store, view, snapshot(store, joined.tables()[view.name], joined.TABLES[view.name]))
    return found


def snapshot(store, table, schema):
    def write(folder):
        (folder / "data").mkdir()
        pq.write_table(table, folder / "data" / "part-00000.parquet")
        return {"schema": schema.model_dump(mode="json"), "num_rows": table.num_rows}

    return Snapshot.open(store, store.put("snapshot", write))


@pytest.fixture(scope="module")
def truth(model):
    return Predictor(model).table(joined.join(SENT)).score.tolist()


def score(store, model, table, folder):
    pq.write_table(table, folder / "rows.parquet", row_group_size=60)
    return score_file(store, model, folder / "rows.parquet", folder / "out")


def score_file(store, model, path, out):
    entry = LedgerEntry("joined", 1, model.digest)
    finished = predict_fragments(*batches.job_of(store, entry, readers.find(path, Reading()), out))
    count = BatchCounts.total(each.counts for each in finished)
    return pa.concat_tables([pq.read_table(part) for part in sorted(out.glob("part-*.parquet"))]), count


def test_a_file_of_keys_is_predicted_to_the_bits_of_joined_rows(store, model, truth, tmp_path):
    found, count = score(store, model, SENT, tmp_path)
    assert found[SCORE].to_pylist() == truth
    assert found["flight"].to_pylist() == SENT["flight"].to_pylist()
    _, counts = joined.asof.join(SENT, joined.tables()["weather"], joined.JOINS["weather"], "at")
    assert count.lookup["weather"] == {status: counts[status] for status in ("matched", "missing", "too_old")}


def test_a_file_that_carries_the_columns_is_used_as_it_is(store, model, truth, tmp_path):
    found, count = score(store, model, joined.join(SENT), tmp_path)
    assert found[SCORE].to_pylist() == truth
    assert count.lookup == {"weather": {"given": 150}, "planes": {"given": 150}}


def test_a_row_that_does_not_fit_is_set_aside_and_the_others_are_looked_up(store, model, truth, tmp_path):
    rows = joined.requests(SENT)
    rows[70] |= {"distance": "far"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, count = score_file(store, model, tmp_path / "rows.jsonl", tmp_path / "out")
    assert found[SCORE].to_pylist() == [*truth[:70], *truth[71:]]
    assert (count.num_rejected, count.first_reasons) == (1, "distance: got text 'far', expected a number")


@pytest.mark.parametrize(
    ("table", "field"),
    [(SENT.drop_columns(["tail"]), "tail"), (joined.join(SENT).drop_columns(["wind"]), "wind")],
    ids=["a key", "a column of a join"],
)
def test_a_file_without_a_key_or_with_a_part_of_a_join_is_refused(store, model, tmp_path, table, field):
    with pytest.raises(errors.RequestError) as caught:
        score(store, model, table, tmp_path)
    assert [(fault["row"], fault["field"]) for fault in caught.value.violations] == [("all of rows.parquet", field)]


def test_tables_that_were_never_published_are_said_to_be(tmp_path):
    store = Store.open(tmp_path / "store")
    with pytest.raises(errors.StoreError, match=r"(?s)table 'weather'.*never published"):
        score(store, joined.fit(store), SENT, tmp_path)
