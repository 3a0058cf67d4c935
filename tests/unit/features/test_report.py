"""The page of the plans: every choice with its reason, and lines of the recipe that give it again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlsys import recipe
from mlsys.features import plan, program, report
from mlsys.schema import Column, Kind, Role, Schema

ENCODINGS = ("codes", "dense")


def planned(scan, table, schema, features=None):
    statistics = scan(table, schema, features or recipe.FeaturesSection())
    plans = {e: plan.choose(schema, statistics, features, e) for e in ENCODINGS}
    return plans, {e: program.fit(chosen, statistics) for e, chosen in plans.items()}, statistics


def test_the_lines_of_the_recipe_give_the_same_program_again(scan, rows, schema):
    plans, programs, statistics = planned(scan, rows, schema)
    lines = report.lines(plans["codes"])
    written = yaml.safe_load("\n".join(lines))
    assert len(lines) == len(written) == len(schema.features)
    again = plan.choose(schema, statistics, recipe.FeaturesSection(columns=written), "codes")
    assert program.fit(again, statistics).digest == programs["codes"].digest


def test_the_page_says_of_each_column_what_it_becomes_and_why(scan):
    table = pa.table(
        {
            "a <b>": pa.array(np.arange(200) % 7 / 2),
            "texts: {of}": [f"category {at % 3}" for at in range(200)],
            "same": ["one"] * 200,
            "y": np.arange(200.0),
        }
    )
    kinds = {"double": Kind.NUMERIC, "string": Kind.CATEGORICAL}
    schema = Schema(
        columns=tuple(
            Column(
                name=f.name,
                type=str(f.type),
                kind=kinds[str(f.type)],
                role=Role.TARGET if f.name == "y" else Role.FEATURE,
            )
            for f in table.schema
        )
    )
    plans, programs, _ = planned(scan, table, schema)
    page = report.page(plans, programs, "demo")
    for choice in (*plans["codes"].choices, *plans["dense"].choices):
        assert choice.reason.replace("'", "&#x27;") in page
    for part in ("2 columns in use, 1 dropped", "a &lt;b&gt;", "2 features", "same: drop", "the same value in all"):
        assert part in page
    assert "<b>" not in page.replace("</b>", "")
    assert yaml.safe_load("\n".join(report.lines(plans["codes"])))["texts: {of}"]["operation"] == "codes"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_numbers_of_features_are_those_of_the_program(scan, rows, schema, encoding):
    plans, programs, _ = planned(scan, rows, schema)
    page = report.page(plans, programs, "demo")
    assert f"{programs[encoding].width} features" in page
