from __future__ import annotations

import datetime as dt
import json

import pytest

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.recipe import Aggregate, Join, Reading
from mlsys.schema import Role


def test_same_rows_give_the_same_digest_and_other_rows_another(take, write):
    file = write("a.csv", "x,y\n1,0\n2,1\n")
    first = take(file).snapshot.digest
    assert take(file).snapshot.digest == first
    assert take(write("a.csv", "x,y\n1,0\n3,1\n")).snapshot.digest != first


def test_the_snapshot_knows_no_path_of_this_machine(take, store, tmp_path, write):
    taken = take(write("a.csv", "x,y\n1,0\n2,1\n"))
    facts = store.facts("snapshot", taken.snapshot.digest)
    assert facts["sources"][0]["name"] == "a.csv"
    assert facts["sources"][0]["bytes"] == 12
    assert str(tmp_path) not in json.dumps(facts)


def test_row_numbers_go_on_over_files(take, tmp_path, write):
    write("b.csv", "x,y\n1,0\nbad\n3,1\n")
    write("a.csv", "x,y\n1,0\n2,1\n")
    taken = take(tmp_path / "*.csv", max_bad_fraction=0.5)
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 2, 4]
    assert [s["name"] for s in taken.report["sources"]] == ["a.csv", "b.csv"]
    assert [p.name for p in taken.snapshot.paths] == ["part-00000.parquet", "part-00001.parquet"]


def test_a_target_of_one_class_is_refused(take, write):
    with pytest.raises(errors.TargetError, match="one class only: 1 in all 2 rows"):
        take(write("a.csv", "x,y\n1,1\n2,1\n3,\n"))


def test_a_target_without_values_is_refused(take, write):
    with pytest.raises(errors.TargetError, match="no value in any of 2 rows"):
        take(write("a.csv", "x,y\n1,\n2,NA\n"))


def test_rows_without_label_are_kept_and_counted(take, write):
    taken = take(write("a.csv", "x,y\n1,0\n2,\n3,1\n"))
    assert (taken.snapshot.num_rows, taken.report["num_unlabelled"]) == (3, 1)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("target", {}),
        ("data.id", {"id": "xx"}),
        ("data.known_after", {"known_after": ["xx"]}),
        ("data.kinds", {"kinds": {"xx": "text"}}),
    ],
)
def test_a_misspelt_column_is_named_with_its_key(take, key, data, write):
    with pytest.raises(errors.RecipeError, match=f"recipe: '{key}': no column"):
        take(write("a.csv", "x1,y\n1,0\n2,1\n"), target="y" if data else "yy", **data)


def test_repeated_ids_are_counted(take, write):
    taken = take(write("a.csv", "k,y\na,0\nb,1\na,1\n"), id="k")
    assert taken.report["num_repeated_ids"] == 1
    assert taken.snapshot.schema["k"].role is Role.ID


def test_derived_columns_are_computed_in_order_and_may_be_the_target(take, write):
    file = write(
        "a.csv",
        "delay,at,y0\n20,2013-03-01T10:00:00Z,1\n,2013-03-01T11:00:00Z,1\n3,2013-03-01T12:00:00Z,1\n",
    )
    derive = {
        "late": "CASE WHEN delay IS NULL THEN NULL ELSE delay > 15 END",
        "not_late": "NOT late",
        "landed": "at + delay * INTERVAL '1 minute'",
        "hour": "EXTRACT(hour FROM at::timestamptz AT TIME ZONE 'America/New_York')",
    }
    table = take(file, target="late", derive=derive).snapshot.table()
    assert table["late"].to_pylist() == [True, None, False]
    assert table["not_late"].to_pylist() == [False, None, True]
    assert table["landed"][0].as_py() == dt.datetime(2013, 3, 1, 10, 20, tzinfo=dt.UTC)
    assert table["hour"].to_pylist() == [5, 6, 7]


def test_a_wrong_expression_is_named_before_anything_is_stored(take, store, write):
    with pytest.raises(errors.RecipeError, match=r"(?s)'late' = dellay > 15.*did you mean 'delay'"):
        take(write("a.csv", "delay\n20\n3\n"), target="late", derive={"late": "dellay > 15"})
    assert not list((store.root / "objects").glob("*/*")) if (store.root / "objects").exists() else True
    assert list((store.root / "staging").iterdir()) == []


def test_a_feature_table_needs_its_keys(store, write):
    file = write("w.csv", "origin,at,temp\nEWR,2013-01-01,30\nJFK,2013-01-01,31\n")
    table = snapshot.take_table(store, "w", Join(source=str(file), keys=("origin",), time="at")).snapshot
    assert (table.schema["at"].type, table.schema["at"].role) == ("timestamp[us, tz=UTC]", Role.TIME)
    with pytest.raises(errors.RecipeError, match=r"did you mean 'origin'"):
        snapshot.take_table(store, "w", Join(source=str(file), keys=("orgin",)))
    with pytest.raises(errors.RecipeError, match="did you mean 'at'"):
        snapshot.take_table(store, "w", Join(source=str(file), keys=("origin",), time="at", known_at="att"))
    aggregates = {"wet": Aggregate(function="sum", column="rain", window="1h")}
    with pytest.raises(errors.RecipeError, match="no column 'rain'"):
        snapshot.take_table(store, "w", Join(source=str(file), keys=("origin",), time="at", aggregates=aggregates))


def test_what_is_wrong_with_a_feature_table_is_said_of_its_join(store, write):
    file = write("w.csv", "origin;at\nEWR;2013-01-01\n")
    with pytest.raises(errors.SourceError, match=r"hint: +features\.joins\.weather\.reading\.delimiter"):
        snapshot.take_table(store, "weather", Join(source=str(file), keys=("origin",)))
    reading = Reading(delimiter=";")
    with pytest.raises(errors.RecipeError, match=r"recipe: 'features\.joins\.weather\.time': no column 'a'"):
        snapshot.take_table(store, "weather", Join(source=str(file), reading=reading, keys=("origin",), time="a"))
    with pytest.raises(errors.RecipeError, match=r"recipe: 'features\.joins\.weather': no column 'orgin'"):
        snapshot.take_table(store, "weather", Join(source=str(file), reading=reading, keys=("orgin",)))
