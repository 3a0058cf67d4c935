"""Texts are compared on all their terms, which a linear model takes, beside their leading axes."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys.predict import Predictor
from modelled import collected

TOPICS = ("crime", "money", "sport", "weather")


def topics(num_rows=700, vocabulary=1_500, seed=0):
    """Texts of four topics that share all words and differ in how often they use each."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(vocabulary)])
    base = 1 / np.arange(1, vocabulary + 1)
    tilted = base * np.exp(rng.normal(scale=0.8, size=(4, vocabulary)))
    topic = rng.integers(0, 4, num_rows)
    shares = tilted / tilted.sum(axis=1, keepdims=True)
    texts = [" ".join(rng.choice(words, 30, p=shares[k])) for k in topic]
    return pa.table({"text": texts, "length": rng.integers(1, 9, num_rows) / 2, "y": np.array(TOPICS)[topic]})


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    sections = {"selection": {"families": ["linear"], "metric": "accuracy"}, "split": {"folds": 2}}
    return collected(tmp_path_factory.mktemp("topics"), topics(), **sections)


@pytest.fixture(scope="module")
def ranking(rows):
    return rows.ranking()


def test_all_terms_are_a_candidate_and_better_than_axes_where_many_words_tell(ranking):
    scores = {entry.name: entry.mean for entry in ranking.entries}
    assert scores["linear, all terms of texts"] > scores["linear"]
    assert ranking.preferred == "linear, all terms of texts"
    assert ranking.decided == {"features.columns": {"text": ["text", "terms"]}}


def test_it_is_as_accurate_as_scikit_learn_on_the_same_rows(rows, ranking):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    made, train, test = rows.fit(ranking), rows.parts.table("train"), rows.parts.table("test")
    peer = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10))
    peer.fit(train["text"].to_pylist(), train["y"].to_pylist())
    truth = np.array(test["y"].to_pylist())
    ours = np.mean(Predictor(made).table(test).prediction == truth)
    assert ours >= np.mean(peer.predict(test["text"].to_pylist()) == truth) - 0.03


def test_a_row_alone_in_a_batch_and_in_slices_has_the_same_bits(rows, ranking, monkeypatch):
    predictor, test = Predictor(rows.fit(ranking)), rows.parts.table("test")
    whole = predictor.table(test).probabilities
    records = test.select(["text", "length"]).to_pylist()[:20]
    alone = np.concatenate([predictor.rows([record]).probabilities for record in records])
    assert alone.tobytes() == whole[:20].tobytes()
    monkeypatch.setattr("mlsys.predict.MAX_CELLS", 3 * len(predictor.bundle.program.types))
    assert predictor.table(test).probabilities.tobytes() == whole.tobytes()


def test_numbers_are_predicted_from_terms_too(tmp_path):
    table = topics(400)
    value = np.array([TOPICS.index(topic) for topic in table["y"].to_pylist()]) + 0.1 * np.arange(400) / 400
    rows = collected(
        tmp_path,
        table.set_column(2, "y", pa.array(value)),
        selection={"families": ["linear"]},
        split={"folds": 2},
    )
    ranking = rows.ranking()
    assert ranking.beats_dummy
    assert {entry.form for entry in ranking.entries} == {"", "all terms of texts"}


def test_a_text_whose_operation_the_recipe_names_is_as_it_says(tmp_path):
    rows = collected(
        tmp_path,
        topics(200),
        selection={"families": ["linear"]},
        split={"folds": 2},
        features={"columns": {"text": "tfidf"}},
    )
    assert {entry.form for entry in rows.ranking().entries} == {""}
