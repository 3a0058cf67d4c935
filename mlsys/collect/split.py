"""Divide a snapshot's rows into parts and the training part into folds, stored as data.

=============  ==================================================================================
``by``         parts, and folds of the training part
=============  ==================================================================================
``random``     shares drawn by chance; folds too. Rows that are equal on all features stay together
``stratified`` the same within each class (regression: within tenths of the target)
``time``       up to the dates of ``until``, rows after the last are production; or shares in
               order of time. Folds follow each other in time. Equal times stay together.
``group``      shares by chance, and no group is in two parts or folds; a row without group is
               a group of its own; groups with equal rows are one where that leaves enough of them
``column``     what the column says; folds stratified, by group where ``data.group`` is given
``auto``       column if ``column`` is given, time if ``until`` is, group if ``data.group`` is,
               else stratified for classification and random for regression; time for a ``forecast``,
               with a horizon between parts and between folds (`rolling_origins`)
=============  ==================================================================================

Rows without a target are the part ``unlabelled``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster, errors
from mlsys.collect import assignment, equal_rows
from mlsys.collect.assignment import Assignment
from mlsys.collect.equal_rows import Repeats
from mlsys.dataset import PARTS, Snapshot, Split
from mlsys.limits import rows_per_task
from mlsys.recipe import Recipe
from mlsys.schema import FOLD, ROW, Role, Schema, Task
from mlsys.store import Store


def divide(
    store: Store,
    snapshot: Snapshot,
    recipe: Recipe,
    task: Task,
    roles: Mapping[str, Role] | None = None,
) -> Split:
    """Assign every row to a part and each training row to a fold, and store each part in a folder of its own.

    In memory are a few numbers a row, and at most `TASK_ROWS` rows a part.

    Parameters
    ----------
    roles
        Roles of columns other than in the snapshot, as `screening.screen` found them.

    Raises
    ------
    RecipeError
        The recipe asks for a division that it does not say enough for.
    TargetError
        Fewer than two classes have two rows in training, or a part would be empty.
    """
    by = _resolve(recipe, task)
    schema = _with_split_column(snapshot.schema, recipe) if by == "column" else snapshot.schema
    own = {task.weight: Role.WEIGHT, task.exposure: Role.EXPOSURE}
    schema = _with_roles(schema, {**(roles or {}), **{name: role for name, role in own.items() if name is not None}})
    digest = cluster.call(_divide, store, snapshot, schema, recipe, task, by)
    return Split.open(store, digest)


def messages(split: Split, target: str) -> list[str]:
    """Lines about a division that a person should read: rows that repeat, rare classes, and rows without a time."""
    lines = [] if split.repeats is None else equal_rows.sentences(Repeats(**split.repeats))
    if split.rare_classes:
        shown = ", ".join(f"{label!r} ({rows:,})" for label, rows in split.rare_classes[:5])
        more = f" and {len(split.rare_classes) - 5} more" if len(split.rare_classes) > 5 else ""
        text = f"target '{target}': classes with fewer than two rows in training are set aside as unlabelled"
        lines.append(f"{text}: {shown}{more}; data.derive can merge them with another class")
    if split.num_untimed:
        lines.append(f"rows without a time ({split.num_untimed:,}) are set aside as unlabelled: time divides the rows")
    if split.horizon is not None:
        before = f"the {split.num_history:,} rows of the first {split.horizon} are the past of others alone"
        between = f"{split.num_embargoed:,} rows are set aside between the parts"
        lines.append(f"{before}, {between}, so that no model is fitted on what was not known {split.horizon} before")
        lines.append(f"{split.num_folds} folds, each judged on a model of what was known {split.horizon} before it")
    return lines


def _resolve(recipe: Recipe, task: Task) -> str:
    if recipe.forecast is not None:
        return _by_time_alone(recipe)
    rules = {"column": recipe.split.column, "time": recipe.split.until, "group": recipe.data.group}
    given = next((rule for rule, value in rules.items() if value), None)
    by = recipe.split.by if recipe.split.by != "auto" else given
    by = by or ("stratified" if task.is_classification else "random")
    _check(by, recipe)
    return by


def _by_time_alone(recipe: Recipe) -> str:
    """Refuse another division of a forecast than one by time: others would learn from the future."""
    if recipe.split.by not in ("auto", "time") or recipe.split.column or recipe.data.group:
        by = (
            recipe.split.by if recipe.split.by not in ("auto", "time") else "column" if recipe.split.column else "group"
        )
        where, expected = f"recipe: split by {by}", "by: time, for rows that are forecast"
        hint = "leave split.by, split.column and data.group out"
        raise errors.RecipeError.build(where, got=by, expected=expected, hint=hint, field="split.by")
    _check("time", recipe)
    return "time"


def _check(by: str, recipe: Recipe) -> None:
    """Refuse a division that lacks what it needs, and settings that would have no effect on it."""
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
    for key, needs in (("until", "time"), ("column", "column")):
        if getattr(recipe.split, key) and by != needs:
            got = f"'split.{key}', which has no effect on it"
            hint = f"set split.by: {needs}, or take split.{key} out"
            raise errors.RecipeError.build(
                f"recipe: split by {by}", got=got, expected=f"split.by: {needs}", hint=hint, field=f"split.{key}"
            )
    if recipe.data.group and by in ("random", "stratified"):
        where = f"recipe: split by {by}"
        got = f"'data.group: {recipe.data.group}', whose rows must stay in one part"
        hint = "set split.by: group, or take data.group out"
        raise errors.RecipeError.build(where, got=got, expected="split.by: group", hint=hint, field="split.by")


def _with_split_column(schema: Schema, recipe: Recipe) -> Schema:
    if recipe.split.column not in schema:
        raise errors.RecipeError.unknown_column("recipe: 'split.column'", str(recipe.split.column), schema.names)
    return _with_roles(schema, {str(recipe.split.column): Role.SPLIT})


def _with_roles(schema: Schema, roles: Mapping[str, Role]) -> Schema:
    return Schema(columns=[c.model_copy(update={"role": roles[c.name]}) if c.name in roles else c for c in schema])


def _divide(store: Store, snapshot: Snapshot, schema: Schema, recipe: Recipe, task: Task, by: str) -> str:
    assigned = assignment.assign(snapshot, schema, recipe, task, by)
    num_rows = {part: int((assigned.parts == number).sum()) for number, part in enumerate(PARTS)}
    facts = {
        "schema": schema.model_dump(mode="json"),
        "num_rows": num_rows,
        "num_folds": assigned.num_folds,
        "forward": assigned.forward,
        "by": by,
        "boundaries": assigned.boundaries,
    }
    if assigned.repeats:
        facts["repeats"] = assigned.repeats.to_json()
    if assigned.num_untimed:
        facts["num_untimed"] = assigned.num_untimed
    if assigned.rare_classes:
        facts["rare_classes"] = [[label, rows] for label, rows in assigned.rare_classes.items()]
    if assigned.horizon is not None:
        facts["horizon"], facts["gaps"] = assigned.horizon, list(assigned.gaps)
        facts["num_history"], facts["num_embargoed"] = assigned.num_history, assigned.num_embargoed
    with store.staging() as folder:
        _write(snapshot, assigned, folder)
        return store.commit("split", folder, facts)


def _write(snapshot: Snapshot, assigned: Assignment, folder: Path) -> None:
    """Write each part's rows in the snapshot's order, in files of some rows; a part without rows is one empty file."""
    empty = pq.read_schema(snapshot.paths[0]).empty_table()
    schema = _with_numbers(empty, np.array([], np.int64), np.array([], np.int8)).schema
    file_rows = rows_per_task(len(schema))
    waiting = {part: schema.empty_table() for part in PARTS}
    numbers = dict.fromkeys(PARTS, 0)
    for table, rows in _numbered(snapshot, assigned, file_rows):
        for number, part in enumerate(PARTS):
            waiting[part] = pa.concat_tables([waiting[part], table.filter(pa.array(assigned.parts[rows] == number))])
            while waiting[part].num_rows >= file_rows:
                _write_file(folder / part, numbers, waiting[part].slice(0, file_rows))
                waiting[part] = waiting[part].slice(file_rows)
    for part in PARTS:
        if waiting[part].num_rows or not numbers[part]:
            _write_file(folder / part, numbers, waiting[part])


def _numbered(snapshot: Snapshot, assigned: Assignment, batch_rows: int) -> Iterator[tuple[pa.Table, slice]]:
    rows, first = assignment.row_numbers(snapshot), 0
    for path in snapshot.paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=batch_rows):
            these = slice(first, first + batch.num_rows)
            yield _with_numbers(pa.Table.from_batches([batch]), rows[these], assigned.folds[these]), these
            first += batch.num_rows


def _with_numbers(table: pa.Table, rows: NDArray[np.int64], folds: NDArray[np.int8]) -> pa.Table:
    plain = table.drop_columns([ROW]) if ROW in table.column_names else table
    numbered = plain.append_column(ROW, pa.array(rows, pa.int64())).append_column(FOLD, pa.array(folds, pa.int8()))
    return numbered.replace_schema_metadata(None)


def _write_file(folder: Path, numbers: dict[str, int], table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"part-{numbers[folder.name]:05d}.parquet"
    pq.write_table(table.combine_chunks(), file, compression="zstd", row_group_size=table.num_rows or None)
    numbers[folder.name] += 1
