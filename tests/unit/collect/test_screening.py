"""Columns that are certain to be known only with the answer are left out, and the run says so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.collect import screening, snapshot, task
from mlsys.recipe import DataSection, Recipe
from mlsys.schema import Role
from mlsys.store import Store


@pytest.fixture
def screened(tmp_path):
    """Collect a table in two files and screen it."""

    def run(columns, named=(), **data):
        folder = tmp_path / "rows"
        folder.mkdir()
        table = pa.table(columns)
        half = table.num_rows // 2
        for number, part in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(part, folder / f"{number}.parquet")
        recipe = Recipe(name="t", target="y", data=DataSection(source=str(folder), **data))
        taken = snapshot.take(Store.open(tmp_path / "store"), recipe.data, target="y", folder=tmp_path / "run").snapshot
        return screening.screen(taken, task.decide(taken, recipe), named)

    return run


RNG = np.random.default_rng(0)
Y = RNG.choice(["no", "yes"], 400)
X = RNG.normal(size=400)


def test_another_spelling_of_the_target_is_known_only_with_it(screened):
    found = screened({"x": X, "alive": np.where(Y == "yes", 1, 0), "near": np.where(X > 2, "yes", Y), "y": Y})
    assert {name: each.role for name, each in found.items()} == {"alive": Role.AFTER}
    assert screening.messages(found) == [
        (
            "column 'alive' names the classes of the target 'y' in all 400 rows with a label: "
            "taken as data.known_after; explore.allow: [alive] keeps it"
        )
    ]


def test_a_time_that_only_one_class_has_is_no_copy_unless_it_is_one_value(screened):
    closed = np.where(Y == "yes", "closed", None)
    at = [f"2024-01-{i % 28 + 1:02d}" if label == "yes" else None for i, label in enumerate(Y)]
    assert set(screened({"x": X, "state": pa.array(closed), "closed_at": at, "y": Y})) == {"state"}


def test_a_copy_of_a_number_is_found_and_a_rescaled_one_is_left_to_explore(screened):
    assert set(screened({"again": X, "double": 2 * X, "x": RNG.normal(size=400), "y": X})) == {"again"}


def test_many_columns_that_know_the_answer_are_one_sentence_with_the_line_that_keeps_them(screened):
    labels = pa.array(np.where(np.arange(400) < 200, Y, None))
    wave = {f"q{number}": pa.array(np.where(np.arange(400) < 200, X + number, None)) for number in range(11)}
    (message,) = screening.messages(
        screened({**wave, **{f"x{k}": RNG.normal(size=400) for k in range(12)}, "y": labels})
    )
    described = "is null in 100.0% of the rows without a label, 0.0% of those with one"
    assert message == (
        f"11 columns are known only with the answer ('q0' {described}; 'q1' {described}; and 9 more): taken as "
        "data.known_after; explore.allow: [q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10] keeps them"
    )


def test_a_column_that_the_recipe_names_stays(screened):
    assert screened({"x": X, "alive": Y, "y": Y}, named=["alive"]) == {}


def test_few_rows_prove_nothing(screened):
    assert screened({"x": X[:20], "alive": Y[:20], "y": Y[:20]}) == {}


def test_a_class_of_few_rows_proves_nothing(screened):
    rare = np.where(np.arange(400) < 3, "yes", "no")
    assert screened({"x": X, "mark": rare, "y": rare}) == {}


def test_a_column_that_is_filled_only_where_there_is_a_label_is_known_after(screened):
    is_open = np.arange(400) % 4 == 0
    some = pa.array(X, mask=np.arange(400) % 3 == 0)
    found = screened({
        "x": X, "some": some, "arrived": pa.array(X, mask=is_open), "y": pa.array(Y, mask=is_open)
    })  # fmt: skip
    assert set(found) == {"arrived"}
    assert found["arrived"].detail == "is null in 100.0% of the rows without a label, 0.0% of those with one"


def test_rows_without_a_label_that_are_empty_altogether_blame_no_column(screened):
    is_open = np.arange(400) % 4 == 0
    columns = {name: pa.array(X, mask=is_open) for name in "ab"}
    assert screened({**columns, "y": pa.array(Y, mask=is_open)}) == {}


def test_personal_data_is_no_feature_unless_the_recipe_says_so_and_coordinates_are(screened):
    mails = [f"user{i}@example.org" for i in range(100)] * 4
    columns = {"x": X, "contact": mails, "lat": RNG.uniform(40, 50, 400).round(4), "y": Y}
    found = screened(columns)
    assert {name: each.role for name, each in found.items()} == {"contact": Role.IGNORE, "lat": None}
    assert screening.messages(found) == [
        (
            "column 'contact' holds e-mail addresses: 100% of 100 different values: "
            "not used as a feature; data.allow_personal: [contact] uses it"
        )
    ]


def test_a_personal_id_is_told_because_it_is_logged_and_stays_the_id(screened):
    mails = [f"user{i}@example.org" for i in range(400)]
    found = screened({"x": X, "mail": mails, "y": Y}, id="mail")
    assert {name: each.role for name, each in found.items()} == {"mail": Role.ID}
    (message,) = screening.messages(found)
    assert message.startswith(
        "column 'mail' holds e-mail addresses: 100% of 400 different values: as data.id it stands"
    )
    assert "no data.id and data.ignore: [mail], and labels name the prediction_id" in message


def test_an_id_that_tells_nobody_apart_or_is_allowed_is_not_told(screened):
    assert screened({"x": X, "number": np.arange(400), "y": Y}, id="number") == {}


def test_a_personal_id_that_the_recipe_allows_is_not_told(screened):
    assert screened({"x": X, "mail": [f"u{i}@example.org" for i in range(400)], "y": Y}, ["mail"], id="mail") == {}
