"""Divide a snapshot's rows into parts and the training part into folds, stored as data.

=============  ==================================================================================
``by``         parts, and folds of the training part
=============  ==================================================================================
``random``     shares drawn by chance; folds too
``stratified`` the same within each class (regression: within tenths of the target)
``time``       up to the dates of ``until``, rows after the last are production; or shares in
               order of time. Folds follow each other in time. Equal times stay together.
``group``      shares by chance, and no group is in two parts or folds; a row without group is
               a group of its own
``column``     what the column says; folds stratified, by group where ``data.group`` is given
``auto``       time if ``until`` is given, group if ``data.group`` is, else stratified for
               classification and random for regression
=============  ==================================================================================

Rows without a target are the part ``unlabelled``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster, errors
from mlsys.collect import assignment, convert
from mlsys.dataset import PARTS, Snapshot, Split
from mlsys.recipe import Recipe
from mlsys.schema import FOLD, ROW, Role, Schema, Task
from mlsys.store import Store

__all__ = ["divide"]

DRAWN = PARTS[:3]
"""The parts that have shares: train, validation, test."""
FILE_ROWS = 1 << 17
"""Rows a file of a part: what one task reads at a time, and enough tasks for a few cores."""
TENTHS = 10


@dataclass(frozen=True)
class _Division:
    """Part (index into `PARTS`) and fold of every row, in the order of the snapshot."""

    by: str
    parts: NDArray[np.int8]
    folds: NDArray[np.int8]
    boundaries: dict[str, str]

    @property
    def forward(self) -> bool:
        return self.by == "time"


@dataclass(frozen=True)
class _Rows:
    """What is known of the labelled rows: number, class or tenth of the target, time, group."""

    keys: NDArray[np.int64]
    classes: NDArray[np.int64]
    times: NDArray[np.int64] | None
    groups: NDArray[np.int64] | None


def divide(store: Store, snapshot: Snapshot, recipe: Recipe, task: Task) -> Split:
    """Assign every row to a part, each training row to a fold, and store the parts apart.

    The same snapshot and ``recipe.seed`` give the same division. In memory are a few numbers
    a row, and at most `FILE_ROWS` rows a part.

    Raises
    ------
    RecipeError
        The recipe asks for a division that it does not say enough for.
    TargetError
        A class has too few rows to be in all parts, or a part would be empty.
    """
    by = _resolve(recipe, task)
    schema = _with_split_column(snapshot.schema, recipe) if by == "column" else snapshot.schema
    digest = cluster.call(_divide, store, snapshot, schema, recipe, task, by)
    return Split.open(store, digest)


def _resolve(recipe: Recipe, task: Task) -> str:
    by = recipe.split.by
    if by == "auto":
        by = (
            "time"
            if recipe.split.until
            else "group"
            if recipe.data.group
            else "stratified"
            if task.is_classification
            else "random"
        )
    needed = {
        "time": ("data.time", recipe.data.time),
        "group": ("data.group", recipe.data.group),
        "column": ("split.column", recipe.split.column),
    }
    if by in needed and needed[by][1] is None:
        key = needed[by][0]
        raise errors.RecipeError.build(
            f"recipe: split by {by}", got=f"no '{key}'", expected=f"the column in '{key}'", field=key
        )
    if recipe.data.group and by in ("random", "stratified"):
        raise errors.RecipeError.build(
            f"recipe: split by {by}",
            got=f"'data.group: {recipe.data.group}', whose rows must stay in one part",
            expected="split.by: group",
            hint="set split.by: group, or take data.group out",
            field="split.by",
        )
    return by


def _with_split_column(schema: Schema, recipe: Recipe) -> Schema:
    if recipe.split.column not in schema:
        raise errors.RecipeError.unknown_column("recipe: 'split.column'", str(recipe.split.column), schema.names)
    columns = (c.model_copy(update={"role": Role.SPLIT}) if c.name == recipe.split.column else c for c in schema)
    return Schema(columns=tuple(columns))


def _divide(store: Store, snapshot: Snapshot, schema: Schema, recipe: Recipe, task: Task, by: str) -> str:
    division = _assign(snapshot, recipe, task, by)
    num_rows = {part: int((division.parts == at).sum()) for at, part in enumerate(PARTS)}
    facts = {
        "schema": schema.model_dump(mode="json"),
        "num_rows": num_rows,
        "num_folds": recipe.split.folds,
        "forward": division.forward,
        "by": by,
        "boundaries": division.boundaries,
    }

    def write(folder: Path) -> dict[str, Any]:
        _write(snapshot, division, folder)
        return facts

    return store.put("split", write)


def _assign(snapshot: Snapshot, recipe: Recipe, task: Task, by: str) -> _Division:
    targets = _column(snapshot, task.target)
    labelled = np.flatnonzero(targets.is_not_null().to_numpy())
    rows = _rows(snapshot, recipe, task, targets, labelled, by)
    drawn, boundaries = _draw_parts(snapshot, recipe, rows, labelled, by)
    _check(drawn, rows, targets, labelled, recipe, task)
    parts = np.full(len(targets), PARTS.index("unlabelled"), np.int8)
    parts[labelled] = drawn
    folds = np.full(len(targets), -1, np.int8)
    train = np.flatnonzero(drawn == 0)
    folds[labelled[train]] = _draw_folds(rows, train, recipe, task, by)
    return _Division(by, parts, folds, boundaries)


def _rows(
    snapshot: Snapshot, recipe: Recipe, task: Task, targets: pl.Series, labelled: NDArray[np.int64], by: str
) -> _Rows:
    found = targets.gather(labelled)
    if task.is_classification:
        classes = found.rank("dense").to_numpy()
    else:
        classes = (found.rank("ordinal") - 1).to_numpy() * TENTHS // max(len(found), 1)
    groups = None
    if recipe.data.group and by in ("group", "column"):
        names = _column(snapshot, recipe.data.group).gather(labelled)
        alone = pl.Series(np.arange(len(names)) + len(names) + 1)  # a number of its own for a row without group
        groups = names.rank("dense").cast(pl.Int64).zip_with(names.is_not_null(), alone).to_numpy()
    times = _times(snapshot, str(recipe.data.time), labelled) if by == "time" else None
    return _Rows(_row_numbers(snapshot)[labelled], classes.astype(np.int64), times, groups)


def _draw_parts(
    snapshot: Snapshot, recipe: Recipe, rows: _Rows, labelled: NDArray[np.int64], by: str
) -> tuple[NDArray[np.int8], dict[str, str]]:
    if by == "column":
        return _said(_column(snapshot, str(recipe.split.column)).gather(labelled), str(recipe.split.column)), {}
    if by == "time" and recipe.split.until:
        begins = _until(recipe)
        return assignment.by_time(_present(rows.times), list(begins.values())), _shown(begins)
    shares = _shares(recipe)
    if by == "time":
        found = assignment.edges(_present(rows.times), shares)
        if found is None:
            raise _too_few("distinct times", len(np.unique(_present(rows.times))), len(DRAWN))
        return assignment.by_time(_present(rows.times), found), _shown(dict(zip(DRAWN, found, strict=False)))
    if by == "group":
        return assignment.by_group(rows.keys, _present(rows.groups), shares, recipe.seed), {}
    if by == "stratified":
        return assignment.stratified(rows.keys, rows.classes, shares, recipe.seed), {}
    return assignment.shuffled(rows.keys, shares, recipe.seed), {}


def _draw_folds(rows: _Rows, train: NDArray[np.int64], recipe: Recipe, task: Task, by: str) -> NDArray[np.int8]:
    """Folds are drawn with the next seed, so that they do not repeat the order of the parts."""
    shares, seed = [1 / recipe.split.folds] * recipe.split.folds, recipe.seed + 1
    if rows.times is not None:
        begins = assignment.edges(rows.times[train], shares)
        if begins is None:
            raise _too_few("distinct times in the training part", len(np.unique(rows.times[train])), recipe.split.folds)
        return assignment.by_time(rows.times[train], begins)
    if rows.groups is not None:
        num_groups = len(np.unique(rows.groups[train]))
        if num_groups < recipe.split.folds:
            raise _too_few("groups in the training part", num_groups, recipe.split.folds)
        return assignment.by_group(rows.keys[train], rows.groups[train], shares, seed)
    if task.is_classification or by == "stratified":
        return assignment.stratified(rows.keys[train], rows.classes[train], shares, seed)
    return assignment.shuffled(rows.keys[train], shares, seed)


def _check(
    drawn: NDArray[np.int8], rows: _Rows, targets: pl.Series, labelled: NDArray[np.int64], recipe: Recipe, task: Task
) -> None:
    """Every part has rows, training enough for the folds, and for each class two, so that no fold takes all."""
    sizes = np.bincount(drawn, minlength=len(DRAWN))
    for at, part in enumerate(DRAWN):
        least = recipe.split.folds if part == "train" else 1
        if sizes[at] < least:
            raise errors.TargetError.build(
                f"collect: split, part '{part}'",
                got=f"{sizes[at]} of {len(drawn)} labelled rows",
                expected=f"at least {least}",
                hint="change split.fractions, split.until or split.folds, or bring more rows",
                field=part,
            )
    if not task.is_classification:
        return
    in_train = np.bincount(rows.classes[drawn == 0], minlength=int(rows.classes.max()) + 1)
    for label in np.flatnonzero((in_train < 2) & (np.bincount(rows.classes) > 0)):
        value = targets[int(labelled[np.flatnonzero(rows.classes == label)[0]])]
        raise errors.TargetError.build(
            f"collect: split, class {value!r} of target '{task.target}'",
            got=f"{in_train[label]} of its {int((rows.classes == label).sum())} rows in the training part",
            expected="at least 2, so that every fold leaves one to learn from",
            hint="bring more rows of it, merge it with another class or drop it in data.derive",
            field=task.target,
        )


def _shares(recipe: Recipe) -> list[float]:
    given = recipe.split.fractions
    shares = [float(given.get(part, 0.0)) for part in DRAWN]  # type: ignore[call-overload]
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise errors.RecipeError.build(
            "recipe: 'split.fractions'",
            got=", ".join(f"{part} {share:g}" for part, share in zip(DRAWN, shares, strict=True)),
            expected="train, validation and test, each above 0, that add up to 1",
            hint="{train: 0.7, validation: 0.15, test: 0.15}",
            field="split.fractions",
        )
    return shares


def _until(recipe: Recipe) -> dict[str, int]:
    """Part → microseconds since 1970 at which it is over, in the order of time."""
    given: dict[str, str] = {part: recipe.split.until[part] for part in DRAWN if part in recipe.split.until}  # type: ignore[index]
    read = convert.read_text(pa.array(list(given.values()), pa.string()), convert.TIME, recipe.data.timezone)
    values = read.cast(pa.int64()).to_pylist()
    in_order = None not in values and all(a < b for a, b in zip(values, values[1:], strict=False))
    if not in_order or "train" not in given or "validation" not in given:
        raise errors.RecipeError.build(
            "recipe: 'split.until'",
            got=", ".join(f"{part}: {text}" for part, text in given.items()) or "nothing",
            expected="dates for train and validation, and for test if later rows are to be traffic, one after the other",
            hint="{train: 2013-09-01, validation: 2013-10-01, test: 2013-11-01}",
            field="split.until",
        )
    return dict(zip(given, values, strict=True))


def _said(values: pl.Series, column: str) -> NDArray[np.int8]:
    """Parts that a column names."""
    names = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    allowed = list(PARTS[:4])
    for value in values.filter(~names.is_in(allowed).fill_null(value=False)).head(1):
        raise errors.RecipeError.build(
            f"recipe: 'split.column': column '{column}'",
            got=repr(value),
            expected=", ".join(allowed) + " in every labelled row",
            hint=errors.did_you_mean(str(value), allowed),
            field="split.column",
        )
    return names.replace_strict(allowed, list(range(len(allowed))), return_dtype=pl.Int8).to_numpy()


def _times(snapshot: Snapshot, column: str, labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    times = _column(snapshot, column).gather(labelled)
    if times.null_count():
        raise errors.ContractError.build(
            f"collect: split by time, column '{column}'",
            got=f"{times.null_count()} labelled rows without a time",
            expected="a time in every labelled row",
            field=column,
            hint="nullable: false for it in data.contract sets such rows aside",
        )
    return times.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()


def _column(snapshot: Snapshot, name: str) -> pl.Series:
    if name not in snapshot.schema:
        raise errors.RecipeError.unknown_column("collect: split", name, snapshot.schema.names)
    return pl.concat([pl.read_parquet(path, columns=[name]) for path in snapshot.paths]).to_series()


def _row_numbers(snapshot: Snapshot) -> NDArray[np.int64]:
    """The stored row numbers; a snapshot without them is numbered in its order."""
    if ROW in pq.read_schema(snapshot.paths[0]).names:
        return pl.concat([pl.read_parquet(path, columns=[ROW]) for path in snapshot.paths]).to_series().to_numpy()
    return np.arange(snapshot.num_rows, dtype=np.int64)


def _write(snapshot: Snapshot, division: _Division, folder: Path) -> None:
    """Each part's rows in the snapshot's order, in files of `FILE_ROWS`; a part without rows is one empty file."""
    kind = _with_numbers(
        pq.read_schema(snapshot.paths[0]).empty_table(), np.array([], np.int64), np.array([], np.int8)
    ).schema
    waiting = {part: kind.empty_table() for part in PARTS}
    numbers = dict.fromkeys(PARTS, 0)
    for table, at in _numbered(snapshot, division):
        for number, part in enumerate(PARTS):
            waiting[part] = pa.concat_tables([waiting[part], table.filter(pa.array(division.parts[at] == number))])
            while waiting[part].num_rows >= FILE_ROWS:
                _write_file(folder / part, numbers, waiting[part].slice(0, FILE_ROWS))
                waiting[part] = waiting[part].slice(FILE_ROWS)
    for part in PARTS:
        if waiting[part].num_rows or not numbers[part]:
            _write_file(folder / part, numbers, waiting[part])


def _numbered(snapshot: Snapshot, division: _Division) -> Iterator[tuple[pa.Table, slice]]:
    rows, first = _row_numbers(snapshot), 0
    for path in snapshot.paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=FILE_ROWS):
            at = slice(first, first + batch.num_rows)
            yield _with_numbers(pa.Table.from_batches([batch]), rows[at], division.folds[at]), at
            first += batch.num_rows


def _with_numbers(table: pa.Table, rows: NDArray[np.int64], folds: NDArray[np.int8]) -> pa.Table:
    plain = table.drop_columns([ROW]) if ROW in table.column_names else table
    numbered = plain.append_column(ROW, pa.array(rows, pa.int64())).append_column(FOLD, pa.array(folds, pa.int8()))
    return numbered.replace_schema_metadata(None)


def _write_file(folder: Path, numbers: dict[str, int], table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.combine_chunks(),
        folder / f"part-{numbers[folder.name]:05d}.parquet",
        compression="zstd",
        row_group_size=FILE_ROWS,
    )
    numbers[folder.name] += 1


def _present(values: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if values is None:
        raise AssertionError
    return values


def _shown(begins: dict[str, int]) -> dict[str, str]:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return {part: (epoch + dt.timedelta(microseconds=at)).isoformat() for part, at in begins.items()}


def _too_few(what: str, got: int, expected: int) -> errors.TargetError:
    return errors.TargetError.build(
        f"collect: split, {what}", got=str(got), expected=f"at least {expected}", hint="set split.folds or split.by"
    )
