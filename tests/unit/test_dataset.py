import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors
from mlsys.dataset import PARTS, Snapshot, Split
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema
from mlsys.store import Store

SCHEMA = Schema(
    columns=(
        Column(name="x", type="double", kind=Kind.NUMERIC),
        Column(name="y", type="bool", kind=Kind.BOOLEAN, role=Role.TARGET),
    )
)
STORED = SCHEMA.arrow().append(pa.field(ROW, pa.int64())).append(pa.field(FOLD, pa.int8()))
ROWS = {"train": 6, "validation": 2, "test": 2, "production": 0, "unlabelled": 1}


def part(name, start):
    """Rows of a part; training rows are dealt to the folds 0, 1, 2 in turn."""
    num = ROWS[name]
    folds = [i % 3 if name == "train" else -1 for i in range(num)]
    columns = [
        [float(start + i) for i in range(num)],
        [i % 2 == 0 for i in range(num)],
        list(range(start, start + num)),
        folds,
    ]
    return pa.table(dict(zip(STORED.names, columns, strict=True)), schema=STORED)


def split_of(store, *, forward=False):
    def write(folder):
        start = 0
        for name in PARTS:
            (folder / name).mkdir()
            table = part(name, start)
            half = len(table) // 2
            pq.write_table(table.slice(0, half), folder / name / "part-00000.parquet")
            pq.write_table(table.slice(half), folder / name / "part-00001.parquet")
            start += len(table)
        return {"schema": SCHEMA.model_dump(mode="json"), "num_rows": ROWS, "num_folds": 3, "forward": forward}

    return Split.open(store, store.put("split", write))


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


@pytest.fixture
def split(store):
    return split_of(store)


def test_a_snapshot_is_opened_by_its_digest(store):
    def write(folder):
        (folder / "data").mkdir()
        pq.write_table(pa.table({"x": [3.0], "y": [True]}), folder / "data" / "part-00001.parquet")
        pq.write_table(pa.table({"x": [1.0, 2.0], "y": [True, False]}), folder / "data" / "part-00000.parquet")
        return {"schema": SCHEMA.model_dump(mode="json"), "num_rows": 3}

    snapshot = Snapshot.open(store, store.put("snapshot", write))
    assert snapshot.num_rows == 3
    assert snapshot.schema == SCHEMA
    assert snapshot.table()["x"].to_pylist() == [1.0, 2.0, 3.0]
    assert snapshot.table(["y"]).column_names == ["y"]


def test_a_snapshot_without_files_still_has_its_columns(store):
    digest = store.put("snapshot", lambda _: {"schema": SCHEMA.model_dump(mode="json"), "num_rows": 0})
    table = Snapshot.open(store, digest).table()
    assert table.schema == SCHEMA.arrow()
    assert len(table) == 0
    assert Snapshot.open(store, digest).table(["y"]).column_names == ["y"]


def test_parts_hold_their_rows_in_order(split):
    assert split.table("train", [ROW]).column(ROW).to_pylist() == [0, 1, 2, 3, 4, 5]
    assert split.table("test", [ROW]).column(ROW).to_pylist() == [8, 9]
    assert {name: len(split.table(name)) for name in PARTS} == ROWS == split.num_rows


def test_a_part_without_rows_still_has_its_columns(split):
    assert split.table("production").schema.names == STORED.names


def test_a_sealed_part_is_refused_by_every_way_to_its_rows(split):
    open_ = split.only("train", "validation")
    for read in (open_.paths, open_.table):
        with pytest.raises(errors.SealedError, match="part 'test' is sealed here"):
            read("test")
    assert open_.num_rows == {"train": 6, "validation": 2}
    assert len(open_.table("validation")) == 2


def test_a_seal_cannot_be_opened_from_inside(split):
    assert split.only("train").only("train", "test").parts == {"train"}
    assert split.only("train").only(*PARTS).num_rows == {"train": 6}


def test_a_part_that_does_not_exist_is_refused(split):
    with pytest.raises(errors.SealedError, match="part 'tset'"):
        split.paths("tset")


@pytest.mark.parametrize(
    ("folds", "rows"), [([0], [0, 3]), ([2, 0], [0, 2, 3, 5]), ([], []), ((0, 1, 2), [0, 1, 2, 3, 4, 5])]
)
def test_folds_select_training_rows(split, folds, rows):
    assert split.table("train", folds=folds)[ROW].to_pylist() == rows
    assert split.table("train", [ROW], folds=iter(folds)).to_pydict() == {ROW: rows}


def test_the_fold_column_is_there_only_when_asked_for(split):
    assert split.table("train", ["x"], folds=[1]).column_names == ["x"]
    assert set(split.table("train", ["x", FOLD], folds=[1]).column_names) == {"x", FOLD}
    assert split.table("train", ["x", FOLD], folds=[1])[FOLD].to_pylist() == [1, 1]


def test_columns_come_in_the_order_asked_for(split):
    assert split.table("train", ["y", "x"]).column_names == ["y", "x"]
    assert split.table("train", ["y", "x"], folds=[0]).column_names == ["y", "x"]


def test_each_fold_is_judged_once_on_a_model_of_all_others(split):
    assert split.rounds() == [((1, 2), 0), ((0, 2), 1), ((0, 1), 2)]


def test_folds_in_time_are_judged_on_a_model_of_what_came_before(store):
    assert split_of(store, forward=True).rounds() == [((0,), 1), ((0, 1), 2)]


@given(num_folds=st.integers(2, 20), forward=st.booleans())
def test_no_round_judges_on_rows_that_it_fitted_on(tmp_path_factory, num_folds, forward):
    rounds = Split("digest", tmp_path_factory.getbasetemp(), SCHEMA, {}, num_folds, forward).rounds()
    assert all(judged not in fitted for fitted, judged in rounds)
    assert len({judged for _, judged in rounds}) == len(rounds) == num_folds - forward
    if forward:
        assert all(max(fitted) < judged for fitted, judged in rounds)


def test_a_split_travels_to_a_worker_with_its_seal(split):
    import pickle

    again = pickle.loads(pickle.dumps(split.only("train")))
    assert again == split.only("train")
    with pytest.raises(errors.SealedError):
        again.paths("test")
