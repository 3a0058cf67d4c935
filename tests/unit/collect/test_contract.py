from __future__ import annotations

import math

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlsys import errors
from mlsys.collect import contract

FLIGHTS = """\
columns:
- {name: tail, type: string, kind: categorical, pattern: '^N[0-9A-Z]+$', min_length: 3, max_length: 6}
- {name: dep, type: int64, kind: numeric}
- {name: arr, type: int64, kind: numeric}
- {name: y, type: int64, kind: numeric}
rules:
  later: arr >= dep
  flies: {check: dep <> 13, max_fraction: 0.25}
"""
ROWS = "tail,dep,arr,y\nN12,1,2,0\nX12,1,2,1\nN1,1,2,0\nN123456,1,2,1\nN14,5,2,0\nN15,5,,1\n,3,3,0\nN16,13,14,1\n"


def test_patterns_lengths_and_rules_are_counted_by_rule_with_samples(take, write):
    taken = take(write("a.csv", ROWS), contract=str(write("c.yaml", FLIGHTS)), max_bad_fraction=0.9)
    assert taken.report["quarantine"] == {
        "column 'tail': does not match ^N[0-9A-Z]+$": {"rows": 1, "samples": ["'X12' in 'a.csv' row 1"]},
        "column 'tail': shorter than 3 characters": {"rows": 1, "samples": ["'N1' in 'a.csv' row 2"]},
        "column 'tail': longer than 6 characters": {"rows": 1, "samples": ["'N123456' in 'a.csv' row 3"]},
        "rule 'later': arr >= dep": {"rows": 1, "samples": ["2, 5 in 'a.csv' row 4"]},
        "rule 'flies': dep <> 13": {"rows": 1, "samples": ["13 in 'a.csv' row 7"]},
    }
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 5, 6]  # null breaks no rule


def test_the_quarantine_holds_each_row_with_every_rule_it_breaks(take, write, tmp_path):
    file = write("a.csv", "tail,dep,arr,y\nN12,1,2,0\nN13,1,2,1\nN14,1,2,1\nN15,1,2,1\nX,13,2,1\n")
    take(file, contract=str(write("c.yaml", FLIGHTS)), max_bad_fraction=0.9)
    (row,) = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").to_dicts()
    assert row["reason"].split("; ") == [
        "column 'tail': does not match ^N[0-9A-Z]+$", "column 'tail': shorter than 3 characters",
        "rule 'later': arr >= dep", "rule 'flies': dep <> 13",
    ]  # fmt: skip
    assert row["content"] == '{"tail": "X", "dep": 13, "arr": 2, "y": 1}'


def test_a_rule_with_a_limit_of_its_own_stops_the_run(take, write):
    rows = "tail,dep,arr,y\n" + "N12,13,14,0\n" * 26 + "N12,1,2,1\n" * 74
    with pytest.raises(errors.ContractError) as caught:
        take(write("a.csv", rows), contract=str(write("c.yaml", FLIGHTS)), max_bad_fraction=0.9)
    assert str(caught.value).splitlines()[:3] == [
        "collect: rule 'flies': dep <> 13",
        "  got:      26 of 100 rows break it, e.g. 13 in 'a.csv' row 0; 13 in 'a.csv' row 1; 13 in 'a.csv' row 2",
        "  expected: at most 25.00% of the rows (its max_fraction)",
    ]


def test_rules_may_read_derived_columns(take, write):
    text = FLIGHTS.replace("later: arr >= dep", "short: air <= 2")
    taken = take(
        write("a.csv", ROWS), contract=str(write("c.yaml", text)), max_bad_fraction=0.9, derive={"air": "arr - dep"}
    )
    assert "rule 'short': air <= 2" not in taken.report["quarantine"]


def test_a_contract_is_written_back_with_its_checks_and_rules(take, write, tmp_path):
    first = take(write("a.csv", ROWS), contract=str(write("c.yaml", FLIGHTS)), max_bad_fraction=0.9)
    again = tmp_path / "again.yaml"
    again.write_bytes((tmp_path / "run" / "schema.yaml").read_bytes())
    assert contract.load(again).rules == contract.load(tmp_path / "c.yaml").rules
    second = take(tmp_path / "a.csv", contract=str(again), max_bad_fraction=0.9)
    assert second.snapshot.digest == first.snapshot.digest
    assert second.report["quarantine"] == first.report["quarantine"]
    written = yaml.safe_load(again.read_text())
    assert written["columns"][0] == {
        "name": "tail", "type": "string", "kind": "categorical",
        "pattern": "^N[0-9A-Z]+$", "min_length": 3, "max_length": 6,
    }  # fmt: skip
    assert written["rules"] == {"later": "arr >= dep", "flies": {"check": "dep <> 13", "max_fraction": 0.25}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_length", "max_lenght", r"column 'tail'\n.*key 'max_lenght'\n.*\n.*did you mean 'max_length'"),
        ("rules:", "ruels:", r"key 'ruels'\n.*a key of a schema file\n.*did you mean 'rules'"),
        ("max_fraction", "max_fracton", r"rule 'flies'\n.*\n.*a key of a rule\n.*did you mean 'max_fraction'"),
        ("'^N[0-9A-Z]+$'", "'^N[0-9'", r"column 'tail'\n.*pattern: .*\n.*RE2"),
        ("name: dep, type: int64", "name: dep, type: int64, pattern: x", r"'pattern' for values of type int64"),
        ("name: tail, type: string", "name: tail, type: string, minimum: 1", r"'minimum' for values of type string"),
        ("arr >= dep", "arr >= depp", r"rule: 'later' = arr >= depp: no column 'depp'"),
        ("arr >= dep", "arr - dep", r"rule 'later' = arr - dep\n.*type int64\n.*true or false"),
        ("arr >= dep", "arr >= MAX(dep)", r"function 'max'"),
        ("arr >= dep", "arr >>= dep", r"'later' = arr >>= dep"),
        ("min_length: 3", "allowed: [1.5, a]", r"column 'tail'\n.*allowed: "),
    ],
)
def test_a_contract_that_cannot_be_checked_says_why(take, write, old, new, message):
    with pytest.raises(errors.ContractError, match=message):
        take(write("a.csv", ROWS), contract=str(write("c.yaml", FLIGHTS.replace(old, new, 1))))


def test_nan_is_no_value_where_one_is_asked_for(take, write, tmp_path):
    pq.write_table(pa.table({"x": [1.0, float("nan"), 2.0], "y": [0, 1, 1]}), tmp_path / "a.parquet")
    rules = (
        "columns:\n- {name: x, type: double, kind: numeric, nullable: false}\n- {name: y, type: int64, kind: numeric}\n"
    )
    taken = take(tmp_path / "a.parquet", contract=str(write("c.yaml", rules)), max_bad_fraction=0.5)
    assert taken.report["quarantine"]["column 'x': null"]["rows"] == 1


@pytest.mark.parametrize(
    ("data", "key"),
    [({"time": "at"}, "data.time"), ({"id": "at"}, "data.id"), ({"dedupe": {"keys": ("at",)}}, "data.dedupe.keys")],
)
def test_a_contract_that_leaves_out_what_the_recipe_needs_is_refused(take, write, data, key):
    rules = write("c.yaml", "columns:\n- {name: y, type: int64, kind: numeric}\n")
    with pytest.raises(errors.ContractError, match=f"recipe: '{key}'\n.*'at', which the contract leaves out"):
        take(write("a.csv", "at,y\n2024-01-01,0\n2024-01-02,1\n"), contract=str(rules), **data)


def test_a_contract_written_by_one_run_is_kept_by_the_next(take, tmp_path, write):
    file = write("a.csv", "x,c,y\n1,a,0\n2,b,1\n")
    first = take(file)
    assert take(file, contract=str(tmp_path / "run" / "schema.yaml")).snapshot.digest == first.snapshot.digest


def test_rows_that_break_the_contract_go_to_quarantine_by_rule(take, tmp_path, write):
    contract = write(
        "c.yaml",
        "columns:\n- {name: x, type: int64, kind: numeric, minimum: 0, maximum: 10, nullable: false}\n"
        "- {name: c, type: string, kind: categorical, allowed: [a, b]}\n- {name: y, type: int64, kind: numeric}\n",
    )
    file = write("a.csv", "x,c,extra,y\n1,a,,0\n-1,b,,1\n11,z,,1\n,a,,0\nq,a,,0\n5,,,1\n")
    taken = take(file, contract=str(contract), max_bad_fraction=0.9)
    assert {rule: entry["rows"] for rule, entry in taken.report["quarantine"].items()} == {
        "column 'x': below the minimum 0": 1,
        "column 'x': above the maximum 10": 1,
        "column 'c': not among the allowed values": 1,
        "column 'x': null": 1,
        "column 'x': not int64": 1,
    }
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 5]
    assert "column 'extra' is not in the contract: left out" in taken.report["warnings"]
    quarantine = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").sort("row")
    assert (
        quarantine["reason"].to_list()[1]
        == "column 'x': above the maximum 10; column 'c': not among the allowed values"
    )


def test_of_rows_that_repeat_a_unique_value_the_first_stays(take, tmp_path, write):
    contract = write(
        "c.yaml",
        "columns:\n- {name: x, type: int64, kind: numeric, unique: true}\n- {name: y, type: int64, kind: numeric}\n",
    )
    file = write("a.csv", "x,y\n7,0\n8,1\n7,1\n,0\n,1\n")
    with pytest.raises(
        errors.ContractError, match=r"1 × column 'x': repeats an earlier value \(e.g. 7 in 'a.csv' row 2"
    ):
        take(file, contract=str(contract))
    taken = take(file, contract=str(contract), max_bad_fraction=0.2)
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 3, 4]  # missing values equal no other
    assert (taken.report["num_read"], taken.report["num_rows"], taken.report["num_quarantined"]) == (5, 4, 1)
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["row"].to_list() == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns:\n- {name: x, type: int64, kind: numeric, minimun: 0}\n", "did you mean 'minimum'"),
        ("columns:\n- {name: x, type: int65, kind: numeric}\n", "Arrow types"),
        ("columns:\n- {name: x, type: int64, kind: numerical}\n", "column 'x'"),
        ("columns: [\n", "YAML"),
        ("columns:\n- {name: gone, type: int64, kind: numeric}\n", "column 'gone' of the contract"),
        ("columns:\n- {name: x, type: int64, kind: text}\n- {name: y, type: int64, kind: numeric}\n", "kind text for"),
        ("columns:\n- {name: x, type: int64, kind: numeric, minimum: 5, maximum: 1}\n", "minimum 5, maximum 1"),
        ("columns:\n- {name: x, type: int64, kind: numeric, minimum: 5, minimum: 1}\n", "'minimum' stands twice"),
        ("columns:\n- {name: x, type: int64, kind: numeric}\n- {name: x, type: double, kind: numeric}\n", "'x' twice"),
        ("rules:\n  a: x > 1\n  a: x > 2\n", "'a' stands twice"),
        ("", r"(?s)got: +nothing.*schema\.yaml"),
        ("- x\n", "a YAML list"),
    ],
)
def test_a_wrong_contract_says_what_is_wrong(take, text, message, write):
    contract = write("c.yaml", text)
    with pytest.raises(errors.ContractError, match=message):
        take(write("a.csv", "x,y\n7,0\n8,1\n"), contract=str(contract))


def test_rules_without_columns_are_enforced_and_leave_the_types_to_be_inferred(take, tmp_path, write):
    rules = write("c.yaml", "rules:\n  small: x < 8\n  rare: {check: x > 0, max_fraction: 0.1}\n")
    file = write("a.csv", "x,y\n7,0\n8,1\n6,1\n5,0\n")
    taken = take(file, contract=str(rules), max_bad_fraction=0.5)
    assert taken.snapshot.table()["x"].to_pylist() == [7, 6, 5]
    assert list(taken.report["quarantine"]) == ["rule 'small': x < 8"]
    write("a.csv", "x,y\n7,0\n-1,1\n6,1\n5,0\n")
    with pytest.raises(errors.ContractError, match=r"rule 'rare': x > 0"):
        take(file, contract=str(rules), max_bad_fraction=0.5)


def test_nan_breaks_no_rule_for_it_is_no_value(take, tmp_path, write):
    rules = write(
        "c.yaml",
        "columns:\n- {name: x, type: double, kind: numeric, allowed: [1.0, 2.0], minimum: 0}\n"
        "- {name: y, type: int64, kind: numeric}\nrules:\n  small: x < 8\n",
    )
    pq.write_table(pa.table({"x": [1.0, math.nan, None, 2.0], "y": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    assert take(tmp_path / "a.parquet", contract=str(rules)).snapshot.num_rows == 4


def test_where_no_row_keeps_the_contract_the_message_does_not_allow_them_all(take, write):
    rules = write("c.yaml", "rules:\n  big: x > 8\n")
    with pytest.raises(errors.ContractError, match=r"(?s)2 of 2 rows.*expected: rows that fit"):
        take(write("a.csv", "x,y\n7,0\n8,1\n"), contract=str(rules), max_bad_fraction=1)
