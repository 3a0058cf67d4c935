"""The input of one fit: a model's parameters as the recipe sets them, and rows as a matrix.

A `TrainingJob` is all that a worker needs to know, without rows. Samples and hold-outs depend on the rows alone.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors, models
from mlsys import label_sets as labels
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features import directions, executors, plan, training
from mlsys.features.executors import FileRows, file_rows
from mlsys.features.operations.operation import Encoding
from mlsys.features.plan import FeaturePlan
from mlsys.features.training import TrainingProgram
from mlsys.models import class_balance, target_transform
from mlsys.models.class_balance import Balancing, ClassBalance, Corrected
from mlsys.models.families.ensemble import Ensemble
from mlsys.models.interface import Device, DistributedFamily, Family, FamilyParams
from mlsys.models.matrix import Matrix, joined
from mlsys.models.target_transform import TargetTransform, Transformed
from mlsys.recipe import Recipe
from mlsys.schema import ROW, Role, Schema, Task
from mlsys.statistics import TrainStatistics, encode_target
from mlsys.statistics.arrays import numbers_of
from mlsys.statistics.hashing import hash_exactly
from mlsys.train import shares
from mlsys.train.shares import StreamedBlocks

Target = TargetTransform | ClassBalance | None
"""What the target goes through for the fit: another scale of a number, or a balance of classes."""

BOTH = ("train", "validation")
"""Parts that the final model is fitted on; the first alone until the other has chosen rounds and threshold."""

MOST_ROUNDS = 1.15
"""Rounds of a refit at most, as a multiple of those that validation rows chose: the curve is flat near its best."""

MAX_SHOWN = 10
"""Columns that a message names."""


def encoding(name: str) -> Encoding:
    """The encoding of a family's features; one that looks at none is given what trees take."""
    own = models.family(name).encoding
    return "codes" if own == "none" else own


def fit_program(schema: Schema, statistics: TrainStatistics, recipe: Recipe, name: str) -> TrainingProgram:
    """Fit the features that a family takes on `statistics`, with the directions that the recipe asks for.

    Raises
    ------
    FeatureError
        No column is of use, or the family looks at pictures and there is none.
    """
    chosen = plan.choose(schema, statistics.whole(), recipe.features, encoding(name), recipe.data.timezone)
    check_pictures(chosen, name)
    fitted = training.fit(chosen, statistics)
    return replace(fitted, signs=directions.signs(fitted.program, recipe.train.monotone))


def check_pictures(chosen: FeaturePlan, name: str) -> None:
    """Refuse a plan without pixels for a family that looks at nothing else.

    Raises
    ------
    FeatureError
        No column becomes pixels; the message says what became of the columns.
    """
    if chosen.encoding != "pixels" or any(choice.operation == "pixels" for choice in chosen.used):
        return
    columns = [f"{choice.column}: {choice.operation}" for choice in chosen.choices]
    more = [f"{len(columns) - MAX_SHOWN:,} more"] if len(columns) > MAX_SHOWN else []
    got = f"no column of pictures in use ({'; '.join([*columns[:MAX_SHOWN], *more])})"
    hint = f"leave {name} out, or say which column holds PNG or JPEG bytes: data.kinds: {{column: image}}"
    where = f"models: family '{name}'"
    raise errors.FeatureError.build(where, got=got, expected="at least one picture a row", hint=hint)


def columns(fitted: TrainingProgram, schema: Schema, task: Task) -> list[str]:
    """Name the columns to read: the program's, the target, and those by which samples and hold-outs are drawn."""
    context = [name for name in (schema.name_of(Role.TIME), schema.name_of(Role.GROUP)) if name]
    return list(dict.fromkeys([*fitted.columns, task.target, *task.beside, ROW, *context]))


def matrix(table: pa.Table, fitted: TrainingProgram, task: Task) -> Matrix:
    """Make features and target of a table, whose rows carry the number of their fold.

    Raises
    ------
    TargetError
        A row has no target; collection puts such rows into a part of their own.
    """
    return _matrix(table, fitted.transform(table), fitted, task)


def _matrix(table: pa.Table, X: NDArray[np.float32], fitted: TrainingProgram, task: Task) -> Matrix:
    """Put features beside the target of their rows, their weights, their exposure and their groups."""
    y, names, types = _target(table[task.target], task), fitted.program.names, fitted.program.types
    weight, exposure = (None if name is None else numbers_of(table[name]) for name in (task.weight, task.exposure))
    groups = None if task.group is None else hash_exactly(table[task.group])
    return Matrix(X, y, tuple(names), tuple(types), weight, exposure, fitted.signs, groups)


def read(split: Split, part: str, fitted: TrainingProgram, task: Task) -> Matrix:
    """Read all rows of a part as a matrix; their columns are never in memory all at once."""
    table = split.table(part, [task.target, *task.beside])
    X = executors.transform_files(split.paths(part), fitted.columns, fitted.transform, fitted.program.width)
    return _matrix(table, X, fitted, task)


def read_share(split: Split, part: str, fitted: TrainingProgram, task: Task, rank: int, workers: int) -> Matrix:
    """Read the rows of a part that one of some workers fits on."""
    return read_blocks(shares.share(split.paths(part), fitted.program.width, rank, workers), fitted, task)


def read_blocks(blocks: Sequence[FileRows], fitted: TrainingProgram, task: Task) -> Matrix:
    """Read blocks of rows of the stored files as a matrix."""
    table = pa.table({name: shares.column(blocks, name) for name in dict.fromkeys([task.target, *task.beside])})
    X = executors.transform_rows(blocks, fitted.columns, fitted.transform, fitted.program.width)
    return _matrix(table, X, fitted, task)


def _target(values: pa.ChunkedArray, task: Task) -> NDArray[np.float64]:
    encoded = labels.numbers(values, task.labels) if task.labels else encode_target(values, task)
    y = np.asarray(encoded, dtype=np.float64)
    absent = ~(y >= 0) if task.is_classification else ~np.isfinite(y)
    if absent.any():
        got = f"{values[int(absent.argmax())].as_py()!r} in {absent.sum()} rows"
        expected = f"one of {', '.join(map(repr, task.classes))}" if task.classes else "a finite number"
        hint = "run `mlsys collect` again: it puts rows without a label into a part of their own"
        raise errors.TargetError.build(f"train: target '{task.target}'", got=got, expected=expected, hint=hint)
    return y


@dataclass(frozen=True)
class TrainingJob:
    """A family with its parameters, fitted features, and where the rows are; `parts` are those that are fitted on."""

    split: Split
    features: TrainingProgram
    recipe: Recipe
    task: Task
    family: str
    params: FamilyParams
    target: Target = None
    parts: tuple[str, ...] = ("train",)
    device: Device = "cpu"

    @property
    def columns(self) -> list[str]:
        return columns(self.features, self.split.schema, self.task)

    def matrix(self, table: pa.Table) -> Matrix:
        return matrix(table, self.features, self.task)

    def read(self, part: str) -> Matrix:
        """Read all rows of a part, in this process."""
        return read(self.split, part, self.features, self.task)

    def share(self, part: str, rank: int, workers: int) -> Matrix:
        """Read the share of worker `rank` in the rows of a part, in this process."""
        return read_share(self.split, part, self.features, self.task, rank, workers)

    def streamed(self, parts: Sequence[str], share: float = 1.0) -> StreamedBlocks:
        """All rows of some parts, with the target as it is fitted, read block by block each time they are needed.

        With a `share` below 1, of each block a random sample, the same each time.
        """
        paths = [path for part in parts for path in self.split.paths(part)]
        blocks = file_rows(paths, self.features.program.width)
        numbers = {block: number for number, block in enumerate(blocks)}

        def read(each: Sequence[FileRows]) -> Matrix:
            rows = read_blocks(each, self.features, self.task)
            if share < 1.0:
                drawn = np.random.default_rng([self.recipe.seed, numbers[each[0]]]).random(rows.num_rows)
                rows = rows.take(drawn < share)
            return self.counted(rows)

        return StreamedBlocks(blocks, read)

    def as_stored(self, part: str) -> StreamedBlocks:
        """All rows of a part, with the target on its own scale, read block by block as in `streamed`."""
        blocks = file_rows(self.split.paths(part), self.features.program.width)
        return StreamedBlocks(blocks, lambda each: read_blocks(each, self.features, self.task))

    def first_block(self) -> Matrix:
        """The first block of training rows, with the target on its own scale."""
        rows: Matrix = self.as_stored("train")[0]
        return rows

    def fit(self, train: Matrix, validation: Matrix, threads: int) -> Any:
        """Fit in this process; without validation rows nothing stops the boosting."""
        stopping = counted(validation, self.task, self.target) if validation.num_rows else None
        how: dict[str, Any] = {"seed": self.recipe.seed, "threads": threads}
        model = self.learner.fit(self.as_fitted(train), stopping, self.task, self.params, **how)
        return self.on_scale(model, validation if validation.num_rows else train)

    def refit(self, model: Any, train: Matrix, validation: Matrix, threads: int) -> Any:
        """Fit once more, on training and validation rows, with as many rounds as the validation rows said of `model`.

        The scale of the target and its smearing are kept. Where there is no refit the model comes back as it is.
        """
        params = self.params_of_refit(model)
        if params is None:
            return model
        how: dict[str, Any] = {"seed": self.recipe.seed, "threads": threads}
        blocks, chosen = [counted(each, self.task, self.target) for each in (train, validation)], self.learner
        blocks = [block for block in blocks if block.num_rows]
        if isinstance(chosen, DistributedFamily):
            again = chosen.fit_blocks(blocks, None, self.task, params, **how)
        else:
            again = chosen.fit(joined(blocks), None, self.task, params, **how)
        return scaled_as_before(model, again, self.target)

    def params_of_refit(self, model: Any) -> FamilyParams | None:
        """The parameters of a refit: rounds grow with the rows, by `MOST_ROUNDS` at most.

        None where the recipe wants no refit, there are no validation rows, or the family cannot be told its rounds.
        """
        if not self.is_refitted:
            return None
        return self.learner.params_of_refit(self.params, models.bare(model), self.growth)

    @property
    def learner(self) -> Family[Any, Any]:
        """The family on its device, as it is fitted to the task."""
        return models.learner(self.family, self.task, self.device)

    @property
    def is_refitted(self) -> bool:
        """True if the final fit is on validation rows, too."""
        return bool(self.split.num_rows.get("validation", 0)) and self.recipe.train.refit

    @property
    def growth(self) -> float:
        """Rounds of a refit as a multiple of those of the fit before."""
        return growth(self.split.num_rows)

    def counted(self, rows: Matrix) -> Matrix:
        """The same of a part of the rows, none of which may count."""
        return counted(rows, self.task, self.target)

    def as_fitted(self, rows: Matrix) -> Matrix:
        """Rows that count, with the target on the scale on which it is fitted."""
        return as_fitted(rows, self.task, self.target)

    def on_scale(self, model: Any, held_out: Matrix) -> Any:
        """The model with predictions on the target's own scale, as `scaled_back`."""
        return scaled_back(self.family, model, self.target, held_out, self.recipe.selection.metric)


def growth(num_rows: Mapping[str, int]) -> float:
    """The multiple of its rounds that a fit on training and validation rows grows: with the rows, to `MOST_ROUNDS`."""
    return min(1 + num_rows.get("validation", 0) / max(1, num_rows["train"]), MOST_ROUNDS)


def counted(rows: Matrix, task: Task, target: Target) -> Matrix:
    """Rows that count, with classes balanced, and the target a unit of exposure and on its scale; maybe none."""
    own = rows.as_counted(None if task.loss is None else task.loss.power)
    return own if target is None else target.matrix(own)


def as_fitted(rows: Matrix, task: Task, target: Target) -> Matrix:
    """Rows to fit on: those that count, as `counted`.

    Raises
    ------
    TargetError
        No row counts.
    """
    own = counted(rows, task, target)
    if rows.num_rows and not own.num_rows:
        where, got = f"train: weights '{task.weight}'", f"0 in all {rows.num_rows:,} rows to fit on"
        raise errors.TargetError.build(where, got=got, expected="rows that count", hint="divide the rows otherwise")
    return own


def params_of(recipe: Recipe, family: str, values: Mapping[str, Any] | None = None) -> FamilyParams:
    """Parameters of a family: its defaults, over them those of the recipe, over them `values`.

    ``train.params`` count for the family that the recipe names; with ``auto`` a caller that
    knows the family passes them as `values`.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.
    """
    known = models.family(family).params.model_fields
    shared = {name: getattr(recipe.train, name) for name in ("rounds", "early_stopping") if name in known}
    losses = typing.get_args(known["loss"].annotation) if "loss" in known else ()
    if "poisson" in losses and recipe.train.target_transform == "log_link":
        shared["loss"] = "poisson"
    elif losses and not recipe.train.monotone:  # of which boosters keep a direction with squares alone
        shared["loss"] = _loss(recipe.selection.metric, losses)
    own = recipe.train.params if recipe.train.family == family else {}
    return models.params_of(family, {**shared, **own, **(values or {})})


def _loss(metric: str, known: tuple[str, ...]) -> str:
    """The loss that fits a metric, of those that a family knows; squared for ``auto``, whatever the task."""
    loss = metrics.LOSSES[functional(metric)]
    return loss if loss in known else "squared"


def demands(recipe: Recipe) -> dict[str, bool]:
    """The demands of a recipe on a family beside the task, as `Family.lacks` takes them."""
    weighted = {"is_weighted": True} if recipe.train.balance == "weights" else {}
    return {"is_monotone": bool(recipe.train.monotone), **weighted}


def _balancing(recipe: Recipe, task: Task) -> Balancing | None:
    """The balance of classes that the recipe names; None with ``auto``, which selection decides."""
    wish = recipe.train.balance
    if wish == "none":
        return None
    if not task.is_classification:
        raise errors.RecipeError.build(
            "recipe: train.balance",
            got=f"{Balancing(wish['sample']) if isinstance(wish, dict) else wish} for a {task.kind.value} task",
            expected="none: a number has no classes",
            hint="leave it out, or set task: binary",
        )
    if isinstance(wish, dict):
        return Balancing(wish["sample"])
    return Balancing() if wish == "weights" else None


def target_kind(recipe: Recipe, task: Task) -> target_transform.Transform | Balancing:
    """The transform of the target, or balance of its classes, that the recipe names; none with ``auto``.

    Raises
    ------
    RecipeError
        A transform of classes, a balance of numbers, or a transform beside a loss of the target as it is.
    """
    balancing = _balancing(recipe, task)
    kind = recipe.train.target_transform
    if kind not in ("auto", "none") and task.loss is not None:
        raise errors.RecipeError.build(
            "recipe: train.target_transform",
            got=f"{kind} with loss: {task.loss}",
            expected="none: the loss is one of the target as it is",
            hint="leave one of them out",
        )
    if kind not in ("auto", "none") and (task.is_classification or task.is_ranking):
        raise errors.RecipeError.build(
            "recipe: train.target_transform",
            got=f"{kind} for a {task.kind.value} task",
            expected=f"none: a {'grade' if task.is_ranking else 'class'} has no scale",
            hint="leave it out, or set task: regression",
        )
    if kind == "difference" and task.forecast is None:
        got, expected = "difference for rows without a naive forecast", "a recipe with the section forecast"
        hint = "leave it out"
        raise errors.RecipeError.build("recipe: train.target_transform", got=got, expected=expected, hint=hint)
    return balancing or ("none" if kind == "auto" else kind)


def naive_place(names: Sequence[str], task: Task, family: str) -> int | None:
    """The place of the naive forecast among the features of a family that takes numbers as they are, if it is there."""
    if task.forecast is None or encoding(family) != "codes" or task.forecast.naive not in names:
        return None
    return list(names).index(task.forecast.naive)


def fit_target(split: Split, recipe: Recipe, task: Task, place: int | None = None) -> Target:
    """Fit the recipe's transform of the target, or balance of its classes, to all training rows.

    `place` is that of the naive forecast among the features.
    """
    kind = target_kind(recipe, task)
    if kind == "none":
        return None
    names = [task.target, *([] if task.weight is None else [task.weight])]
    rows = split.table("train", names)
    weight = None if task.weight is None else numbers_of(rows[task.weight])
    return scale_of(kind, _target(rows[task.target], task), weight, task, recipe.selection.metric, recipe.seed, place)


def scale_of(
    kind: target_transform.Transform | Balancing,
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    task: Task,
    metric: str,
    seed: int,
    place: int | None = None,
) -> Target:
    """Fit a transform of the target, or a balance of its classes, to the rows to fit on."""
    if isinstance(kind, Balancing):
        return class_balance.fit(kind, y, weight, len(task.classes), seed)
    return target_transform.fit(kind, y, functional(metric), place)


def functional(metric: str) -> str:
    """The functional that a metric asks a model to predict; the mean for ``auto``."""
    return metrics.METRICS[metric].functional if metric in metrics.METRICS else "mean"


def scaled_as_before(model: Any, again: Any, target: Target) -> Any:
    """A model that was fitted `again`, with the scale of its target or the correction of its classes as before."""
    if isinstance(target, ClassBalance):
        return _corrected(again, target)
    return replace(model, model=again) if isinstance(model, Transformed) else again


def _corrected(model: Any, balance: ClassBalance) -> Any:
    """A model whose probabilities are the true ones; of a mean those of each member, as the search averages them."""
    if isinstance(model, Ensemble):
        return replace(model, members=tuple(_corrected(member, balance) for member in model.members))
    return Corrected(model, balance.correction)


def scaled_back(family: str, model: Any, target: Target, held_out: Matrix, metric: str) -> Any:
    """A model with true probabilities, or predictions on the target's own scale.

    Those are means where the metric asks for means, else medians.
    """
    if target is None:
        return model
    if isinstance(target, ClassBalance):
        return _corrected(model, target)
    made = Transformed(model, target)
    if functional(metric) != "mean":
        return made
    return made.smeared(held_out.y, models.family(family).predict(model, held_out.X))
