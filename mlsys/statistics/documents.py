"""Texts of a column: how many hold each token, what they look like, and a few thousand of them.

Counts and moments are those of all texts. The texts kept are the different ones with the
smallest hashes, so that they are the same however the rows are divided, and parts merge to
exactly what the whole would give (bottom-k sampling, see `smallest`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.statistics import codec
from mlsys.statistics.hashing import hash_texts
from mlsys.statistics.moments import Moments
from mlsys.statistics.tokens import BUCKETS, FACTS, Texts, batches

__all__ = ["KEPT_CHARACTERS", "SAMPLE", "Documents", "abbreviated"]

SAMPLE = 4_096
"""Different texts kept. Factors of 2,048 short questions in 77 classes already classify as well as those of 10,000."""

KEPT_CHARACTERS = 1_000
"""Of each of them, its first characters: 4 MB a column at most."""

FREQUENT_WORDS = 20


def abbreviated(texts: pa.Array) -> pa.Array:
    """Texts without nulls; of a longer one, its first `KEPT_CHARACTERS` and its hash, so that it stays itself."""
    longer = pc.greater(pc.utf8_length(texts), KEPT_CHARACTERS)
    if not pc.any(longer).as_py():
        return texts
    found = texts.to_pylist()
    for at in np.flatnonzero(np.asarray(longer)).tolist():
        found[at] = f"{found[at][:KEPT_CHARACTERS]}… {int(hash_texts([found[at]])[0]):016x}"
    return pa.array(found, texts.type)


class Documents:
    """Mergeable statistics of texts.

    Attributes
    ----------
    n
        Texts seen.
    containing
        ``(BUCKETS,)``: texts that hold each token, see `tokens`.
    facts
        Moments of each of `tokens.FACTS`.
    sample
        Hash → text, cut to `KEPT_CHARACTERS`, of the `SAMPLE` smallest hashes.
    """

    def __init__(self) -> None:
        self.n = 0
        self.containing = np.zeros(BUCKETS, np.int64)
        self.facts = tuple(Moments() for _ in FACTS)
        self.sample: dict[int, str] = {}

    def update(self, values: pa.Array) -> None:
        """Take texts in, without nulls."""
        texts = values.to_pylist()
        self.n += len(texts)
        numbers = []
        for batch in batches(texts):
            decoded = Texts(batch)
            self.containing += np.bincount(decoded.tokens().buckets, minlength=BUCKETS)
            numbers.append(decoded.facts())
        if numbers:
            columns = np.concatenate(numbers).T
            self.facts = tuple(one.merge(Moments.of(column)) for one, column in zip(self.facts, columns, strict=True))
        self._keep(dict(zip(hash_texts(texts).tolist(), texts, strict=True)))

    def merge(self, other: Documents) -> Documents:
        merged = Documents()
        merged.n = self.n + other.n
        merged.containing = self.containing + other.containing
        merged.facts = tuple(one.merge(two) for one, two in zip(self.facts, other.facts, strict=True))
        merged.sample = self.sample
        merged._keep(other.sample)
        return merged

    def _keep(self, texts: dict[int, str]) -> None:
        both = self.sample | texts
        self.sample = {at: both[at][:KEPT_CHARACTERS] for at in sorted(both)[:SAMPLE]}

    @property
    def num_tokens(self) -> int:
        """Different tokens, from the share of buckets in use (linear counting, doi:10.1145/78922.78925)."""
        unused = max(1, BUCKETS - int(np.count_nonzero(self.containing)))
        return round(BUCKETS * float(np.log(BUCKETS / unused)))

    def result(self) -> dict[str, Any]:
        """The numbers, ready for JSON; `words` are the most frequent of the texts kept: word → share of them."""
        return {
            "count": self.n,
            "num_tokens": self.num_tokens,
            "facts": {
                name: {"mean": moments.mean, "stddev": moments.stddev}
                for name, moments in zip(FACTS, self.facts, strict=True)
            },
            "words": self._frequent_words(),
            "num_kept": len(self.sample),
        }

    def _frequent_words(self) -> dict[str, float]:
        lower = [text.lower() for text in self.sample.values()]
        decoded, joined = Texts(lower), "".join(f" {text} " for text in lower)
        first, last = decoded.words
        found = {(at, joined[a:b]) for at, a, b in zip(decoded.text_at(first).tolist(), first, last, strict=True)}
        counts = Counter(word for _, word in found)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT_WORDS]
        return {word: count / len(lower) for word, count in ordered}

    def to_json(self) -> dict[str, Any]:
        used = np.flatnonzero(self.containing)
        return {
            "n": self.n,
            "buckets": codec.pack(used),
            "containing": codec.pack(self.containing[used]),
            "facts": [moments.to_json() for moments in self.facts],
            "sample": [[f"{at:016x}", text] for at, text in self.sample.items()],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        found = cls()
        found.n = value["n"]
        found.containing[codec.array(value["buckets"])] = codec.array(value["containing"])
        found.facts = tuple(Moments.from_json(moments) for moments in value["facts"])
        found.sample = {int(at, 16): text for at, text in value["sample"]}
        return found
