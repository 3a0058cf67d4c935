"""Categories as codes, target means and counts: a form that is offered where asked for, compared, and true."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys.predict import Predictor
from mlsys.selection import category_forms, forms
from modelled import collected

ASKED = {"families": ["lightgbm", "xgboost"], "category_means": True}
FAST = {"split": {"folds": 3}, "train": {"rounds": 40, "early_stopping": 10}}
FORM = "lightgbm, means and counts of categories"


def grouped(num_rows=1_500, *, effect, seed=1):
    """A hundred and fifty shops, each with a level of its own, beside a colour and a number."""
    rng = np.random.default_rng(seed)
    shop, colour = rng.integers(0, 150, num_rows), rng.integers(0, 2, num_rows)
    amount = rng.normal(size=num_rows)
    score = effect * rng.normal(size=150)[shop] + 0.3 * amount
    names = np.array([f"shop {k}" for k in range(150)])
    label = np.where(rng.random(num_rows) < 1 / (1 + np.exp(-score)), "yes", "no") if effect else None
    label = np.where(rng.random(num_rows) < 0.5, "yes", "no") if label is None else label
    return pa.table({"shop": names[shop], "colour": np.array(["red", "blue"])[colour], "amount": amount, "y": label})


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("shops"), grouped(effect=1.5), **FAST, selection=ASKED)


@pytest.fixture(scope="module")
def ranking(rows):
    return rows.ranking()


def test_the_form_is_of_lightgbm_alone_and_of_categories_that_codes_hold(rows):
    given = rows.parts.schema, rows.statistics, rows.settings
    assert category_forms.columns(*given) == ["shop"]  # a split says all of two colours
    (form,) = forms.mean_forms(*given)
    assert form.values == {"features.columns": {"shop": ["codes", "target", "frequency"]}}
    assert [each.name for each in forms.of_family("lightgbm", [forms.USUAL, form], [forms.USUAL])][1:] == [form.name]
    assert forms.of_family("xgboost", [forms.USUAL, form], [forms.USUAL]) == [forms.USUAL]


@pytest.mark.parametrize("value", [{"selection.category_means": False}, {"features.columns": {"shop": "codes"}}])
def test_it_is_not_offered_unasked_nor_for_what_the_recipe_states(rows, value):
    given = rows.parts.schema, rows.statistics, rows.settings.having(value)
    assert (category_forms.columns(*given), forms.mean_forms(*given), category_forms.note([])) == ([], [], [])


def test_it_is_compared_on_the_metric_and_told_and_wins_where_shops_have_levels_of_their_own(rows, ranking):
    scores = {entry.name: entry.mean for entry in ranking.entries}
    assert scores[FORM] > scores["lightgbm"] + 0.01
    told = "lightgbm compared with target means and counts of 1 categories, too"
    assert any(note.startswith(told) for note in ranking.notes)
    assert ranking.preferred == FORM
    assert ranking.decided == {"features.columns": {"shop": ["codes", "target", "frequency"]}}


def test_the_bundle_has_the_form_and_a_row_alone_has_the_bits_it_has_among_others(rows, ranking):
    made, table = rows.fit(ranking), rows.parts.table("test").select(["shop", "colour", "amount"])
    assert {"shop", "shop: rate of y=yes", "shop: frequency"} <= set(made.program.names)
    predictor = Predictor(made)
    alone = [predictor.rows([record]).probabilities for record in table.slice(0, 20).to_pylist()]
    assert np.concatenate(alone).tobytes() == predictor.table(table).probabilities[:20].tobytes()


def test_labels_that_nothing_says_of_stay_unknown(tmp_path):
    rows = collected(tmp_path, grouped(effect=0.0), **FAST, selection=ASKED)
    (entry,) = [entry for entry in rows.ranking().entries if entry.name in (FORM, "lightgbm") and entry.form]
    assert abs(entry.mean - 0.5) < 0.06  # a mean that holds the label of its own row would say most of them
