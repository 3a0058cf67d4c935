"""Texts as tokens, and what is counted of them: against regular expressions, scikit-learn and counts by hand."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics, text_statistics
from mlsys.statistics.text_statistics import BUCKETS, MEASURES, Texts, TextStatistics, count

PROSE = [
    "I am still waiting on my card?",
    "What can I do if my card still hasn't arrived after 2 weeks?",
    "FREE entry!! Text WIN to 80086, £1.50/msg",
    "naïve Ärger über Öl",
    "",
    "   ",
    "?!",
    "日本語 の 文",
    "so it goes " * 40,
]
strings = st.text(max_size=40) | st.sampled_from([*PROSE, "İstanbul", "\x00\x85\u2003", "😀👍 ok", "a" * 300])


def of_text(found, at):
    part = slice(found.starts[at], found.starts[at + 1])
    return dict(zip(found.buckets[part].tolist(), found.counts[part].tolist(), strict=True))


def test_words_signs_and_letters_side_by_side_are_counted_as_scikit_learn_counts_them():
    words = CountVectorizer(token_pattern=r"[^\W_]+|[^\w\s]", lowercase=True).fit_transform(PROSE).sum(axis=1)
    grams = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4)).build_analyzer()
    found = count(PROSE)
    for at, text in enumerate(PROSE):
        assert sum(of_text(found, at).values()) == int(words[at, 0]) + len(grams(text))


def test_a_token_is_its_letters_and_not_its_case_place_or_neighbours():
    found = count(["card", "my CARD arrived", "Card", "dracs"])
    card, longer, upper, other = (set(of_text(found, at)) for at in range(4))
    assert card == upper
    assert card <= longer
    assert not card & other
    assert len(card) == 1 + 4 + 3  # the word; " ca" "car" "ard" "rd "; " car" "card" "ard "


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(strings, max_size=6))
def test_a_text_has_the_same_tokens_and_numbers_alone_and_among_others(texts):
    found, facts = count(texts), Texts(texts).measures()
    for at, text in enumerate(texts):
        assert of_text(count([text]), 0) == of_text(found, at)
        assert Texts([text]).measures()[0].tolist() == facts[at].tolist()


def test_batches_of_bounded_size_change_nothing(monkeypatch):
    whole = count(PROSE)
    monkeypatch.setattr(text_statistics, "BATCH_CHARACTERS", 50)
    assert len(list(text_statistics.batches(PROSE))) > 3
    cut = count(PROSE)
    for name in ("starts", "buckets", "counts"):
        assert getattr(cut, name).tolist() == getattr(whole, name).tolist()


def plainly(token, salt):
    """The hash of a token in whole numbers: its letters, mixed, weighted by the powers of a base, and mixed again."""
    base, total = 0x9E3779B97F4A7C15, 0
    for at, letter in enumerate(token):
        total += splitmix(ord(letter)) * base**at
    return splitmix((total % 2**64) ^ splitmix(salt))


def splitmix(x):
    """Vigna's splitmix64.c, which passes BigCrush; doi:10.1145/2660193.2660195."""
    z = (x + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_number_of_a_token_is_a_hash_that_never_changes():
    """What a stored program knows by number must be found again in every later version."""
    named = [("card", 0), *((" card "[i : i + 3], 1) for i in range(4)), *((" card "[i : i + 4], 2) for i in range(3))]
    assert sorted(of_text(count(["Card"]), 0)) == sorted(plainly(*each) >> 48 for each in named)
    assert sorted(of_text(count(["?"]), 0)) == sorted(plainly(*each) >> 48 for each in [("?", 0), (" ? ", 1)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World 42", [15, 3, 4.0, 2 / 15, 2 / 15, 1 / 15]),
        ("", [0, 0, 0, 0, 0, 0]),
        (" \t\n", [3, 0, 0, 0, 0, 0]),
        ("ÄÖü", [3, 1, 3, 2 / 3, 0, 0]),
        ("😀?", [2, 0, 0, 0, 0, 1]),
        ("日本 語", [4, 2, 1.5, 0, 0, 0]),
    ],
)
def test_the_numbers_of_a_text_are_those_counted_by_hand(text, expected):
    assert Texts([text]).measures()[0].tolist() == pytest.approx(expected)
    assert len(expected) == len(MEASURES)


def learned(texts):
    found = TextStatistics()
    found.update(pa.array(texts, pa.string()))
    return found


def as_text(found):
    facts = [moments.n for moments in found.measures]  # moments merge up to rounding
    return json.dumps({**found.to_json(), "facts": facts})


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(strings, max_size=10), cut=st.integers(0, 10))
def test_parts_merge_to_the_whole_in_any_order(texts, cut):
    one, two, whole = learned(texts[:cut]), learned(texts[cut:]), learned(texts)
    for merged in (one.merge(two), two.merge(one)):
        assert as_text(merged) == as_text(whole)
        for ours, theirs in zip(merged.measures, whole.measures, strict=True):
            assert ours.mean == pytest.approx(theirs.mean, abs=1e-12)
            assert ours.m2 == pytest.approx(theirs.m2, abs=1e-9, rel=1e-9)
    back = TextStatistics.from_json(json.loads(json.dumps(whole.to_json(), allow_nan=False)))
    assert back.to_json() == whole.to_json()


def test_each_text_counts_once_for_a_token_however_often_it_says_it():
    found = learned(["card card card", "card", "money"])
    assert found.containing[plainly("card", 0) >> 48] == 2
    assert found.containing.sum() == sum(len(of_text(count([t]), 0)) for t in ("card card card", "card", "money"))


def test_the_texts_kept_are_those_of_the_smallest_hashes_whatever_the_parts(monkeypatch):
    monkeypatch.setattr(text_statistics, "SAMPLE", 5)
    texts = [f"text number {i}" for i in range(40)]
    whole = learned(texts)
    parts = [learned(texts[i::3]) for i in range(3)]
    assert parts[2].merge(parts[0]).merge(parts[1]).sample == whole.sample
    assert len(whole.sample) == 5
    assert list(whole.sample) == sorted(whole.sample)


def test_a_text_of_a_megabyte_is_counted_whole_and_kept_in_part():
    found = learned(["buzz " * 200_000 + "end"])
    assert found.measures[0].mean == 1_000_003
    assert found.containing[list(of_text(count(["end"]), 0))].all()
    assert [len(text) for text in found.sample.values()] == [text_statistics.SAMPLE_CHARACTERS]


def test_long_texts_are_counted_apart_by_what_differs_far_down():
    same = "so it goes " * 200
    column = ColumnStatistics(Kind.TEXT)
    column.update(pa.array([same + "a", same + "b", same + "a", "short"]))
    assert [count for _, count in column.result().frequent_items] == [2, 1, 1]
    assert column.num_distinct == 3
    assert max(len(text) for text in column.counts()) < text_statistics.SAMPLE_CHARACTERS + 20
    back = ColumnStatistics.from_json(json.loads(json.dumps(column.to_json())))
    assert (back.merge(column).num_distinct, back.result().max_length) == (3, 2_201)


def test_statistics_without_rows_hold_no_text_that_is_kept_to_fit_on():
    column = ColumnStatistics(Kind.TEXT)
    column.update(pa.array([f"text number {i}" for i in range(9_000)]))
    assert len(column.documents.sample) == text_statistics.SAMPLE
    bare = column.without_rows()
    assert not bare.documents.sample
    assert bare.documents.num_tokens == column.documents.num_tokens
    assert len(column.documents.sample) == text_statistics.SAMPLE


def test_a_column_of_texts_says_its_words():
    column = ColumnStatistics(Kind.TEXT)
    column.update(pa.array(["The card", "the card, the card", None, "Money"]))
    found = column.result().texts
    expected = Counter(
        word for text in ("the card", "the card, the card", "money") for word in set(re.findall(r"\w+", text))
    )
    assert found["words"] == {
        word: number / 3 for word, number in sorted(expected.items(), key=lambda i: (-i[1], i[0]))
    }
    assert (found["count"], found["num_kept"]) == (3, 3)
    assert found["facts"]["words"] == {"mean": pytest.approx(7 / 3), "stddev": pytest.approx(np.std([2, 4, 1], ddof=1))}
    assert ColumnStatistics(Kind.TEXT).result().texts is None


def test_the_number_of_different_tokens_is_estimated_within_a_few_percent():
    texts = [f"w{i:05x}" for i in range(5_000)]
    distinct = {f"w{i:05x}" for i in range(5_000)}
    for text in texts:
        padded = f" {text} "
        distinct |= {padded[at : at + n] + "#" * n for n in (3, 4) for at in range(len(padded) - n + 1)}
    assert learned(texts).num_tokens == pytest.approx(len(distinct), rel=0.03)
    assert len(distinct) > BUCKETS / 10
