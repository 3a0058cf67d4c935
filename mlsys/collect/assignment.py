"""Assign a part and a fold to each row of a snapshot, by the rules of `split`.

Chance is a hash of the seed and the row's number, not a stream of random numbers: a row keeps
its place however the rows are spread over files, and each class or group is drawn alike.

`shuffled`, `stratified`, `by_group` and `by_time` return the number of a bin (part or fold),
0 … len(shares) - 1, of each row, as int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors
from mlsys.dataset import PARTS, Snapshot
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.readers import conversion
from mlsys.recipe import Recipe
from mlsys.schema import ROW, Task
from mlsys.statistics.hashing import GOLDEN, mix

Bins = NDArray[np.int8]


def order(keys: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number that looks random, of each key alone: SplitMix64 of the key, moved by a hash of the seed."""
    offset = mix(np.array([seed], np.int64).view(np.uint64) - GOLDEN)  # 0 for seed 0
    return mix(keys.astype(np.uint64) + offset)


def shuffled(keys: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Draw bins of exact shares (to one row), by `order`."""
    bins = np.empty(len(keys), np.int8)
    bins[np.argsort(order(keys, seed), kind="stable")] = np.repeat(np.arange(len(shares)), _sizes(len(keys), shares))
    return bins


def stratified(keys: NDArray[np.int64], classes: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Draw bins in which every class has its share, to one row, and at least one row where it has enough.

    What rounding leaves over goes from class to class to the bins that are furthest behind, so
    that the bins as a whole have their shares too.
    """
    bins = np.empty(len(keys), np.int8)
    behind = np.zeros(len(shares))
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        exact = np.asarray(shares) * len(rows)
        sizes = np.floor(exact + 1e-9).astype(np.int64)
        behind += exact - sizes
        for _ in range(len(rows) - int(sizes.sum())):
            most = int(np.argmax(behind))
            sizes[most] += 1
            behind[most] -= 1
        _fill(sizes, behind)
        drawn = rows[np.argsort(order(keys[rows], seed), kind="stable")]
        bins[drawn] = np.repeat(np.arange(len(shares)), sizes)
    return bins


def by_group(keys: NDArray[np.int64], groups: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Draw bins that no group straddles: groups in random order, each to the bin that lacks most rows.

    The last groups go to bins that are still empty.
    """
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    lacks = np.asarray(shares) * len(keys)
    empty = set(range(len(shares)))
    bin_of = np.empty(len(sizes), np.int8)
    drawn = np.argsort(order(keys[first], seed), kind="stable")
    for num_placed, group in enumerate(drawn.tolist()):
        must = sorted(empty) if len(drawn) - num_placed <= len(empty) else range(len(shares))
        chosen = max(must, key=lambda number: lacks[number])
        bin_of[group] = chosen
        lacks[chosen] -= sizes[group]
        empty.discard(chosen)
    return bin_of[inverse]


def edges(times: NDArray[np.int64], shares: list[float]) -> list[int] | None:
    """Find the times at which the next bin begins: nearest to the shares, with equal times in one bin.

    None if there are fewer distinct times than bins.
    """
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) < len(shares):
        return None
    before = np.concatenate([[0], np.cumsum(counts)])  # rows before each distinct time
    begins, last = [], 0
    for bin_, share in enumerate(np.cumsum(shares)[:-1]):
        most = len(distinct) - (len(shares) - 1 - bin_)  # leaves a time for each later bin
        nearest = int(np.argmin(np.abs(before - share * len(times))))
        last = min(max(nearest, last + 1), most)
        begins.append(int(distinct[last]))
    return begins


def by_time(times: NDArray[np.int64], begins: list[int]) -> Bins:
    """The bin of each time, where bin k + 1 begins at ``begins[k]``."""
    return np.searchsorted(np.asarray(begins), times, side="right").astype(np.int8)


def _sizes(count: int, shares: list[float]) -> NDArray[np.int64]:
    ends = np.rint(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.asarray(np.diff(ends, prepend=0), np.int64)


def _fill(sizes: NDArray[np.int64], behind: NDArray[np.float64]) -> None:
    """Give each bin without a row one of the largest bin, if that keeps two."""
    for empty in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        if sizes[largest] > 2:
            sizes[empty], sizes[largest] = 1, sizes[largest] - 1
            behind[empty], behind[largest] = behind[empty] - 1, behind[largest] + 1


DRAWN = PARTS[:3]
"""The parts that have shares: train, validation, test."""
TENTHS = 10


@dataclass(frozen=True)
class Assignment:
    """The part (index into `PARTS`) and the fold of every row, in the order of the snapshot."""

    by: str
    parts: NDArray[np.int8]
    folds: NDArray[np.int8]
    boundaries: dict[str, str]

    @property
    def forward(self) -> bool:
        return self.by == "time"


@dataclass(frozen=True)
class _LabelledRows:
    """The labelled rows as arrays; times, groups and named parts only where the draw needs them.

    `keys` are row numbers, `classes` numbers of the class, or for regression of the tenth of the target,
    `times` microseconds since 1970, and `named_parts` the values of the column that names the part.
    """

    by: str
    keys: NDArray[np.int64]
    targets: pl.Series
    classes: NDArray[np.int64]
    times: NDArray[np.int64]
    groups: NDArray[np.int64]
    named_parts: pl.Series


def assign(snapshot: Snapshot, recipe: Recipe, task: Task, by: str) -> Assignment:
    """Draw parts for all rows and folds for those of the training part; raises as `split.divide`."""
    targets = _column(snapshot, task.target)
    labelled = np.flatnonzero(targets.is_not_null().to_numpy())
    rows = _labelled(snapshot, recipe, task, targets.gather(labelled), labelled, by)
    drawn, boundaries = _draw_parts(rows, recipe)
    _check(drawn, rows, recipe, task)
    parts = np.full(len(targets), PARTS.index("unlabelled"), np.int8)
    parts[labelled] = drawn
    folds = np.full(len(targets), -1, np.int8)
    train = np.flatnonzero(drawn == 0)
    folds[labelled[train]] = _draw_folds(rows, train, recipe, task)
    return Assignment(by, parts, folds, boundaries)


def row_numbers(snapshot: Snapshot) -> NDArray[np.int64]:
    """The stored row numbers; a snapshot without them is numbered in its order."""
    if ROW in pq.read_schema(snapshot.paths[0]).names:
        return pl.concat([pl.read_parquet(path, columns=[ROW]) for path in snapshot.paths]).to_series().to_numpy()
    return np.arange(snapshot.num_rows, dtype=np.int64)


def _labelled(
    snapshot: Snapshot, recipe: Recipe, task: Task, targets: pl.Series, labelled: NDArray[np.int64], by: str
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
    )


def _classes(targets: pl.Series, task: Task) -> NDArray[np.int64]:
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
    if rows.by == "time" and recipe.split.until:
        until = _until(recipe)
        return by_time(rows.times, list(until.values())), _as_text(until)
    shares = _shares(recipe)
    if rows.by == "time":
        ends = edges(rows.times, shares)
        if ends is None:
            raise _too_few("distinct times", len(np.unique(rows.times)), len(DRAWN))
        return by_time(rows.times, ends), _as_text(dict(zip(DRAWN, ends, strict=False)))
    if rows.by == "group":
        return by_group(rows.keys, rows.groups, shares, recipe.seed), {}
    if rows.by == "stratified":
        return stratified(rows.keys, rows.classes, shares, recipe.seed), {}
    return shuffled(rows.keys, shares, recipe.seed), {}


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
        return by_group(rows.keys[train], rows.groups[train], shares, seed)
    if task.is_classification or rows.by == "stratified":
        return stratified(rows.keys[train], rows.classes[train], shares, seed)
    return shuffled(rows.keys[train], shares, seed)


def _check(drawn: NDArray[np.int8], rows: _LabelledRows, recipe: Recipe, task: Task) -> None:
    """Refuse a part without rows, training rows too few for the folds, and classes that a fold could take whole."""
    sizes = np.bincount(drawn, minlength=len(DRAWN))
    for number, part in enumerate(DRAWN):
        least = recipe.split.folds if part == "train" else 1
        if sizes[number] < least:
            where = f"collect: split, part '{part}'"
            got = f"{sizes[number]} of {len(drawn)} labelled rows"
            hint = "change split.fractions, split.until or split.folds, or bring more rows"
            raise errors.TargetError.build(where, got=got, expected=f"at least {least}", hint=hint)
    if task.is_classification:
        _check_classes(drawn, rows, task)


def _check_classes(drawn: NDArray[np.int8], rows: _LabelledRows, task: Task) -> None:
    labels, first, counts = np.unique(rows.classes, return_index=True, return_counts=True)
    in_train = np.bincount(rows.classes[drawn == 0], minlength=int(labels.max()) + 1)[labels]
    for label in np.flatnonzero(in_train < 2):
        where = f"collect: split, class {rows.targets[int(first[label])]!r} of target '{task.target}'"
        got = f"{in_train[label]} of its {counts[label]} rows in the training part"
        expected = "at least 2, so that every fold leaves one to learn from"
        hint = "bring more rows of it, or merge it with another class or set it to NULL in data.derive"
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
    if times.null_count():
        where = f"collect: split by time, column '{column}'"
        got = f"{times.null_count()} labelled rows without a time"
        hint = "nullable: false for it in data.contract quarantines such rows"
        raise errors.ContractError.build(where, got=got, expected="a time in every labelled row", hint=hint)
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
