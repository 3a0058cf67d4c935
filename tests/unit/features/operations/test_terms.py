"""Terms of texts: TF-IDF with a column a token, the same for a table and a row, as many as the rows allow."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys.features import plan, program
from mlsys.features.operations import terms
from mlsys.features.operations.operation import PlanInputs
from mlsys.recipe import FeaturesSection
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import TableStatistics

TEXTS = ["the red card", "the blue card, the blue one", "", "no card at all", None, "red and blue"] * 4
SCHEMA = Schema(
    columns=(
        Column(name="text", type="string", kind=Kind.TEXT),
        Column(name="y", type="string", kind=Kind.CATEGORICAL, role=Role.TARGET),
    )
)
TASK = Task(kind="binary", target="y", classes=("a", "b"))


def fitted(options="terms"):
    table = pa.table({"text": TEXTS, "y": ["a", "b"] * 12})
    statistics = TableStatistics.empty(SCHEMA, TASK)
    statistics.update(table)
    chosen = plan.choose(SCHEMA, statistics, FeaturesSection(columns={"text": options}), "dense")
    return program.fit(chosen, statistics), table


def test_a_text_has_length_two_and_a_half_and_only_its_tokens():
    made, table = fitted()
    X = made.transform(table)
    assert set(made.types) == {"t"}
    lengths = np.sqrt((X.astype(float) ** 2).sum(axis=1))
    assert lengths[[0, 1, 3, 5]] == pytest.approx(terms.LENGTH, rel=1e-6)
    assert lengths[[2, 4]].tolist() == [0, 0]
    assert (X[0] > 0).sum() < (X > 0).any(axis=0).sum()


def test_a_row_has_the_bits_that_it_has_in_a_table_and_a_stored_program_gives_them_too():
    made, table = fitted()
    X, row = made.transform(table), made.row()
    again = program.FeatureProgram.from_json(made.to_json())
    assert again.transform(table).tobytes() == X.tobytes()
    for number, text in enumerate(TEXTS[:6]):
        assert row({"text": text}).tobytes() == X[number].tobytes()


def test_the_recipe_says_how_many_and_the_rows_how_many_at_most():
    made, _ = fitted({"operation": "terms", "terms": 5})
    assert made.width == 5
    statistics = TableStatistics.empty(SCHEMA, TASK).columns["text"]
    inputs = PlanInputs(SCHEMA["text"], statistics, "dense")
    for num_rows, most in ((100, 16_384), (40_000, 3_355), (10**9, 64)):
        statistics.num_rows = num_rows
        assert terms.num_terms(inputs) == most
