"""Write the profile as JSON: everything that the report shows, and nothing that it computes.

For a text column it holds some texts of the sample, and the words that are typical of each class. A word is typical
by the log-odds ratio of its frequency there against all other texts, with the frequencies of the whole as a prior,
over its standard error (Monroe, Colaresi & Quinn 2008, "Fightin' Words", Political Analysis 16(4), section 3.5.1,
doi:10.1093/pan/mpn018). Texts that hold the word are counted, not its occurrences.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.dataset import Split
from mlsys.explore import alerts, associations
from mlsys.explore.leakage import Finding
from mlsys.explore.scan import Profile
from mlsys.personal_data import masked
from mlsys.reports import formats
from mlsys.schema import ROW, Column, Kind, Role, Schema, Task
from mlsys.statistics import ColumnStatistics, TableStatistics, code_columns
from mlsys.statistics.arrays import Floats
from mlsys.statistics.pairwise.association_measures import Information
from mlsys.statistics.ranking import Z_95

MOST_TEXTS, MOST_CHARACTERS = 5_000, 2_000
"""Texts of the sample that are read, and characters of each: a few seconds at most."""

SHOWN, SHOWN_CHARACTERS = 6, 280
MOST_WORDS, MOST_CLASSES = 12, 6

PRIOR = 100.0
"""Number of texts that the prior is worth: it keeps a word of a few texts from being typical."""

WORD = re.compile(r"\w[\w']*", re.UNICODE)

FORMAT = 3

MOST_CATEGORIES = 12
"""Categories with a line of their own in a picture."""


def describe(
    split: Split,
    task: Task,
    profile: Profile,
    findings: Iterable[Finding],
    screened: Iterable[Mapping[str, str]] = (),
    *,
    title: str = "",
) -> dict[str, Any]:
    """Write the profile as JSON: overview, alerts, findings of the leakage scan, every column. Reads no rows.

    The alerts begin with those about the columns that `collect` has `screened`.
    """
    # 1. What several parts of the document need
    whole, pairwise, repeated = profile.whole, profile.pairwise, profile.num_duplicates
    information = pairwise.information() if pairwise is not None else {}
    curves = associations.curves(pairwise, whole.columns) if pairwise is not None else {}
    raised = alerts.find(whole, whole.schema, task, num_duplicates=repeated, pairwise=pairwise)
    raised += alerts.codes(code_columns.find(profile.sample, whole.schema, task))
    classes = [list(item) for item in whole.class_counts().items()] if task.is_classification else []
    columns = [
        _column(whole.schema[name], column, profile, curves.get(name), information.get(name))
        for name, column in whole.features.items()
    ]
    # 2. The document
    return {
        "format": FORMAT,
        "title": title or task.target,
        "task": task.model_dump(mode="json"),
        "parts": dict(split.num_rows),
        "folds": {str(number): table.num_rows for number, table in profile.statistics.folds.items()},
        "overview": _overview(whole, repeated, profile.sample.num_rows),
        "others": _others(split.schema),
        "target": {"name": task.target, "classes": classes, "summary": asdict(whole.target.result())},
        "alerts": [*map(dict, screened), *(_alert(alert) for alert in raised)],
        "findings": [asdict(finding) for finding in findings],
        "columns": sorted(columns, key=lambda column: -(column["relation"] or {"value": -1.0})["value"]),
        "associations": None if pairwise is None else associations.matrix(pairwise),
        "gaps": None if pairwise is None else associations.missingness(pairwise),
        "timeline": None if pairwise is None else associations.timeline(pairwise),
    }


def _alert(alert: alerts.Alert) -> dict[str, Any]:
    return asdict(alert) | {"detail": masked(alert.detail)}


def _shown(value: Any) -> Any:
    """A value as the report shows it, which names no person."""
    return masked(value) if isinstance(value, str) else value


def _overview(whole: TableStatistics, repeated: int, num_sampled: int) -> dict[str, Any]:
    kinds = Counter(column.kind.value for column in whole.features.values())
    cells = whole.num_rows * max(len(whole.features), 1)
    nulls = sum(column.num_nulls for column in whole.features.values())
    return {
        "num_rows": whole.num_rows,
        "num_features": len(whole.features),
        "kinds": dict(kinds),
        "null_fraction": nulls / cells if cells else 0.0,
        "num_duplicates": repeated,
        "num_sampled": num_sampled,
    }


def _others(schema: Schema) -> dict[str, list[str]]:
    """Columns by role, of those that are neither features nor the target."""
    by_role: dict[str, list[str]] = {}
    for column in schema:
        if column.role not in {Role.FEATURE, Role.TARGET}:
            by_role.setdefault(column.role.value, []).append(column.name)
    return by_role


def _column(
    column: Column,
    statistics: ColumnStatistics,
    profile: Profile,
    curve: dict[str, Any] | None,
    information: Information | None,
) -> dict[str, Any]:
    whole, strength = profile.whole, profile.strengths.get(column.name)
    summary = statistics.result()
    thumbnails = None  # PNG in base64
    if statistics.images is not None:
        thumbnails = [base64.b64encode(png).decode() for _, png in sorted(statistics.images.thumbnails.items())]
    relation = strength and {"measure": strength.measure, "value": strength.value, "weakest": strength.weakest}
    return {
        "name": column.name,
        "kind": column.kind.value,
        "type": column.type,
        "unit": column.unit,
        "summary": asdict(summary) | {"frequent_items": [[_shown(value), n] for value, n in summary.frequent_items]},
        "relation": relation,
        "correlation": statistics.comoments.correlation if not whole.task.is_classification else None,
        "categories": _categories(statistics, whole),
        "by_class": _by_class(column.name, summary.histogram_edges, profile),
        "curve": curve,
        "information": None if information is None else asdict(information),
        "texts": describe_texts(profile.sample, column.name, whole.task) if column.kind is Kind.TEXT else None,
        "thumbnails": thumbnails,
    }


def _categories(statistics: ColumnStatistics, whole: TableStatistics) -> list[dict[str, Any]] | None:
    """Rows of the most frequent categories, of all others and of nulls, and the target over them."""
    if statistics.kind not in {Kind.CATEGORICAL, Kind.BOOLEAN}:
        return None
    counts, sums = statistics.counts(), statistics.target_sums()
    shown = list(counts)[:MOST_CATEGORIES]
    bars = [_category(value, counts[value], sums[value], whole) for value in shown]
    rest = statistics.num_rows - statistics.num_nulls - sum(counts[value] for value in shown)
    if rest > 0:
        others = statistics.target[0] - sum((sums[value] for value in shown), np.zeros(statistics.target.shape[1]))
        bars.append(_category("(others)", rest, others, whole))
    if statistics.num_nulls:
        bars.append(_category("(null)", statistics.num_nulls, sums[None], whole))
    return bars


def _category(value: Any, rows: int, sums: Floats, whole: TableStatistics) -> dict[str, Any]:
    shares = mean = None
    if not whole.task.is_classification:
        mean = float(sums[1] / sums[0]) if sums[0] > 0 else None
    elif sums.sum() > 0:
        shares = (sums / sums.sum()).tolist()
    return {"value": _shown(value), "rows": rows, "shares": shares, "mean": mean}


def _by_class(name: str, edges: Sequence[float] | None, profile: Profile) -> dict[str, list[float]] | None:
    """Values of each class in the bins of the histogram, for a few classes."""
    counts = None if edges is None else profile.distributions.counts(name, np.array(edges))
    if counts is None:
        return None
    classes = profile.whole.task.classes
    return {formats.value(value): np.round(row, 1).tolist() for value, row in zip(classes, counts, strict=True)}


def describe_texts(rows: pa.Table, name: str, task: Task) -> dict[str, Any]:
    """Describe a text column of the sample: some texts with their target, and the typical words of each class.

    The texts are the first of the sample, which is drawn by the hash of row numbers.
    """
    known = rows.select([name, task.target, ROW]).filter(rows[name].is_valid()).slice(0, MOST_TEXTS)
    texts = [masked(str(text)[:MOST_CHARACTERS]) for text in known[name].to_pylist()]
    words = [set(WORD.findall(text.lower())) for text in texts]
    labels = known[task.target].to_pylist()
    return {
        "num_read": len(texts),
        "examples": [
            {"text": text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + "…", "target": label}
            for text, label in zip(texts[:SHOWN], labels, strict=False)
        ],
        "words": _words_by_class(words, labels, task),
    }


def _words_by_class(words: Sequence[set[str]], labels: Sequence[Any], task: Task) -> list[dict[str, Any]]:
    """Typical words of each class, for classes of the task that the sample holds, the most frequent first."""
    rows = Counter(str(label) for label in labels if label is not None)
    classes = [str(value) for value in task.classes if rows[str(value)]]
    shown = sorted(classes, key=lambda value: -rows[value])[:MOST_CLASSES]
    names = [str(label) for label in labels]
    return [
        {"class": value, "rows": rows[value], "words": typical_words(words, [name == value for name in names])}
        for value in shown
    ]


def typical_words(words: Sequence[set[str]], inside: Sequence[bool]) -> list[list[Any]]:
    """Find the words that are typical of the texts `inside`, most typical first: word, texts inside, texts outside.

    >>> typical_words([{"win", "now"}, {"win"}, {"now"}, {"hi"}] * 40, [True, True, False, False] * 40)
    [['win', 80, 0]]
    """
    here, there = Counter[str](), Counter[str]()
    for text, is_inside in zip(words, inside, strict=True):
        (here if is_inside else there).update(text)
    sizes = (sum(inside), len(inside) - sum(inside))
    scores = {word: _score(here[word], there[word], sizes) for word in here}
    best = sorted((word for word in scores if scores[word] > Z_95), key=lambda word: (-scores[word], word))
    return [[word, here[word], there[word]] for word in best[:MOST_WORDS]]


def _score(here: int, there: int, sizes: tuple[int, int]) -> float:
    """The log-odds ratio of a word over its standard error, equations 15, 16 and 22 of the source."""
    prior = PRIOR * (here + there) / sum(sizes)
    log_odds = [
        math.log((count + prior) / max(size + PRIOR - count - prior, 1e-9))
        for count, size in zip((here, there), sizes, strict=True)
    ]
    return (log_odds[0] - log_odds[1]) / math.sqrt(1 / (here + prior) + 1 / (there + prior))
