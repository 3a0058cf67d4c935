"""Texts as features: the same bits in both executors, and places that are what TF-IDF and an SVD say."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mlsys import recipe
from mlsys.features import plan
from mlsys.features.domains import Domain
from mlsys.features.operations import text
from mlsys.features.program import FeatureProgram
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.statistics import ColumnStatistics, text_statistics
from mlsys.statistics.text_statistics import TextStatistics

THINGS, DEEDS = (
    ["card", "transfer", "cash", "top up", "PIN", "exchange rate"],
    ["is lost", "was late", "costs £5", "?!"],
)
TEXTS = [f"My {THINGS[i % 6]} {DEEDS[i % 4]} since {i} days" for i in range(240)]
SCHEMA = Schema(
    columns=(
        Column(name="s", type="string", kind=Kind.TEXT),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)
MEGABYTE = "the card is lost, " * 60_000
EDGES = [
    "",
    " ",
    "\t\n",
    "?!?!",
    "日本 語",
    "\x00\x1c\x85\u2003\ufeff",
    "İSTANBUL ß",
    "😀" * 50,
    "card " * 500,
    "e\u0301",
]
cells = st.none() | st.text(max_size=60) | st.sampled_from([*EDGES, *TEXTS[:9]])


def table_of(values):
    return pa.table({"s": pa.array(values, pa.string()), "y": pa.array(np.arange(float(len(values))))})


@pytest.fixture(scope="module")
def made(fit):
    """Programs of both encodings; the training texts have a missing one."""
    return {encoding: fit(table_of([*TEXTS, None]), SCHEMA, encoding=encoding) for encoding in ("codes", "dense")}


def bits(X):
    return np.ascontiguousarray(X).view(np.uint32).tolist()


@pytest.mark.parametrize("encoding", ["codes", "dense"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(cells, min_size=1, max_size=8))
def test_a_text_has_the_same_bits_alone_and_in_any_batch(made, encoding, values):
    program = made[encoding]
    X = program.transform(table_of(values))
    row = program.row()
    assert bits(X) == [bits(row({"s": value})) for value in values]
    assert bits(X[::-1]) == bits(program.transform(table_of(values[::-1])))
    assert np.isfinite(X[[value is not None for value in values]]).all()


def test_a_cell_of_a_megabyte_has_the_same_bits_too(made):
    program = made["dense"]
    X = program.transform(table_of(["the card is lost", MEGABYTE, None, "lost"]))
    assert bits(X[1]) == bits(program.row()({"s": MEGABYTE}))
    assert X[1, 0] == X[1].max()  # standardised: far from any length seen
    place = place_of(program)
    cosine = X[0, place] @ X[1, place] / np.linalg.norm(X[0, place]) / np.linalg.norm(X[1, place])
    assert cosine > 0.9


def place_of(program):
    return [at for at, kind in enumerate(program.types) if kind == "e"]


def test_a_missing_text_is_missing_for_trees_and_at_the_origin_and_marked_for_linear_models(made):
    codes = made["codes"].transform(table_of([None]))
    assert np.isnan(codes).all()
    dense = made["dense"].transform(table_of([None, ""]))
    names = made["dense"].names
    assert dense[:, names.index("s is missing")].tolist() == [1, 0]
    assert not dense[:, place_of(made["dense"])].any()
    np.testing.assert_allclose(dense[0, :6], 0, atol=1e-6)  # the mean of each number


def test_the_numbers_are_standardised_by_the_moments_of_all_training_texts(made):
    table = table_of([*TEXTS, None])
    X = made["dense"].transform(table)[: len(TEXTS)]
    facts = text_statistics.Texts(TEXTS).measures()
    varies = facts.std(axis=0) > 0
    expected = (facts - facts.mean(axis=0))[:, varies] / facts.std(axis=0)[varies]
    np.testing.assert_allclose(X[:, :6][:, varies], expected, atol=1e-5)


def reference(texts):
    """TF-IDF by scikit-learn with our tokens, which `test_documents` compares with its own: one length, all tokens."""
    found = text_statistics.count(texts)
    spelled = [
        " ".join(np.repeat(found.buckets[a:b], found.counts[a:b]).astype(str))
        for a, b in zip(found.starts, found.starts[1:], strict=False)
    ]
    return TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"\d+").fit_transform(spelled).toarray()


def test_places_keep_the_cosines_of_tf_idf_and_have_the_singular_values_of_its_svd(fit):
    distinct = list(dict.fromkeys(TEXTS))
    wanted = recipe.FeaturesSection(columns={"s": {"operation": "tfidf", "components": 1_000}})
    program = fit(table_of(distinct), SCHEMA, wanted, "dense")
    X = program.transform(table_of(distinct)).astype(np.float64) / text.LENGTH
    expected = reference(distinct)
    np.testing.assert_allclose(X @ X.T, expected @ expected.T, atol=0.01)
    values = np.linalg.svd(expected, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(X, axis=0)[:20], values[:20], rtol=0.01)


def test_fewer_components_are_the_leading_ones(fit):
    few, more = (
        fit(table_of(TEXTS), SCHEMA, recipe.FeaturesSection(columns={"s": {"operation": "tfidf", "components": n}}))
        for n in (4, 24)
    )
    np.testing.assert_allclose(few.transform(table_of(TEXTS)), more.transform(table_of(TEXTS))[:, :4], atol=0.05)
    assert few.names == [f"s: component {n}" for n in range(1, 5)]
    assert set(few.types) == {"e"}


def test_the_order_of_the_rows_does_not_change_the_program(fit):
    once, again = (fit(table_of(texts), SCHEMA) for texts in (TEXTS, TEXTS[::-1]))
    ours, theirs = (program.to_json()["operations"][1] for program in (once, again))
    assert ours == theirs


def test_sums_of_the_largest_possible_weights_are_exact():
    """What makes the bits independent of order and batch: whole numbers below 2^53."""
    most = int(text.term_weights(np.array([2**31]))[0])
    rarest = text.WEIGHT_STEPS * (math.log(2**40) + 1)
    assert text.VOCABULARY * most * rarest * text.LARGEST < 2**53
    assert text.VOCABULARY * (most * rarest) ** 2 < 2**63


def test_texts_that_share_no_token_leave_the_numbers_alone(fit):
    program = fit(table_of([f"{i}" for i in range(10, 90)]), SCHEMA, recipe.FeaturesSection(columns={"s": "tfidf"}))
    assert np.isfinite(program.transform(table_of(["10", "", "new"]))).all()
    assert FeatureProgram.from_json(program.to_json()) == program


@pytest.mark.parametrize(("rows", "operations"), [(8, ["text"]), (160, ["text", "tfidf"])])
def test_what_texts_say_is_read_where_there_are_enough_of_them(scan, rows, operations):
    chosen = plan.choose(SCHEMA, scan(table_of(TEXTS[:rows]), SCHEMA))
    assert [choice.operation for choice in chosen.choices] == operations
    assert ("too few texts" in chosen.choices[0].reason) == (rows == 8)


@pytest.mark.parametrize(
    ("rows", "classes", "encoding", "components"),
    [
        (160, 2, "dense", 20),
        (5_000, 2, "dense", 256),
        (5_000, 50, "dense", 256),
        (5_000, 77, "dense", 308),
        (5_000, None, "dense", 256),
        (5_000, 77, "codes", 64),
    ],
)
def test_components_follow_rows_and_classes(rows, classes, encoding, components):
    statistics = ColumnStatistics(Kind.TEXT, classes)
    statistics.num_rows = rows
    assert text.num_components(statistics, encoding) == components


def test_what_is_derived_of_a_text_is_a_text(fit):
    wanted = recipe.FeaturesSection(derive={"both": "s || ' ' || UPPER(s)", "again": "both || '!'", "n": "LENGTH(s)"})
    program = fit(table_of(TEXTS), SCHEMA, wanted)
    assert {op.column for op in program.operations if op.name == "tfidf"} == {"s", "both", "again"}
    assert {op.column for op in program.operations if op.name == "numeric"} == {"n"}
    X = program.transform(table_of(TEXTS[:3]))
    assert bits(X) == [bits(program.row()({"s": value})) for value in TEXTS[:3]]


def test_the_words_of_categories_are_counted_once_each_however_many_rows_have_them(fit):
    schema = Schema(columns=(Column(name="s", type="string", kind=Kind.CATEGORICAL), SCHEMA["y"]))
    wanted = recipe.FeaturesSection(columns={"s": "tfidf"})
    once, often = (fit(table_of(texts), schema, wanted) for texts in (TEXTS, TEXTS * 5))
    new = table_of(TEXTS).select(["s"])
    assert bits(once.transform(new)[:, : once.width]) == bits(often.transform(new)[:, : once.width])


def test_a_column_without_a_text_has_no_axis():
    empty = text.truncated_svd("s", Domain("text"), TextStatistics(), 16, dense=True)
    assert empty.outputs == []
    assert empty.project(text_statistics.count(["a text"])).shape == (1, 0)
