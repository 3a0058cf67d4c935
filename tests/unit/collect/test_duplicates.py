from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.collect import duplicates
from mlsys.recipe import Dedupe

KEYS = {"keys": ("k",), "order": "at"}


def test_of_a_key_the_last_in_order_stays_wherever_it_stands(take, write, tmp_path):
    write("in/a.csv", "k,at,y\na,2024-01-03,1\nb,2024-01-01,0\n,2024-01-01,0\n")
    write("in/b.csv", "k,at,y\na,2024-01-02,0\nb,2024-01-02,1\nb,2024-01-02,0\n,2024-01-01,1\n")
    taken = take(tmp_path / "in", dedupe=KEYS)
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 2, 5, 6]
    assert (taken.report["num_superseded"], taken.report["num_quarantined"], taken.report["num_read"]) == (3, 0, 7)
    assert "3 rows superseded by a later row of their key: left out" in taken.report["warnings"]


def test_facts_of_the_snapshot_are_those_of_the_rows_that_stay(take, write):
    taken = take(write("a.csv", "k,at,z,y\na,1,,1\na,2,5,1\nb,1,6,0\n"), dedupe=KEYS)
    assert taken.snapshot.num_rows == 2
    assert not taken.snapshot.schema["z"].nullable
    with pytest.raises(errors.TargetError, match="one class only: 1"):
        take(write("b.csv", "k,at,y\na,1,0\na,2,1\nb,1,1\n"), dedupe=KEYS)


def test_a_missing_order_loses_and_without_order_the_later_row_stays(take, write):
    file = write("a.csv", "k,at,y\na,1,1\na,,0\nb,,0\nc,,1\n")
    assert take(file, dedupe=KEYS).snapshot.table()["__row"].to_pylist() == [0, 2, 3]
    assert take(file, dedupe={"keys": ("k",)}).snapshot.table()["__row"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("dedupe", [{"keys": ("kk",)}, {"keys": ("k",), "order": "att"}])
def test_a_misspelt_key_or_order_is_named(take, write, dedupe):
    with pytest.raises(errors.RecipeError, match=r"recipe: 'data.dedupe.(keys|order)': no column"):
        take(write("a.csv", "k,at,y\na,1,1\nb,1,0\n"), dedupe=dedupe)


def test_nan_keys_equal_no_other(take, tmp_path):
    nan = float("nan")
    pq.write_table(pa.table({"k": [nan, nan, 1.0, 1.0], "y": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    assert take(tmp_path / "a.parquet", dedupe={"keys": ("k",)}).snapshot.table()["y"].to_pylist() == [0, 1, 1]
    assert take(tmp_path / "a.parquet", id="k").report["num_repeated_ids"] == 1


def test_a_unique_column_is_judged_after_superseded_rows_are_gone(take, write):
    rules = "columns:\n" + "".join(
        f"- {{name: {n}, type: {t}, kind: numeric, unique: {u}}}\n"
        for n, t, u in (("k", "int64", "true"), ("at", "int64", "false"), ("y", "int64", "false"))
    )
    file = write("a.csv", "k,at,y\n1,1,1\n1,2,0\n2,1,1\n")
    taken = take(file, contract=str(write("c.yaml", rules)), dedupe=KEYS)
    assert (taken.report["num_superseded"], taken.report["num_quarantined"]) == (1, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1.0, None]), st.sampled_from([1, 2, None])),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_superseded_rows_are_those_that_pandas_drops(tmp_path, rows, cuts):
    folder = tmp_path
    for old in folder.glob("*.parquet"):
        old.unlink()
    frame = pl.DataFrame(rows, schema={"k": pl.String, "k2": pl.Float64, "at": pl.Int64}, orient="row")
    frame = frame.with_columns(pl.int_range(pl.len()).alias("__row"))
    size = -(-len(rows) // cuts)
    files = [folder / f"{at:04d}.parquet" for at in range(0, len(rows), size)]
    for number, file in enumerate(files):
        frame.slice(number * size, size).write_parquet(file)
    found = duplicates.find_duplicates(files, Dedupe(keys=("k", "k2"), order="at"), [], []).superseded.tolist()
    plain = pd.DataFrame([(*row, at) for at, row in enumerate(rows)], columns=["k", "k2", "at", "row"])
    plain["at"] = plain["at"].astype(float).fillna(-1)
    keyed = plain.dropna(subset=["k", "k2"]).sort_values(["at", "row"])
    stays = keyed.drop_duplicates(["k", "k2"], keep="last")["row"]
    assert found == sorted(set(keyed["row"]) - set(stays))
