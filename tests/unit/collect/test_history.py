from __future__ import annotations

import datetime as dt
import json

import pytest

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.collect.history import CollectionRecord, judge
from mlsys.recipe import DataSection, Join

NOW = dt.datetime(2024, 1, 10, tzinfo=dt.UTC)


def entries(counts, ages=()):
    ages = ages or [None] * len(counts)
    return [
        CollectionRecord("k", str(n), NOW.isoformat(), n, n, n, None, age, None)
        for n, age in zip(counts, ages, strict=True)
    ]


def told(before, now, **data):
    return judge(before, entries([now])[0], DataSection(source="a.csv", **data), NOW)


def test_the_modified_z_score_is_that_of_its_definition():
    counts = [900, 1000, 1100, 1300, 800, 1000]  # ln: median 6.9078, MAD 0.1003 (by hand: medians of 6 values)
    assert told(entries(counts), 1600) == []  # 0.6745 · ln(1.6) / 0.1003 = 3.16
    (note,) = told(entries(counts), 1800)  # 0.6745 · ln(1.8) / 0.1003 = 3.95
    assert note == "1,800 rows, where 1,000 are usual (modified z +4.0 over 6 runs)"
    assert "z -" in told(entries(counts), 400)[0]


def test_less_than_five_collections_say_nothing_and_ten_percent_is_no_news():
    assert told(entries([1000] * 4), 1) == []
    assert told(entries([1000] * 5), 1099) == []
    assert told(entries([1000] * 5), 1101) != []


def test_volume_stop_refuses(take, write):
    with pytest.raises(errors.ContractError, match=r"collect: volume\n  got:      10 rows\n  expected: about 1,000"):
        told(entries([1000] * 5), 10, volume="stop")


def test_a_newest_row_older_than_usual_is_told():
    before = entries([10] * 5, [3600.0, 4000.0, 3800.0, 3500.0, 3700.0])
    late = CollectionRecord("k", "s", NOW.isoformat(), 10, 10, 10, None, 7 * 86400.0, None)
    assert judge(before, late, DataSection(source="a.csv"), NOW) == [
        # ln: median that of 3700, MAD ln(3700 / 3600) = 0.0274; 0.6745 · ln(604800 / 3700) / 0.0274 = 125.5
        "the newest row is 7 days old, where 62 minutes is usual (modified z +125.5 over 5 runs)"
    ]
    fresh = CollectionRecord("k", "s", NOW.isoformat(), 10, 10, 10, None, 1.0, None)
    assert judge(before, fresh, DataSection(source="a.csv"), NOW) == []


def history(tmp_path):
    return json.loads((tmp_path / "run" / "collections.json").read_text())["entries"]


def test_each_collection_that_finds_something_new_is_an_entry(store, write, tmp_path):
    def collect(content, now):
        data = DataSection(source=str(write("a.csv", content)), time="at")
        return snapshot.take(store, data, target="y", folder=tmp_path / "run", now=now)

    collect("at,z,y\n2024-01-01,,0\n2024-01-09,1,1\n", NOW)
    collect("at,z,y\n2024-01-01,,0\n2024-01-09,1,1\n", NOW + dt.timedelta(hours=1))
    collect("at,z,y\n2024-01-01,,0\n2024-01-10,1,1\n2024-01-08,1,1\n", NOW + dt.timedelta(days=1))
    first, second = history(tmp_path)
    assert first == {
        "key": first["key"],
        "snapshot": first["snapshot"],
        "collected_at": "2024-01-10T00:00:00+00:00",
        "num_read": 2,
        "num_rows": 2,
        "num_new": 2,
        "newest": "2024-01-09T00:00:00+00:00",
        "age_s": 86400.0,
        "seconds_since": None,
        "nulls": {"z": 1},
        "types": {"at": "timestamp[us, tz=UTC]", "z": "int64", "y": "int64"},
    }
    assert (second["num_rows"], second["age_s"], second["seconds_since"]) == (3, 86400.0, 86400.0)


def test_an_older_source_than_the_recipe_allows_stops_the_run(store, write, tmp_path):
    file = write("a.csv", "at,y\n2024-01-01,0\n2024-01-08,1\n")
    for limit in ("3d", "50h"):
        data = DataSection(source=str(file), time="at", freshness=limit)
        snapshot.take(store, data, target="y", folder=tmp_path / "run", now=NOW)
    with pytest.raises(errors.ContractError, match=r"column 'at'\n.*2024-01-08.*, 2 days old|48 hours old"):
        snapshot.take(
            store,
            DataSection(source=str(file), time="at", freshness="47h"),
            target="y",
            folder=tmp_path / "run",
            now=NOW,
        )
    with pytest.raises(errors.RecipeError, match=r"no 'data.time'"):
        snapshot.take(
            store, DataSection(source=str(file), freshness="3d"), target="y", folder=tmp_path / "run", now=NOW
        )


def test_new_columns_and_wider_types_are_accepted_and_told(take, write):
    take(write("a.csv", "n,d,e,y\n1,2024-01-01,,0\n2,2024-01-02,,1\n"))
    taken = take(write("a.csv", "n,d,e,z,y\n1.5,2024-01-01 10:00,word,5,0\n2,2024-01-02,word,5,1\n"))
    assert taken.report["notes"] == [
        "column 'n': wider, int64 → double",
        "column 'd': wider, date32[day] → timestamp[us, tz=UTC]",
        "column 'e' had no value before: string",
        "column 'z' (int64) is new",
    ]


@pytest.mark.parametrize(
    ("content", "change"),
    [
        ("c,y\na,0\nb,1\n", r"column 'n' \(int64\) is gone"),
        ("n,c,y\nword,a,0\n5,b,1\n", "column 'n': int64 → string, for 1 of 2 values are not int64"),
        ("n,c,y\n1,5,0\n2,6,1\n", "column 'c': string → int64"),
    ],
)
def test_columns_that_are_gone_or_others_are_refused_until_accepted(take, write, content, change):
    take(write("a.csv", "n,c,y\n1,a,0\n2,b,1\n"))
    file = write("a.csv", content)
    for _ in range(2):  # a refusal leaves nothing to compare with
        with pytest.raises(errors.ContractError, match=rf"(?s)columns changed.*{change}.*--set data.evolution=accept"):
            take(file)
    assert any("accepted" in note for note in take(file, evolution="accept").report["notes"])
    assert take(file).report["notes"] == []


def test_what_is_new_is_told_beside_what_is_gone_for_it_may_be_the_same_under_another_name(take, write):
    take(write("a.csv", "n,y\n1,0\n2,1\n"))
    with pytest.raises(errors.ContractError, match=r"column 'n' \(int64\) is gone; column 'm' \(int64\) is new"):
        take(write("a.csv", "m,y\n1,0\n2,1\n"))


def test_a_newest_time_far_ahead_is_told_for_it_hides_how_late_the_others_are(store, write, tmp_path):
    data = DataSection(source=str(write("a.csv", "t,y\n2013-01-01,0\n2031-01-01,1\n")), time="t", freshness="1d")
    now = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
    taken = snapshot.take(store, data, target="y", folder=tmp_path / "run", now=now)
    assert taken.report["notes"] == ["the newest 't' lies 3,652 days ahead: how fresh the others are is not known"]


def test_a_time_without_any_value_is_said_to_have_none(take, write):
    with pytest.raises(errors.RecipeError, match=r"(?s)'data.time': column 't'.*got: +no value in any row"):
        take(write("a.csv", "t,y\n,0\n,1\n"), time="t", freshness="1d")


def test_decimals_that_are_all_whole_this_time_are_no_other_column(take, write):
    take(write("a.csv", "n,d,y\n1.5,2013-01-01 10:00,0\n2,2013-01-02 11:00,1\n"))
    taken = take(write("a.csv", "n,d,y\n1,2013-01-01,0\n2,2013-01-02,1\n"))
    assert taken.report["notes"] == [
        "column 'n': narrower, double → int64",
        "column 'd': narrower, timestamp[us, tz=UTC] → date32[day]",
    ]


def test_a_column_without_a_value_now_is_no_change_of_type(take, write):
    take(write("a.csv", "n,c,y\n1,a,0\n2,b,1\n"))
    assert take(write("a.csv", "n,c,y\n1,,0\n2,,1\n")).snapshot.num_rows == 2


def test_a_recipe_that_changed_compares_with_nothing(take, write):
    take(write("a.csv", "n,y\n1,0\n2,1\n"), derive={"half": "n / 2"})
    assert take(write("a.csv", "n,y\n1,0\n2,1\n"), derive={"double": "n * 2"}).report["notes"] == []


def test_a_feature_table_whose_columns_changed_is_refused_until_accepted(store, write, tmp_path):
    join = Join(source=str(write("w.csv", "k,a\n1,2\n")), keys=("k",))
    snapshot.take_table(store, "w", join, folder=tmp_path / "w")
    write("w.csv", "k,b\n1,2\n")
    with pytest.raises(errors.ContractError, match=r"column 'a' \(int64\) is gone"):
        snapshot.take_table(store, "w", join, folder=tmp_path / "w")
    taken = snapshot.take_table(store, "w", join, folder=tmp_path / "w", evolution="accept")
    assert "b" in taken.snapshot.schema
