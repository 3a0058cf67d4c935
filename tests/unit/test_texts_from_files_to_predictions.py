"""A folder of text files from collection to predictions, with no word about texts but the format."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from mlsys import bundle, recipe, selection, train
from mlsys.collect import snapshot, split, task
from mlsys.explore import scan
from mlsys.features import plan
from mlsys.predict import Predictor
from mlsys.store import Store

WORDS = {
    "money": "account balance payment transfer fee bank invoice credit".split(),
    "travel": "flight ticket hotel luggage passport airport train seat".split(),
    "food": "recipe onion oven butter dinner salad bread soup".split(),
}
COMMON = "I have a question about my and the please tell me why it was so late again".split()
RECIPE = """
name: letters
target: label
data: {{source: "{source}", reading: {{format: text}}}}
split: {{folds: 2}}
selection: {{families: [linear]}}
evaluate: {{bootstrap: 0}}
"""


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """300 letters of common words with three of the words of their subject, some with a typing error."""
    rng, root = np.random.default_rng(3), tmp_path_factory.mktemp("letters")
    for number in range(300):
        subject = list(WORDS)[number % 3]
        said = [*rng.choice(COMMON, 12), *rng.choice(WORDS[subject], 3)]
        if number % 4 == 0:
            said[-1] = said[-1][:-1] + "x"
        file = root / "mail" / subject / f"{number:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(" ".join(rng.permutation(said)) + ("?!" if number % 5 else "."))
    return root


@pytest.fixture(scope="module")
def run(letters):
    store = Store.open(letters / "store")
    settings = recipe.parse(RECIPE.format(source=letters / "mail"))
    taken = snapshot.take(store, settings.data, target="label", folder=letters / "run")
    what = task.decide(taken.snapshot, settings)
    parts = split.divide(store, taken.snapshot, settings, what)
    return store, settings, what, parts, scan.profile(parts.only("train"), what).statistics


@pytest.fixture(scope="module")
def made(run):
    store, settings, what, parts, statistics = run
    return train.fit(store, parts.only("train", "validation"), statistics, settings, what, "linear", {})


def test_the_plan_reads_the_text_and_nothing_else_and_says_why(run):
    _, _, _, parts, statistics = run
    chosen = plan.choose(parts.schema, statistics.whole(), encoding="dense")
    assert [(choice.column, choice.operation) for choice in chosen.choices] == [("text", "text"), ("text", "tfidf")]
    assert "leading axes" in chosen.choices[1].reason
    assert statistics.whole().columns["text"].result().texts["words"]["the"] > 0.3


def test_subjects_are_told_apart_and_a_request_has_the_bits_of_its_row(run, made):
    _, settings, what, parts, statistics = run
    ranking = selection.rank(parts.only("train"), statistics, settings, what)
    assert ranking.preferred == "linear"
    predictor, test = Predictor(made), parts.table("test")
    by_table = predictor.table(test)
    assert np.mean(np.array(by_table.prediction.tolist()) == np.array(test["label"].to_pylist())) > 0.95
    records = [{"text": text} for text in test["text"].to_pylist()]
    by_row = np.concatenate([predictor.rows([record]).probabilities for record in records])
    assert by_row.tobytes() == by_table.probabilities.tobytes()


def test_a_fold_is_fitted_on_the_texts_of_the_others_alone(run):
    _, settings, what, parts, statistics = run
    made = train.prepare(parts.only("train"), statistics, settings, what, "linear", fit_folds=[0], judge=1)
    only = type(statistics)({0: statistics.folds[0]})
    again = train.prepare(parts.only("train"), only, settings, what, "linear", fit_folds=[0], judge=1)
    assert made.judged.X.tobytes() == again.judged.X.tobytes()


def test_a_bundle_holds_no_sample_of_the_training_texts(run, made):
    store, _, _, parts, _ = run
    opened = bundle.open(store, made.digest)
    assert opened.reference.inputs.columns["text"].documents.sample == {}
    assert opened.reference.inputs.columns["text"].documents.n == parts.num_rows["train"]
    assert len(json.dumps(opened.program.to_json())) < 4_000_000
    assert Predictor(opened).table(pa.table({"text": pa.array(["", "?"], pa.string())})).probabilities.shape == (2, 3)
