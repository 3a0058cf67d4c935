"""What stands in a text column: some texts, and the words that tell the classes apart; from the sample.

A word tells of a class by the log-odds ratio of its frequency there against all other
texts, with the frequencies of the whole as a prior, over its standard error (Monroe,
Colaresi & Quinn 2008, "Fightin' Words", Political Analysis 16(4), section 3.5.1,
doi:10.1093/pan/mpn018). Texts that hold the word are counted, not its occurrences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mlsys.schema import ROW, Task

__all__ = ["describe", "telling"]

MOST_TEXTS, MOST_CHARACTERS = 5_000, 2_000
"""Texts of the sample that are read, and characters of each: a few seconds at most."""

SHOWN, SHOWN_CHARACTERS = 6, 280
MOST_WORDS, MOST_CLASSES = 12, 6

PRIOR = 100.0
"""Texts that the prior is worth: a word of a few texts tells nothing."""

WORD = re.compile(r"\w[\w']*", re.UNICODE)


def describe(rows: pa.Table, name: str, task: Task) -> dict[str, Any]:
    """Some texts with their target, the words of each class, and how many words a text has.

    The texts are the first of the sample, which is drawn by the hash of row numbers.
    """
    known = rows.select([name, task.target, ROW]).filter(rows[name].is_valid()).slice(0, MOST_TEXTS)
    texts = [str(text)[:MOST_CHARACTERS] for text in known[name].to_pylist()]
    words = [set(WORD.findall(text.lower())) for text in texts]
    labels = known[task.target].to_pylist()
    return {
        "num_read": len(texts),
        "examples": [
            {"text": _shortened(text), "target": label}
            for text, label in list(zip(known[name].slice(0, SHOWN).to_pylist(), labels, strict=False))
        ],
        "words": _by_class(words, labels, task),
    }


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + "…"


def _by_class(words: Sequence[set[str]], labels: Sequence[Any], task: Task) -> list[dict[str, Any]]:
    """The words of each class, for classes of the task that the sample holds, the most frequent first."""
    rows = Counter(str(label) for label in labels if label is not None)
    classes = [str(value) for value in task.classes if rows[str(value)]]
    shown = sorted(classes, key=lambda value: -rows[value])[:MOST_CLASSES]
    told = [str(label) for label in labels]
    return [
        {"class": value, "rows": rows[value], "words": telling(words, [t == value for t in told])} for value in shown
    ]


def telling(words: Sequence[set[str]], inside: Sequence[bool]) -> list[list[Any]]:
    """Words that texts inside have more often than those outside, with the texts of each; those that tell most first.

    >>> telling([{"win", "now"}, {"win"}, {"now"}, {"hi"}] * 40, [True, True, False, False] * 40)
    [['win', 80, 0]]
    """
    here, there = Counter[str](), Counter[str]()
    for found, is_inside in zip(words, inside, strict=True):
        (here if is_inside else there).update(found)
    sizes = (sum(inside), len(inside) - sum(inside))
    scores = {word: _score(here[word], there[word], sizes) for word in here}
    best = sorted((word for word in scores if scores[word] > 1.96), key=lambda word: (-scores[word], word))
    return [[word, here[word], there[word]] for word in best[:MOST_WORDS]]


def _score(here: int, there: int, sizes: tuple[int, int]) -> float:
    """The log-odds ratio of a word over its standard error, equations 15, 16 and 22 of the source."""
    prior = PRIOR * (here + there) / sum(sizes)
    odds = [
        math.log((count + prior) / max(size + PRIOR - count - prior, 1e-9))
        for count, size in zip((here, there), sizes, strict=True)
    ]
    return (odds[0] - odds[1]) / math.sqrt(1 / (here + prior) + 1 / (there + prior))
