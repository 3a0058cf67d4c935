"""Propose what the columns of a surveyed table are for, each with its reason in words.

========================  ================================================================================
proposal                  the rule
========================  ================================================================================
target                    a name that says so (target, label, class, y), else a name of what is often
                          predicted (churn, price, …), else the last column that can be learned
id                        a value of its own in every row, and a whole number or a name such as ``id``
ignored                   other texts that (nearly) all differ, one value in all rows, personal data
known after the event     another spelling of the target; or a name such as ``closed_at`` *and* a column
                          that alone predicts the target almost perfectly
suspected, in a comment   only one of the two
time, in a comment        times that are there in every row, vary, and say when something begins; a table
                          in their order before others
group, in a comment       an ``id`` whose values repeat: at least `GROUPS` of them, two rows each
========================  ================================================================================

What changes how a model is judged, time and group, is left to the reader: a comment with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys import errors, personal_data
from mlsys.collect import screening, storage_schema
from mlsys.collect.survey import MOST_CLASSES, Survey
from mlsys.collect.task import kind_of
from mlsys.limits import ID_LIKE_FRACTION
from mlsys.personal_data import PersonalData
from mlsys.readers import conversion, folders
from mlsys.schema import ROW, Kind, Task, TaskKind
from mlsys.statistics import univariate

MIN_ROWS = 20
"""Rows from which values that all differ are taken to identify rows."""

GROUPS = 20
"""Values of an id from which its rows can be divided by it."""

MOST_ROWS = 20
"""Rows a value up to which any id is that of a thing with several rows, and not the code of a place or a product."""

SAMPLE_ROWS = 20_000
"""Rows in which the relation of each column to the target is measured."""

CERTAIN = 0.98
"""AUC or R², the lower end of its interval, from which a column predicts almost perfectly."""

STRONG = {"auc": 0.95, "r2": 0.9}
"""AUC or R² from which explore names a column."""

NOTABLE = {"auc": 0.65, "r2": 0.1}
"""AUC or R² from which a column that may be known after the event is worth a word."""

MIN_TIMES = 10
"""Distinct times from which rows can be divided by them."""

ID_NAME = re.compile(
    r"(?i:(^|[_\W])(id|uuid|guid|key|index|rowid|row|number|no|nr|num|code)$)|(?<=[a-z])(Id|ID|Key|No|Number)$"
)
ENTITY_NAME = re.compile(
    r"(?i)(^|[_\W])(customer|client|patient|user|member|account|subject|household|device|session|person|student|employee|"
    r"vehicle|visitor|player|driver|borrower|applicant|policy|machine|sensor)s?([_\W]?(id|no|nr|num|number|key|code))?$"
)
GROUP_NAME = re.compile(r"(?i:(^|[_\W])(id|uuid|guid)$)|(?<=[a-z])(Id|ID)$")
TARGET_NAME = re.compile(
    r"(?i)^(target|labels?|class|classes|y|outcome|response|ground_?truth)$|[_\W](target|label|class)$"
)
PREDICTED_NAME = re.compile(
    r"(?i)churn|fraud|default|surviv|spam|income|salary|price|sales|revenue|convert|conversion|click|purchased|"
    r"approved|cancel|attrition|exited|diagnosis|disease|species|quality|rating|sentiment|category|grade|delay|fare|"
    r"(^|[_\W])(cnt|count|y|repaid|subscribed|deposit|readmitted|stroke|accepted|amount|value|cost|type)$"
)
TIME_NAME = re.compile(r"(?i)time|date|(_|^)at$|stamp|day|when|month|period")
BEGIN_NAME = re.compile(
    r"(?i)creat|order|invoice|start|begin|pickup|open|request|submit|event|transaction|sign|regist|book|sched"
)
AFTER_NAME = re.compile(
    r"(?i)(^|[_\W])(outcome|results?|resolution|resolved|closed?|completed?|finished|end(ed)?|drop_?off|delivered|"
    r"delivery|arrived|arrival|actual|final|after|post|duration|elapsed|refund(ed)?|cancel(led|lation)?|settled|paid|"
    r"returned|discharged?|reason|exit|approved|updated|modified|last|recovered|collected|payment)($|[_\W])"
    r"|(?<=[a-z])(Outcome|Result|Resolution|Resolved|Closed|Completed|Finished|Ended|Delivered|Arrived|Duration|Reason|Refund)"
    r"|_?dropoff_?"
)


@dataclass(frozen=True)
class Proposals:
    """Proposals for the columns of a table, a reason each, and the words about the target and its task."""

    target: str
    target_reason: str
    alternatives: tuple[str, ...]
    task: TaskKind
    task_words: str
    id: str | None = None
    ignore: dict[str, str] = field(default_factory=dict)
    known_after: dict[str, str] = field(default_factory=dict)
    suspects: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    time: tuple[str, str] | None = None
    group: tuple[str, str] | None = None


def propose(survey: Survey, target: str | None = None) -> Proposals:
    """Propose a role for each column that is not simply a feature; without a `target` that, too.

    Raises
    ------
    TargetError
        No column can be learned.
    """
    table = _Table(survey)
    reason = "as asked for"
    chosen, others = target, tuple[str, ...]()
    if chosen is None:
        chosen, reason, others = table.target()
    task = table.task(chosen)
    key, ignore = table.identifiers(chosen)
    ignore |= {name: each.detail for name, each in table.personal.items() if not each.is_feature and name != chosen}
    ignore = {name: why for name, why in ignore.items() if name not in {key, chosen}}
    known, suspects = table.known_after(task, {key, *ignore})
    taken = {chosen, key, *ignore, *known}
    return Proposals(
        target=chosen,
        target_reason=reason,
        alternatives=others,
        task=task.kind,
        task_words=table.task_words(task),
        id=key,
        ignore=ignore,
        known_after=known,
        suspects=suspects,
        remarks={name: each.detail for name, each in table.personal.items() if each.is_feature and name not in taken},
        time=table.time(taken),
        group=table.group(taken),
    )


@dataclass(frozen=True)
class _Table:
    """A survey, and what of it several proposals need."""

    survey: Survey

    @cached_property
    def names(self) -> list[str]:
        """Columns that hold something and are no row index."""
        frame = self.survey.frame
        return [n for n in frame.columns if not storage_schema.is_row_index(n) and frame[n].null_count() < len(frame)]

    @cached_property
    def personal(self) -> dict[str, PersonalData]:
        frame = self.survey.frame
        step = max(1, len(frame) // screening.PERSONAL_ROWS)
        kinds = ((name, personal_data.detect(name, frame[name].gather_every(step).to_arrow())) for name in self.names)
        return {name: kind for name, kind in kinds if kind is not None}

    def num_distinct(self, name: str) -> int:
        counts = self.survey.classes.get(name)
        return self.survey.frame[name].n_unique() if counts is None else len(counts)

    def target(self) -> tuple[str, str, tuple[str, ...]]:
        """The likeliest target, the reason, and the next likely ones; of equals the last."""
        candidates = [name for name in self.names if self._can_be_learned(name)]
        ranked = sorted(candidates, key=lambda name: (self._rank(name), self.names.index(name)), reverse=True)
        if not ranked:
            raise _no_target(self.survey.source)
        best = ranked[0]
        if self._is_named_target(best):
            reason = "its name says so"
        elif PREDICTED_NAME.search(best):
            reason = "by its name" + (", and it is the last column" if best == self.names[-1] else "")
        else:
            reason = "the last column" if best == self.names[-1] else "the last column that can be learned"
        named = [name for name in ranked[1:4] if self._rank(name)]
        return best, reason, tuple(named)

    def _rank(self, name: str) -> float:
        """Likelihood that a column is the target, by its name and its place; only the order counts."""
        word = PREDICTED_NAME.search(name)
        named = 3.0 if self._is_named_target(name) else 0.0
        if word and not named:
            named = 1.5 if word.end() == len(name) else 1.0
        is_flag = bool(named) and self.num_distinct(name) == 2
        return named + (1.0 if name == self.names[-1] else 0.0) + (0.5 if is_flag else 0.0)

    def _is_named_target(self, name: str) -> bool:
        """True for a name that says that this is the target; y beside x and z is a coordinate."""
        coordinates = {"x", "y", "z"}
        is_coordinate = coordinates <= {each.lower() for each in self.names} and name.lower() in coordinates
        return bool(TARGET_NAME.search(name)) and not is_coordinate

    def _can_be_learned(self, name: str) -> bool:
        """True for numbers, flags and categories that repeat, unless they identify rows, groups or persons."""
        values, distinct = self.survey.frame[name], self.num_distinct(name)
        if distinct < 2 or self.survey.kind(name) not in {Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN}:
            return False
        if name in self.personal or self._is_identifier(name):
            return False
        if values.dtype == pl.String and (distinct > MOST_CLASSES or 10 * distinct > len(values)):
            return False
        is_key = ENTITY_NAME.search(name) or ID_NAME.search(name)
        return bool(TARGET_NAME.search(name)) or not is_key

    def task(self, target: str) -> Task:
        """The task that collect will most likely decide for."""
        values = self.survey.frame[target]
        counts = self._classes(target)
        is_integer = values.dtype.is_integer()
        if values.dtype.is_float():  # 0.0 and 1.0, as pandas writes integers with gaps, are the classes 0 and 1
            is_integer = bool((values.drop_nulls() == values.drop_nulls().floor()).all())
        kind = kind_of(counts, is_numeric=values.dtype.is_numeric(), is_integer=is_integer)
        if kind is TaskKind.REGRESSION:
            return Task(kind=kind, target=target)
        labels = [int(label) if isinstance(label, float) else label for label in counts]
        return Task(kind=kind, target=target, classes=tuple(sorted(labels)))

    def _classes(self, name: str) -> dict[object, int]:
        counts = self.survey.classes.get(name)
        if counts is None:
            values = self.survey.frame[name].drop_nulls().alias("value")
            counts = dict(values.value_counts().head(MOST_CLASSES).iter_rows())
        return dict(counts)

    def task_words(self, task: Task) -> str:
        if task.kind is TaskKind.BINARY:
            return "two values: binary"
        if task.kind is TaskKind.MULTICLASS:
            return f"{len(task.classes):,} classes: multiclass"
        return "numbers: regression"

    def identifiers(self, target: str) -> tuple[str | None, dict[str, str]]:
        """The column that identifies a row, and others that only tell rows apart or say nothing."""
        names = [name for name in self.names if name != target]
        unique = [name for name in names if self._is_identifier(name)]
        open_ones = [name for name in unique if name not in self.personal or self.personal[name].is_feature]
        key = next((name for name in open_ones if ID_NAME.search(name) or name == folders.FILE), None)
        ignore = {name: "a value of its own in every row: nothing to learn from" for name in unique if name != key}
        for name in names:
            if name in unique:
                continue
            if self.num_distinct(name) == 1 and not self.survey.nulls[name]:
                ignore[name] = "the same value in every row"
            elif self._is_nearly_unique(name):
                values = f"{self.num_distinct(name):,} different values"
                ignore[name] = f"{values} in {len(self.survey.frame):,} rows: new rows will have others"
        return key, ignore

    def _is_identifier(self, name: str) -> bool:
        values, kind = self.survey.frame[name], self.survey.kind(name)
        if len(values) < MIN_ROWS or self.survey.repeats[name]:
            return False
        if values.dtype == pl.String:
            return kind is Kind.CATEGORICAL and not _are_numbers(values)
        counts_up = values.dtype.is_integer() and bool(
            (values.diff().drop_nulls() == values.diff().drop_nulls().first()).all()
        )
        return counts_up or (values.dtype.is_integer() and bool(ID_NAME.search(name)))

    def _is_nearly_unique(self, name: str) -> bool:
        values = self.survey.frame[name]
        present = len(values) - values.null_count()
        is_text = values.dtype == pl.String and self.survey.kind(name) is Kind.CATEGORICAL
        is_number = values.dtype.is_integer() and bool(ID_NAME.search(name)) and not storage_schema.is_row_index(name)
        if present < MIN_ROWS or not (is_text or is_number):
            return False
        if is_text and _are_numbers(values):
            return False
        return values.n_unique() >= ID_LIKE_FRACTION * present

    def known_after(self, task: Task, left_out: set[str | None]) -> tuple[dict[str, str], dict[str, str]]:
        """Columns that are known only with the answer, and those that may be."""
        names = [n for n in self.names if n not in left_out and n != task.target]
        frame = self.survey.frame
        numbers = [n for n in names if frame[n].dtype.is_numeric()]
        known = screening.copies([frame], task, names if task.is_classification else numbers)
        known = {name: reason.replace(" with a label", "") for name, reason in known.items()}
        suspects = {}
        for name, strength in self._strengths(task, [n for n in names if n not in known]).items():
            is_named = bool(AFTER_NAME.search(name))
            measure = f"{'an AUC' if strength.measure == 'auc' else 'an R²'} of {strength.weakest:.3f}"
            if is_named and strength.low > CERTAIN:
                known[name] = f"by its name, and as it alone predicts the target with {measure}"
            elif strength.weakest > STRONG[strength.measure]:
                suspects[name] = f"it alone predicts the target with {measure}; kept until you say so"
            elif is_named and (strength.weakest >= NOTABLE[strength.measure] or self._is_later(name)):
                suspects[name] = (
                    f"by its name it may be written after the event ({measure} alone); kept until you say so"
                )
        return known, suspects

    def _is_later(self, name: str) -> bool:
        """True for times and durations, whose names mean what they say, however little they tell of the target."""
        return self.survey.kind(name) is Kind.DATETIME or bool(re.search(r"(?i)duration|elapsed", name))

    def _strengths(self, task: Task, names: list[str]) -> dict[str, univariate.Strength]:
        frame = self.survey.frame
        rows = frame.select([*names, task.target]).gather_every(max(1, len(frame) // SAMPLE_ROWS))
        if rows[task.target].dtype.is_float() and task.is_classification:
            rows = rows.with_columns(pl.col(task.target).cast(pl.Int64, strict=False))
        numbered = rows.to_arrow().append_column(ROW, pa.array(np.arange(len(rows))))
        return univariate.measure(numbered, self.survey.schema.select(names), task) if names else {}

    def time(self, taken: set[str | None]) -> tuple[str, str] | None:
        """The column of times by which the rows can be divided, and what speaks for it."""
        times = [name for name in self.names if name not in taken and self._orders_rows(name)]
        if not times:
            return None
        best = max(
            times, key=lambda name: (bool(BEGIN_NAME.search(name)), self._is_sorted(name), bool(TIME_NAME.search(name)))
        )
        values = self.survey.frame[best]
        order = "the rows are in its order" if self._is_sorted(best) else "every row has one"
        first, last = pl.Series([values.min(), values.max()]).dt.to_string("%Y-%m-%d")
        return best, f"{order}, {first} to {last}"

    def _orders_rows(self, name: str) -> bool:
        if self.survey.kind(name) is not Kind.DATETIME or self.survey.nulls[name]:
            return False
        is_later = bool(AFTER_NAME.search(name)) or bool(personal_data.NAME_OF_BIRTH.search(name))
        return not is_later and self.num_distinct(name) >= MIN_TIMES

    def _is_sorted(self, name: str) -> bool:
        return self.survey.frame[name].is_sorted()

    def group(self, taken: set[str | None]) -> tuple[str, str] | None:
        """The id whose values repeat, with the most values."""
        frame = self.survey.frame
        candidates = [name for name in self.names if name not in taken and self._is_group(name)]
        if not candidates:
            return None
        best = max(candidates, key=self.num_distinct)
        rows = f"{self.num_distinct(best):,} values in {len(frame):,} rows"
        return best, f"{rows}, so that rows of one would be in training and in test"

    def _is_group(self, name: str) -> bool:
        """True for the key of something that has several rows; a key of any name has only a few each."""
        values, distinct = self.survey.frame[name], self.num_distinct(name)
        is_key = values.dtype == pl.String or values.dtype.is_integer()
        most = len(values) if ENTITY_NAME.search(name) else MOST_ROWS * distinct if GROUP_NAME.search(name) else 0
        return is_key and GROUPS <= distinct <= len(values) / 2 and len(values) <= most


def _are_numbers(values: pl.Series) -> bool:
    """True for numbers that a table with types holds as texts, some of them blank or with a word for none."""
    present = values.drop_nulls().to_arrow()
    num_misfits = int(conversion.read_text(present, pa.float64()).null_count)
    return num_misfits <= (1 - ID_LIKE_FRACTION) * len(present)


def _no_target(source: object) -> errors.TargetError:
    return errors.TargetError.build(
        f"init: '{source}'",
        got="no column that can be learned: all are ids, times, texts, or the same in every row",
        expected="a column of numbers or classes",
        hint="name one with --target, or derive one in a recipe: data.derive",
    )
