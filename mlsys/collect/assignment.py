"""Assign a part and a fold to each row of a snapshot, by the rules of `split`.

Rows that are equal on all features are one group (`equal_rows`): wherever chance divides they share part and fold.
How bins are drawn is in `bins`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors
from mlsys.collect import equal_rows, rolling_origins
from mlsys.collect.bins import by_group, by_time, edges, shuffled, stratified
from mlsys.collect.equal_rows import Repeats
from mlsys.collect.task import Label
from mlsys.dataset import PARTS, Snapshot
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.periods import Period
from mlsys.readers import conversion
from mlsys.recipe import Recipe
from mlsys.schema import ROW, Role, Schema, Task

DRAWN = PARTS[:3]
"""The parts that have shares: train, validation, test."""
TENTHS = 10


@dataclass(frozen=True)
class Assignment:
    """The part (index into `PARTS`) and the fold of every row, in the order of the snapshot.

    `num_folds`, `horizon`, `gaps`, `num_history` and `num_embargoed` are those of `mlsys.dataset.Split`.
    """

    by: str
    parts: NDArray[np.int8]
    folds: NDArray[np.int8]
    boundaries: dict[str, str]
    repeats: Repeats | None = None
    rare_classes: dict[Label, int] = field(default_factory=dict)
    num_untimed: int = 0
    num_folds: int = 0
    horizon: str | None = None
    gaps: tuple[int, ...] = ()
    num_history: int = 0
    num_embargoed: int = 0

    @property
    def forward(self) -> bool:
        return self.by == "time"


@dataclass(frozen=True)
class _LabelledRows:
    """The labelled rows as arrays; times, groups and named parts only where the draw needs them.

    `keys` are row numbers, `classes` numbers of the class, or for regression of the tenth of the target,
    `times` microseconds since 1970, `named_parts` the values of the column that names the part, and `equal_rows` the
    groups of rows that are equal on all features.
    """

    by: str
    keys: NDArray[np.int64]
    targets: pl.Series
    classes: NDArray[np.int64]
    times: NDArray[np.int64]
    groups: NDArray[np.int64]
    named_parts: pl.Series
    equal_rows: NDArray[np.int64]

    def equal(self, rows: NDArray[np.int64] | slice, num_bins: int) -> NDArray[np.int64] | None:
        """Groups of the rows that are equal on all features; None where all differ or too few do."""
        return equal_rows.divisible(self.equal_rows[rows], num_bins) if len(self.equal_rows) else None


def assign(snapshot: Snapshot, schema: Schema, recipe: Recipe, task: Task, by: str) -> Assignment:
    """Draw parts for all rows and folds for those of the training part; raises as `split.divide`.

    The features of `schema` tell which rows are equal.
    """
    # 1. Draw the parts of the rows with a label
    targets = _column(snapshot, task.target)
    is_labelled = targets.is_not_null().to_numpy()
    has_time = _column(snapshot, str(recipe.data.time)).is_not_null().to_numpy() if by == "time" else is_labelled
    labelled = np.flatnonzero(is_labelled & has_time)
    hashes = equal_rows.hashes(snapshot, schema, task.target, labelled)
    groups = np.empty(0, np.int64) if hashes is None else hashes.groups
    rows = _labelled(snapshot, recipe, task, targets.gather(labelled), labelled, by, groups)
    drawn, boundaries = _draw_parts(rows, recipe)
    horizon = None if recipe.forecast is None else Period.parse(recipe.forecast.horizon)
    apart = {} if horizon is None else _set_apart(rows.times, drawn, horizon)
    # 2. Set rows aside whose class cannot be learned, and check the others
    rare_classes = _rare_classes(drawn, rows, task) if task.is_classification and not task.labels else {}
    if rare_classes:
        drawn[rows.targets.is_in(list(rare_classes)).to_numpy()] = PARTS.index("unlabelled")
    _check(drawn, recipe)
    parts = np.full(len(targets), PARTS.index("unlabelled"), np.int8)
    parts[labelled] = drawn
    # 3. Draw the folds of the training rows
    folds = np.full(len(targets), -1, np.int8)
    train = np.flatnonzero(drawn == 0)
    facts: dict[str, Any] = {"num_folds": recipe.split.folds}
    if horizon is None:
        folds[labelled[train]] = _draw_folds(rows, train, recipe, task)
    else:
        rolling = rolling_origins.rolling_folds(rows.times[train], recipe.split.folds, horizon)
        folds[labelled[train]] = rolling.folds
        facts = {"num_folds": rolling.num_folds, "gaps": rolling.gaps, "horizon": str(horizon), **apart}
    if task.is_ranking:
        _check_whole(_groups(snapshot, str(task.group), labelled), drawn, folds[labelled], str(task.group), by)
    repeats = None
    if hashes is not None and int(groups.max()) + 1 < len(groups):
        num_parted = None if by in {"time", "column"} else equal_rows.num_parted(groups, drawn, folds[labelled])
        has_names = any(schema.with_role(role) for role in (Role.ID, Role.TIME))
        repeats = equal_rows.counted(hashes, num_parted=num_parted, has_names=has_names)
    num_untimed = int(is_labelled.sum()) - len(labelled)
    return Assignment(by, parts, folds, boundaries, repeats, rare_classes, num_untimed, **facts)


def part_begins(times: NDArray[np.int64], recipe: Recipe) -> dict[str, int]:
    """The time in microseconds at which each part of a division by time is over, in their order."""
    if recipe.split.until:
        return _until(recipe)
    shares = _shares(recipe)
    if recipe.forecast is not None:
        return dict(
            zip(DRAWN, rolling_origins.part_begins(times, shares, Period.parse(recipe.forecast.horizon)), strict=False)
        )
    ends = edges(times, shares)
    if ends is None:
        raise _too_few("distinct times", len(np.unique(times)), len(DRAWN))
    return dict(zip(DRAWN, ends, strict=False))


def _set_apart(times: NDArray[np.int64], drawn: NDArray[np.int8], horizon: Period) -> dict[str, int]:
    """Take rows out of the parts that no one learns from or is judged on; how many, by the reason."""
    begins = [int(times[drawn == part].min()) for part in (1, 2) if (drawn == part).any()]
    history = rolling_origins.history_rows(times, horizon)
    between = rolling_origins.embargoed(times, begins, horizon) & ~history & (drawn < 3)
    drawn[history | between] = PARTS.index("unlabelled")
    return {"num_history": int(history.sum()), "num_embargoed": int(between.sum())}


def row_numbers(snapshot: Snapshot) -> NDArray[np.int64]:
    """The stored row numbers; a snapshot without them is numbered in its order."""
    if ROW in pq.read_schema(snapshot.paths[0]).names:
        return pl.concat([pl.read_parquet(path, columns=[ROW]) for path in snapshot.paths]).to_series().to_numpy()
    return np.arange(snapshot.num_rows, dtype=np.int64)


def _labelled(
    snapshot: Snapshot,
    recipe: Recipe,
    task: Task,
    targets: pl.Series,
    labelled: NDArray[np.int64],
    by: str,
    groups: NDArray[np.int64],
) -> _LabelledRows:
    none = np.empty(0, np.int64)
    has_groups = recipe.data.group is not None and by in {"group", "column"}
    return _LabelledRows(
        by=by,
        keys=row_numbers(snapshot)[labelled],
        targets=targets,
        classes=_classes(targets, task),
        times=_times(snapshot, str(recipe.data.time), labelled) if by == "time" else none,
        groups=_groups(snapshot, str(recipe.data.group), labelled) if has_groups else none,
        named_parts=_column(snapshot, str(recipe.split.column)).gather(labelled) if by == "column" else pl.Series(),
        equal_rows=groups,
    )


def _classes(targets: pl.Series, task: Task) -> NDArray[np.int64]:
    """Number the classes, the tenths of a number, or the sets of labels, rare ones of which are one class."""
    if task.labels:
        frequent = targets.is_in(list(task.classes))
        targets = targets.zip_with(frequent, pl.Series(["" for _ in targets], dtype=pl.String))
    if task.is_classification:
        return targets.rank("dense").to_numpy().astype(np.int64)
    return (targets.rank("ordinal").to_numpy().astype(np.int64) - 1) * TENTHS // max(len(targets), 1)


def _groups(snapshot: Snapshot, column: str, labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    names = _column(snapshot, column).gather(labelled)
    alone = pl.Series(np.arange(len(names)) + len(names) + 1)  # a number of its own for a row without group
    return names.rank("dense").cast(pl.Int64).zip_with(names.is_not_null(), alone).to_numpy()


def _draw_parts(rows: _LabelledRows, recipe: Recipe) -> tuple[NDArray[np.int8], dict[str, str]]:
    if rows.by == "column":
        return _parts_by_name(rows.named_parts, str(recipe.split.column)), {}
    if rows.by == "time":
        ends = part_begins(rows.times, recipe)
        return by_time(rows.times, list(ends.values())), _as_text(ends)
    shares = _shares(recipe)
    if rows.by == "group":
        groups = equal_rows.together(rows.groups, rows.equal_rows, min(shares)) if len(rows.equal_rows) else rows.groups
        return by_group(rows.keys, groups, shares, recipe.seed), {}
    equal = rows.equal(slice(None), len(shares))
    if rows.by == "stratified":
        return stratified(rows.keys, rows.classes, shares, recipe.seed, equal), {}
    return shuffled(rows.keys, shares, recipe.seed, equal), {}


def _draw_folds(rows: _LabelledRows, train: NDArray[np.int64], recipe: Recipe, task: Task) -> NDArray[np.int8]:
    """Draw folds with the next seed, so that they do not repeat the order of the parts."""
    shares, seed = [1 / recipe.split.folds] * recipe.split.folds, recipe.seed + 1
    if len(rows.times):
        begins = edges(rows.times[train], shares)
        if begins is None:
            num_times = len(np.unique(rows.times[train]))
            raise _too_few("distinct times in the training part", num_times, recipe.split.folds)
        return by_time(rows.times[train], begins)
    if len(rows.groups):
        num_groups = len(np.unique(rows.groups[train]))
        if num_groups < recipe.split.folds:
            raise _too_few("groups in the training part", num_groups, recipe.split.folds)
        groups = rows.groups[train]
        if len(rows.equal_rows) and rows.by == "group":
            groups = equal_rows.together(groups, rows.equal_rows[train], shares[0])
        groups = groups if len(np.unique(groups)) >= recipe.split.folds else rows.groups[train]
        return by_group(rows.keys[train], groups, shares, seed)
    equal = rows.equal(train, len(shares))
    if task.is_classification or rows.by == "stratified":
        return stratified(rows.keys[train], rows.classes[train], shares, seed, equal)
    return shuffled(rows.keys[train], shares, seed, equal)


def _check(drawn: NDArray[np.int8], recipe: Recipe) -> None:
    """Refuse a part without rows, and training rows too few for the folds."""
    sizes = np.bincount(drawn, minlength=len(DRAWN))
    for number, part in enumerate(DRAWN):
        least = recipe.split.folds if part == "train" else 1
        if sizes[number] < least:
            where = f"collect: split, part '{part}'"
            got = f"{sizes[number]} of {len(drawn)} labelled rows"
            hint = "change split.fractions, split.until or split.folds, or bring more rows"
            raise errors.TargetError.build(where, got=got, expected=f"at least {least}", hint=hint)


def _check_whole(
    groups: NDArray[np.int64], drawn: NDArray[np.int8], folds: NDArray[np.int8], name: str, by: str
) -> None:
    """Refuse parts and folds that divide a group of a ranking.

    Raises
    ------
    TargetError
        Rows of a group are in several parts or folds, by their times or by the column that names the part.
    """
    num_divided = equal_rows.num_parted(np.unique(groups, return_inverse=True)[1].astype(np.int64), drawn, folds)
    if num_divided:
        hint = "split.by: group" + (", or a data.time that is one for the whole group" if by == "time" else "")
        raise errors.TargetError.build(
            f"collect: split by {by}",
            got=f"{num_divided:,} groups of '{name}' in several parts or folds",
            expected="whole groups, which a ranking orders",
            hint=hint,
            field=name,
        )


def _rare_classes(drawn: NDArray[np.int8], rows: _LabelledRows, task: Task) -> dict[Label, int]:
    """Rows of each class that has fewer than two in training, so that some fold would leave none to learn from.

    Raises
    ------
    TargetError
        Fewer than two classes have more.
    """
    labels, first, counts = np.unique(rows.classes, return_index=True, return_counts=True)
    in_train = np.bincount(rows.classes[drawn == 0], minlength=int(labels.max()) + 1)[labels]
    rare = np.flatnonzero(in_train < 2)
    if len(labels) - len(rare) >= 2:
        return {rows.targets[int(first[label])]: int(counts[label]) for label in rare}
    if len(labels) > 2 and counts.max() == 1:
        raise errors.TargetError.build(
            f"collect: target '{task.target}'",
            got=f"{len(labels):,} values, each in one row",
            expected="values that recur: an id or a name tells rows apart, and nothing can be learned of it",
            hint="target: another column, or one of data.derive",
            field=task.target,
        )
    label = rare[0]
    where = f"collect: split, class {rows.targets[int(first[label])]!r} of target '{task.target}'"
    got = f"{in_train[label]} of its {counts[label]} rows in the training part"
    expected = "at least 2 rows of two classes, so that every fold leaves one to learn from"
    hint = "bring more rows of it, or predict something else with data.derive"
    raise errors.TargetError.build(where, got=got, expected=expected, hint=hint, field=task.target)


def _shares(recipe: Recipe) -> list[float]:
    given = {str(part): share for part, share in recipe.split.fractions.items()}
    shares = [given.get(part, 0.0) for part in DRAWN]
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        got = ", ".join(f"{part} {share:g}" for part, share in zip(DRAWN, shares, strict=True))
        expected = "train, validation and test, each above 0, that add up to 1"
        hint = "{train: 0.7, validation: 0.15, test: 0.15}"
        raise errors.RecipeError.build("recipe: 'split.fractions'", got=got, expected=expected, hint=hint)
    return shares


def _until(recipe: Recipe) -> dict[str, int]:
    """By part, the microseconds since 1970 at which it is over, in the order of time."""
    until = {str(part): date for part, date in recipe.split.until.items()}
    given = {part: until[part] for part in DRAWN if part in until}
    read = conversion.read_text(pa.array(list(given.values()), pa.string()), conversion.TIME, recipe.data.timezone)
    values = read.cast(pa.int64()).to_pylist()
    in_order = None not in values and all(a < b for a, b in pairwise(values))
    if not in_order or "train" not in given or "validation" not in given:
        got = ", ".join(f"{part}: {text}" for part, text in given.items()) or "nothing"
        expected = "dates for train, validation and, if later rows are to be traffic, test, one after the other"
        hint = "{train: 2013-09-01, validation: 2013-10-01, test: 2013-11-01}"
        raise errors.RecipeError.build("recipe: 'split.until'", got=got, expected=expected, hint=hint)
    return dict(zip(given, values, strict=True))


def _parts_by_name(values: pl.Series, column: str) -> NDArray[np.int8]:
    names = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    allowed = list(PARTS[:4])
    for value in values.filter(~names.is_in(allowed).fill_null(value=False)).head(1):
        where = f"recipe: 'split.column': column '{column}'"
        got = repr(value)
        expected = ", ".join(allowed) + " in every labelled row"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=errors.did_you_mean(str(value), allowed))
    return names.replace_strict(allowed, list(range(len(allowed))), return_dtype=pl.Int8).to_numpy()


def _times(snapshot: Snapshot, column: str, labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    times = _column(snapshot, column).gather(labelled)
    return times.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()


def _column(snapshot: Snapshot, name: str) -> pl.Series:
    if name not in snapshot.schema:
        raise errors.RecipeError.unknown_column("collect: split", name, snapshot.schema.names)
    return pl.concat([pl.read_parquet(path, columns=[name]) for path in snapshot.paths]).to_series()


def _as_text(ends: dict[str, int]) -> dict[str, str]:
    return {part: (EPOCH + time * MICROSECOND).isoformat() for part, time in ends.items()}


def _too_few(what: str, got: int, expected: int) -> errors.TargetError:
    return errors.TargetError.build(
        f"collect: split, {what}", got=str(got), expected=f"at least {expected}", hint="set split.folds or split.by"
    )
