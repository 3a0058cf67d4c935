"""Texts as counts of hashed tokens, a few measures of their letters, and a sample of texts.

The tokens of a text are its words (runs of letters and digits, in lower case), each other sign by itself, and all
three and four characters that stand side by side within what blanks divide, with the blank before and after: "card"
holds the threes " ca", "car", "ard", "rd ". Words say what a text is about; letters side by side still find one
another in typing errors, endings and scripts without blanks (Cavnar & Trenkle 1994).

A token is known by a hash of its characters alone, so that there is no vocabulary to agree on: every part of the
data, every fold and the endpoint number the same token alike (Weinberger et al. 2009). All texts of a batch are
worked on as one array of code points; a text has the same tokens alone and in any batch.

References
----------
Cavnar & Trenkle (1994), "N-gram-based text categorization", SDAIR.
Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature hashing for large scale
multitask learning", ICML, doi:10.1145/1553374.1553516.
Whang, Vander-Zanden & Taylor (1990), "A linear-time probabilistic counting algorithm for
database applications", ACM TODS 15(2), doi:10.1145/78922.78925: linear counting.
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
from mlsys.statistics.arrays import Bools, Floats, Ints, UInt64
from mlsys.statistics.hashing import GOLDEN, hash_texts, mix
from mlsys.statistics.moments import Moments

SAMPLE = 4_096
"""Distinct texts of the sample: a truncated SVD of 2,048 short questions in 77 classes already serves as well as
that of 10,000."""

SAMPLE_CHARACTERS = 1_000
"""First characters of a text that the sample and the counts hold: 4 MB a column at most."""

FREQUENT_WORDS = 20

BITS = 16
BUCKETS = 1 << BITS
"""Buckets of tokens: a hundred thousand frequent tokens share some, which costs little."""

MEASURES = ("characters", "words", "mean word length", "upper case", "digits", "other signs")
"""Measures of each text, see `Texts.measures`; the last three are fractions of the characters."""

GRAMS = (3, 4)
"""Numbers of characters side by side that make a token."""

BATCH_CHARACTERS = 1 << 20
"""Characters in memory at a time: temporaries of some tens of megabytes."""

BLANK, SIGN, DIGIT, UPPER, LETTER = range(5)
"""Classes of characters; those from `DIGIT` on make words."""

LAST_POINT = 0xFFFF
"""Last code point of the plane that the tables describe."""

SYMBOLS = range(0x1F000, 0x1FC00)
"""Code points of pictures on the next plane; all else beyond the tables is letters."""

BASE, INVERSE = GOLDEN, np.uint64(pow(int(GOLDEN), -1, 1 << 64))
"""Base of the polynomial hash of a token's characters: odd, so that it has an inverse modulo 2^64."""


@dataclass(frozen=True)
class Tokens:
    """Counts of the tokens of some texts, by text and then by bucket.

    Attributes
    ----------
    starts
        Where the tokens of each text begin, and the end of the last: shape ``(texts + 1,)``.
    buckets, counts
        Bucket of the token, rising within a text, and how often it occurs there.
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
        kinds = _tables()[0][np.minimum(self.points, LAST_POINT)]
        beyond = self.points > LAST_POINT
        if beyond.any():
            pictures = (self.points >= SYMBOLS.start) & (self.points < SYMBOLS.stop)
            kinds[beyond] = np.where(pictures[beyond], SIGN, LETTER)
        return kinds

    @cached_property
    def words(self) -> tuple[Ints, Ints]:
        """First character of each word, and the one after its last."""
        edges = np.diff((self.kinds >= DIGIT).astype(np.int8))  # the first and the last character are blanks
        return np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1

    def measures(self) -> Floats:
        """`MEASURES` of each text, ``(texts, len(MEASURES))``; a ratio to no character or no word is 0."""
        characters = np.diff(self.starts) - 2
        first, _ = self.words
        words = np.bincount(self.text_at(first), minlength=len(self))
        signs, digits, upper, letters = (self._per_text(kind) for kind in (SIGN, DIGIT, UPPER, LETTER))
        columns = [characters, words, _ratio(digits + upper + letters, words)]
        columns += [_ratio(part, characters) for part in (upper, digits, signs)]
        return np.stack(columns, axis=1).astype(np.float64)

    def tokens(self) -> Tokens:
        """Counts of the hashed tokens of each text."""
        where, hashes = self._hashed()
        keys = self.text_at(where) * BUCKETS + (hashes >> np.uint64(64 - BITS)).astype(np.int64)
        if len(self) <= 1 << (32 - BITS):
            keys = keys.astype(np.uint32)  # sorted twice as fast
        distinct, counts = np.unique(keys, return_counts=True)
        text, buckets = np.divmod(distinct.astype(np.int64), BUCKETS)
        return Tokens(np.searchsorted(text, np.arange(len(self) + 1)), buckets, counts.astype(np.int64))

    def text_at(self, places: Ints) -> Ints:
        """Number of the text that each place is in."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def _per_text(self, kind: int) -> Ints:
        if not len(self):
            return np.zeros(0, np.int64)
        return np.add.reduceat(self.kinds == kind, self.starts[:-1], dtype=np.int64)

    def _hashed(self) -> tuple[Ints, UInt64]:
        """First character of each token, and its hash."""
        # 1. Lower case, any blank as a space; prefix sums of the characters weighted by powers of a base
        lower = _tables()[1][np.minimum(self.points, LAST_POINT)]
        lower = np.where(self.points > LAST_POINT, self.points, lower)
        blank = self.kinds == BLANK
        lower[blank] = 0x20
        power, inverse = _powers(len(lower))
        sums = np.zeros(len(lower) + 1, np.uint64)
        np.cumsum(mix(lower.astype(np.uint64)) * power, out=sums[1:])
        # 2. Where tokens begin and end: words, signs, characters side by side
        first, last = self.words
        signs = np.flatnonzero(self.kinds == SIGN)
        begins, ends = [np.concatenate([first, signs])], [np.concatenate([last, signs + 1])]
        for length in GRAMS:
            begin = _unbroken(blank, length)
            begins.append(begin)
            ends.append(begin + length)
        salts = np.repeat(np.arange(len(begins), dtype=np.uint64), [len(part) for part in begins])
        begin, end = np.concatenate(begins), np.concatenate(ends)
        # 3. The hash of each: the sum before it is subtracted, the power of its place divided out
        return begin, mix(((sums[end] - sums[begin]) * inverse[begin]) ^ mix(salts))


def count(texts: Sequence[str]) -> Tokens:
    """Count the tokens of any number of texts.

    >>> once = count(["a card", "", "A  card"])
    >>> once.starts.tolist()
    [0, 10, 10, 20]
    >>> bool((once.buckets[:10] == once.buckets[10:]).all())
    True
    """
    starts, empty = [np.zeros(1, np.int64)], np.zeros(0, np.int64)
    buckets, counts = [empty], [empty]
    for batch in batches(texts):
        part = Texts(batch).tokens()
        starts.append(starts[-1][-1] + part.starts[1:])
        buckets.append(part.buckets)
        counts.append(part.counts)
    return Tokens(np.concatenate(starts), np.concatenate(buckets), np.concatenate(counts))


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Divide texts into runs of about `BATCH_CHARACTERS` characters; a longer text is a run by itself."""
    start = size = 0
    for number, text in enumerate(texts):
        if size and size + len(text) > BATCH_CHARACTERS:
            yield texts[start:number]
            start, size = number, 0
        size += len(text) + 2
    if start < len(texts):
        yield texts[start:]


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _unbroken(blank: Bools, length: int) -> Ints:
    """Places from which `length` characters hold no blank but for the first or the last."""
    inner = ~blank[1 : len(blank) - length + 2]
    for place in range(2, length - 1):
        inner = inner & ~blank[place : len(blank) - length + 1 + place]
    return np.flatnonzero(inner)


def _powers(size: int) -> tuple[UInt64, UInt64]:
    """Powers of the base modulo 2^64 and their inverses, from the 0th on."""
    power, inverse = _cached_powers(max(1 << 12, 1 << (size - 1).bit_length()) if size else 1)
    return power[:size], inverse[:size]


@cache
def _cached_powers(size: int) -> tuple[UInt64, UInt64]:
    powers = [np.full(size, base) for base in (BASE, INVERSE)]
    for power in powers:
        power[0] = 1
        np.multiply.accumulate(power, out=power)
    return powers[0], powers[1]


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """Class and lower case of each character up to `LAST_POINT`.

    Both follow Unicode 3.2, which every Python carries, and not by the newest that it knows: a text
    must not get other tokens from one version to the next. What 3.2 does not know is a letter.
    """
    kinds = np.full(LAST_POINT + 1, LETTER, np.uint8)
    lower = np.arange(LAST_POINT + 1, dtype=np.uint32)
    classes = {"Z": BLANK, "P": SIGN, "S": SIGN, "N": DIGIT}
    for point in range(LAST_POINT + 1):
        category = unicodedata.ucd_3_2_0.category(chr(point))
        kinds[point] = BLANK if category == "Cc" else classes.get(category[0], LETTER)
        if category == "Lu":
            kinds[point] = UPPER
            small = chr(point).lower()
            lower[point] = ord(small) if len(small) == 1 else point
    return kinds, lower


def abbreviated(texts: pa.Array) -> pa.Array:
    """Shorten texts, none of them null, to their first `SAMPLE_CHARACTERS` and a hash that keeps them apart."""
    longer = pc.greater(pc.utf8_length(texts), SAMPLE_CHARACTERS)
    if not pc.any(longer).as_py():
        return texts
    short = texts.to_pylist()
    for row in np.flatnonzero(np.asarray(longer)).tolist():
        short[row] = f"{short[row][:SAMPLE_CHARACTERS]}… {int(hash_texts([short[row]])[0]):016x}"
    return pa.array(short, texts.type)


class TextStatistics:
    """Document frequencies of tokens, moments of `MEASURES`, and a sample of the texts.

    Counts are exact for buckets of tokens, and moments up to rounding. The sample is bottom-k
    (see `BottomKSketch`): the distinct texts with the smallest hashes, so that it is the same
    however the rows are divided. An update costs a sort of the tokens of its texts.

    Attributes
    ----------
    containing
        Number of texts that hold each token, ``(BUCKETS,)``.
    measures
        Moments of each of `MEASURES`.
    sample
        Text by its hash, cut to `SAMPLE_CHARACTERS`, of the `SAMPLE` smallest hashes.
    """

    def __init__(self) -> None:
        self.n = 0
        self.containing = np.zeros(BUCKETS, np.int64)
        self.measures = tuple(Moments() for _ in MEASURES)
        self.sample: dict[int, str] = {}

    def update(self, values: pa.Array) -> None:
        """Add texts, without nulls."""
        texts = values.to_pylist()
        self.n += len(texts)
        measures = []
        for batch in batches(texts):
            decoded = Texts(batch)
            self.containing += np.bincount(decoded.tokens().buckets, minlength=BUCKETS)
            measures.append(decoded.measures())
        if measures:
            columns = np.concatenate(measures).T
            self.measures = tuple(
                before.merge(Moments.of(column)) for before, column in zip(self.measures, columns, strict=True)
            )
        self._sample(dict(zip(hash_texts(texts).tolist(), texts, strict=True)))

    def merge(self, other: TextStatistics) -> TextStatistics:
        merged = TextStatistics()
        merged.n = self.n + other.n
        merged.containing = self.containing + other.containing
        merged.measures = tuple(a.merge(b) for a, b in zip(self.measures, other.measures, strict=True))
        merged.sample = self.sample
        merged._sample(other.sample)
        return merged

    def _sample(self, texts: dict[int, str]) -> None:
        both = self.sample | texts
        self.sample = {key: both[key][:SAMPLE_CHARACTERS] for key in sorted(both)[:SAMPLE]}

    @property
    def num_tokens(self) -> int:
        """Number of distinct tokens, estimated from the share of buckets in use (linear counting)."""
        unused = max(1, BUCKETS - int(np.count_nonzero(self.containing)))
        return round(BUCKETS * float(np.log(BUCKETS / unused)))

    def result(self) -> dict[str, Any]:
        """Numbers, ready for JSON; `words` are the most frequent of the sample with the share of its texts."""
        return {
            "count": self.n,
            "num_tokens": self.num_tokens,
            "facts": {
                name: {"mean": moments.mean, "stddev": moments.stddev}
                for name, moments in zip(MEASURES, self.measures, strict=True)
            },
            "words": self._frequent_words(),
            "num_kept": len(self.sample),
        }

    def _frequent_words(self) -> dict[str, float]:
        lower = [text.lower() for text in self.sample.values()]
        decoded, joined = Texts(lower), "".join(f" {text} " for text in lower)
        first, last = decoded.words
        places = zip(decoded.text_at(first).tolist(), first, last, strict=True)
        counts = Counter(word for _, word in {(text, joined[start:end]) for text, start, end in places})
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT_WORDS]
        return {word: count / len(lower) for word, count in ordered}

    def to_json(self) -> dict[str, Any]:
        used = np.flatnonzero(self.containing)
        return {
            "n": self.n,
            "buckets": arrays.pack(used),
            "containing": arrays.pack(self.containing[used]),
            "facts": [moments.to_json() for moments in self.measures],
            "sample": [[f"{key:016x}", text] for key, text in self.sample.items()],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        statistics = cls()
        statistics.n = value["n"]
        statistics.containing[arrays.array(value["buckets"])] = arrays.array(value["containing"])
        statistics.measures = tuple(Moments.from_json(moments) for moments in value["facts"])
        statistics.sample = {int(key, 16): text for key, text in value["sample"]}
        return statistics
