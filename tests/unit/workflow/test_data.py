"""When the rows are collected again, without Ray: in this process."""

from __future__ import annotations

import re

import pytest

from mlsys import errors, recipe, workflow
from mlsys.dataset import Snapshot
from mlsys.store import Store
from mlsys.workflow import Run

CONTRACT = "columns:\n- {name: x, type: int64, kind: numeric, maximum: 50}\n- {name: y, type: int64, kind: numeric}\n"


@pytest.fixture
def collect(tmp_path):
    """Collect a hundred rows under a contract; `data` goes beside it."""
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(100)))
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    text = f"{{source: {tmp_path}/a.csv, contract: {tmp_path}/contract.yaml, max_bad_fraction: 1}}"

    def run():
        tree = recipe.parse(f"{{name: ruled, target: y, data: {text}}}")
        return workflow.run(Run(tree, Store.open(tmp_path / "store")), until="collect").records["collect"]

    return run


def test_an_edited_contract_is_enforced_though_the_source_stands_still(collect, tmp_path):
    assert collect()["taken"]["num_quarantined"] == 49
    assert collect()["seconds"] == collect()["seconds"]  # the same record: nothing was done again
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("50", "60"))
    assert collect()["taken"]["num_quarantined"] == 39


def test_a_contract_that_is_gone_or_broken_is_told_though_the_source_stands_still(collect, tmp_path):
    collect()
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("maximum", "maximun"))
    with pytest.raises(errors.ContractError, match="did you mean 'maximum'"):
        collect()
    (tmp_path / "contract.yaml").unlink()
    with pytest.raises(errors.ContractError, match="No such file"):
        collect()


WEATHER = "origin,at,learnt,temp\n" + "".join(f"EWR,2013-01-0{day} 06:00,2013-01-0{day},{day}\n" for day in range(1, 9))


@pytest.fixture
def joined(tmp_path):
    """Collect rows of noon with a table that says only the day on which it learnt of a value."""
    rows = "".join(f"EWR,2013-01-0{1 + at % 9} 12:00,{at // 9 % 2}\n" for at in range(90))
    (tmp_path / "rows.csv").write_text("origin,time,y\n" + rows)
    (tmp_path / "weather.csv").write_text(WEATHER)

    def run(derive):
        join = f"source: {tmp_path}/weather.csv, keys: [origin], time: at, known_at: learnt, columns: [temp]{derive}"
        tree = recipe.parse(
            f"{{name: j, target: y, data: {{source: {tmp_path}/rows.csv, time: time, timezone: America/New_York}}, "
            f"features: {{joins: {{weather: {{{join}}}}}}}}}"
        )
        done = workflow.run(Run(tree, Store.open(tmp_path / "store")), until="collect")
        return Snapshot.open(done.store, done.results["collect"].snapshot).table()

    return run


def test_a_day_is_no_moment_of_knowledge_until_the_recipe_says_which_and_the_hint_does(joined):
    with pytest.raises(errors.FeatureError, match="the moment from which it counts") as caught:
        joined("")
    derive = re.search(r"hint: +(derive: .*) in the join", str(caught.value))[1]
    table = joined(f", {derive}")
    temp_of_day = {row["time"].day: row["temp"] for row in table.to_pylist()}
    assert temp_of_day == {1: None} | {day: day - 1 for day in range(2, 10)}  # at noon, today's value is not known yet


def test_what_was_left_out_is_said_on_the_console_and_of_which_table(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("k,e,y\n" + "".join(f"{at % 7},,{at % 2}\n" for at in range(100)))
    (tmp_path / "table.csv").write_text("k,v\n" + "".join(f"{at},{'1,2' if at == 5 else at}\n" for at in range(200)))
    join = f"{{joins: {{table: {{source: {tmp_path}/table.csv, keys: [k]}}}}}}"
    tree = recipe.parse(f"{{name: told, target: y, data: {{source: {tmp_path}/rows.csv}}, features: {join}}}")
    for _ in range(2):  # also when nothing is new
        workflow.run(Run(tree, Store.open(tmp_path / "store")), until="collect")
        said = capsys.readouterr().out
        assert "column 'e' has no value in any row: ignored" in said
        assert "table: 1 of 200 rows in quarantine" in said


def test_a_thousand_things_to_say_are_ten_and_a_number(tmp_path, capsys):
    names = [f"c{at}" for at in range(1000)]
    (tmp_path / "rows.csv").write_text(",".join([*names, "y"]) + "\n" + ("," * 1000 + "0\n" + "," * 1000 + "1\n") * 20)
    tree = recipe.parse(f"{{name: wide, target: y, data: {{source: {tmp_path}/rows.csv}}}}")
    workflow.run(Run(tree, Store.open(tmp_path / "store")), until="collect")
    said = capsys.readouterr().out
    assert said.count("has no value in any row") == 10
    assert "and 990 more of this kind" in said
