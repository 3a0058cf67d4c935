"""Texts of a column: how many hold each token, what they look like, and a few thousand of them.

Counts and moments are those of all texts. The texts kept are the different ones with the
smallest hashes, so that they are the same however the rows are divided, and parts merge to
exactly what the whole would give (bottom-k sampling, see `smallest`).

Texts as counts of hashed tokens, and as a few numbers about their letters.

The tokens of a text are its words (runs of letters and digits, in lower case), each other
sign by itself, and all three and four characters that stand side by side within what
blanks divide, with the blank before and after: "card" holds the threes " ca", "car", "ard",
"rd ". Words say what a text is about; letters side by side still find one another in typing
errors, endings and scripts without blanks (Cavnar & Trenkle 1994).

A token is known by a hash of its characters alone, so that there is no vocabulary to agree
on: every part of the data, every fold and the endpoint number the same token alike
(Weinberger et al. 2009). All texts of a batch are worked on as one array of code points; a
text has the same tokens alone and in any batch.

References
----------
Cavnar & Trenkle (1994), "N-gram-based text categorization", SDAIR.
Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature hashing for large scale
multitask learning", ICML, doi:10.1145/1553374.1553516.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.statistics import arrays
from mlsys.statistics.hashing import GOLDEN, hash_texts, mix
from mlsys.statistics.moments import Moments

__all__ = [
    "BUCKETS",
    "FACTS",
    "KEPT_CHARACTERS",
    "SAMPLE",
    "TextStatistics",
    "Texts",
    "Tokens",
    "abbreviated",
    "batches",
    "count",
]

BITS = 16
BUCKETS = 1 << BITS
"""Tokens are told apart by as many numbers: a hundred thousand frequent ones share some, which costs little."""

FACTS = ("characters", "words", "mean word length", "upper case", "digits", "other signs")
"""What `Texts.facts` says of each text; the last three as fractions of the characters."""

GRAMS = (3, 4)
"""Characters side by side that make a token."""

BATCH_CHARACTERS = 1 << 20
"""Characters worked on at a time: temporaries of some tens of megabytes."""

BLANK, SIGN, DIGIT, UPPER, LETTER = range(5)
"""Classes of characters; those from `DIGIT` on make words."""

LARGEST = 0xFFFF
"""Last code point of the plane that the tables describe."""

SYMBOLS = range(0x1F000, 0x1FC00)
"""Pictures of the next plane; all else beyond the tables is letters."""

BASE, INVERSE = GOLDEN, np.uint64(pow(int(GOLDEN), -1, 1 << 64))
"""Of the polynomial hash of a token's characters: odd, so that it has an inverse modulo 2^64."""

UInt64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """Counts of tokens a text, by text and then by bucket.

    Attributes
    ----------
    starts
        ``(texts + 1,)``: where the tokens of each text begin.
    buckets, counts
        Number of the token, rising within a text, and how often it occurs there.
    """

    starts: Ints
    buckets: Ints
    counts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1


class Texts:
    """Some texts as one array of code points, each text between two blanks of its own."""

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "".join(f" {text} " for text in texts)
        self.points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter((len(text) + 2 for text in texts), np.int64, len(texts))
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Class of each character."""
        kinds = _tables()[0][np.minimum(self.points, LARGEST)]
        beyond = self.points > LARGEST
        if beyond.any():
            pictures = (self.points >= SYMBOLS.start) & (self.points < SYMBOLS.stop)
            kinds[beyond] = np.where(pictures[beyond], SIGN, LETTER)
        return kinds

    @cached_property
    def words(self) -> tuple[Ints, Ints]:
        """Where each word begins and ends."""
        edges = np.diff((self.kinds >= DIGIT).astype(np.int8))  # the first and the last character are blanks
        return np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1

    def facts(self) -> npt.NDArray[np.float64]:
        """``(texts, len(FACTS))``; what is divided by no character or no word is 0."""
        characters = np.diff(self.starts) - 2
        first, _ = self.words
        words = np.bincount(self.text_at(first), minlength=len(self))
        signs, digits, upper, letters = (self._per_text(kind) for kind in (SIGN, DIGIT, UPPER, LETTER))
        columns = [characters, words, _ratio(digits + upper + letters, words)]
        columns += [_ratio(part, characters) for part in (upper, digits, signs)]
        return np.stack(columns, axis=1).astype(np.float64)

    def tokens(self) -> Tokens:
        """The hashed tokens of each text."""
        where, hashes = self._hashed()
        keys = self.text_at(where) * BUCKETS + (hashes >> np.uint64(64 - BITS)).astype(np.int64)
        if len(self) <= 1 << (32 - BITS):
            keys = keys.astype(np.uint32)  # sorted twice as fast
        found, counts = np.unique(keys, return_counts=True)
        text, buckets = np.divmod(found.astype(np.int64), BUCKETS)
        return Tokens(np.searchsorted(text, np.arange(len(self) + 1)), buckets, counts.astype(np.int64))

    def text_at(self, places: Ints) -> Ints:
        """Number of the text that each place is in."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def _per_text(self, kind: int) -> Ints:
        if not len(self):
            return np.zeros(0, np.int64)
        return np.add.reduceat(self.kinds == kind, self.starts[:-1], dtype=np.int64)

    def _hashed(self) -> tuple[Ints, UInt64]:
        """Where each token begins, and its hash."""
        lower = _tables()[1][np.minimum(self.points, LARGEST)]
        lower = np.where(self.points > LARGEST, self.points, lower)
        blank = self.kinds == BLANK
        lower[blank] = 0x20
        power, inverse = _powers(len(lower))
        sums = np.zeros(len(lower) + 1, np.uint64)
        np.cumsum(mix(lower.astype(np.uint64)) * power, out=sums[1:])
        first, last = self.words
        signs = np.flatnonzero(self.kinds == SIGN)
        begins, ends = [np.concatenate([first, signs])], [np.concatenate([last, signs + 1])]
        for length in GRAMS:
            begin = _unbroken(blank, length)
            begins.append(begin)
            ends.append(begin + length)
        salts = np.repeat(np.arange(len(begins), dtype=np.uint64), [len(part) for part in begins])
        begin, end = np.concatenate(begins), np.concatenate(ends)
        # The characters weighted by the powers of a base: what stands before is subtracted, the place divided out.
        return begin, mix(((sums[end] - sums[begin]) * inverse[begin]) ^ mix(salts))


def count(texts: Sequence[str]) -> Tokens:
    """Tokens of any number of texts.

    >>> once = count(["a card", "", "A  card"])
    >>> once.starts.tolist()
    [0, 10, 10, 20]
    >>> bool((once.buckets[:10] == once.buckets[10:]).all())
    True
    """
    parts = [Texts(batch).tokens() for batch in batches(texts)]
    starts = [np.zeros(1, np.int64)]
    for part in parts:
        starts.append(starts[-1][-1] + part.starts[1:])
    empty = np.zeros(0, np.int64)
    return Tokens(
        np.concatenate(starts),
        np.concatenate([empty, *(part.buckets for part in parts)]),
        np.concatenate([empty, *(part.counts for part in parts)]),
    )


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in runs of about `BATCH_CHARACTERS` characters; a longer text is a run by itself."""
    start = size = 0
    for at, text in enumerate(texts):
        if size and size + len(text) > BATCH_CHARACTERS:
            yield texts[start:at]
            start, size = at, 0
        size += len(text) + 2
    if start < len(texts):
        yield texts[start:]


def _ratio(part: Ints, whole: Ints) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _unbroken(blank: npt.NDArray[np.bool_], length: int) -> Ints:
    """Where `length` characters begin that are not blank, but for the first or the last."""
    inner = ~blank[1 : len(blank) - length + 2]
    for at in range(2, length - 1):
        inner = inner & ~blank[at : len(blank) - length + 1 + at]
    return np.flatnonzero(inner)


def _powers(size: int) -> tuple[UInt64, UInt64]:
    """Powers of the base modulo 2^64 and their inverses, from the 0th on."""
    room = max(1 << 12, 1 << (size - 1).bit_length()) if size else 1
    power, inverse = _room(room)
    return power[:size], inverse[:size]


@cache
def _room(size: int) -> tuple[UInt64, UInt64]:
    powers = [np.full(size, base) for base in (BASE, INVERSE)]
    for power in powers:
        power[0] = 1
        np.multiply.accumulate(power, out=power)
    return powers[0], powers[1]


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """Class and lower case of each character up to `LARGEST`.

    By Unicode 3.2, which every Python carries, and not by the newest that it knows: a text
    must not get other tokens from one version to the next. What 3.2 does not know is a letter.
    """
    kinds = np.full(LARGEST + 1, LETTER, np.uint8)
    lower = np.arange(LARGEST + 1, dtype=np.uint32)
    of = {"Z": BLANK, "P": SIGN, "S": SIGN, "N": DIGIT}
    for point in range(LARGEST + 1):
        category = unicodedata.ucd_3_2_0.category(chr(point))
        kinds[point] = BLANK if category == "Cc" else of.get(category[0], LETTER)
        if category == "Lu":
            kinds[point] = UPPER
            small = chr(point).lower()
            lower[point] = ord(small) if len(small) == 1 else point
    return kinds, lower


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


class TextStatistics:
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

    def merge(self, other: TextStatistics) -> TextStatistics:
        merged = TextStatistics()
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
            "buckets": arrays.pack(used),
            "containing": arrays.pack(self.containing[used]),
            "facts": [moments.to_json() for moments in self.facts],
            "sample": [[f"{at:016x}", text] for at, text in self.sample.items()],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        found = cls()
        found.n = value["n"]
        found.containing[arrays.array(value["buckets"])] = arrays.array(value["containing"])
        found.facts = tuple(Moments.from_json(moments) for moments in value["facts"])
        found.sample = {int(at, 16): text for at, text in value["sample"]}
        return found
