"""The features of a program as lines of a script, one operation after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlsys.features.operations.categorical import Boolean, Codes, Frequency, Keys, OneHot
from mlsys.features.operations.datetimes import CYCLES, Datetime, Elapsed, Trend
from mlsys.features.operations.numeric import Numeric, QuantileBins
from mlsys.features.operations.operation import Operation, Scaling
from mlsys.features.operations.target import Target
from mlsys.features.program import FeatureProgram
from mlsys.features.training import TrainingProgram
from mlsys.script import source_lines as text

MAX_INLINE, MAX_NAME = 40, 40
"""Learned values of a column that stand in the script, and characters of a name that stands in a call; more values lie
in the file beside the script."""


@dataclass
class FeatureLines:
    """The lines of the function of features, and what they need.

    Attributes
    ----------
    learned
        Values for the file beside the script.
    means
        Fold → column → means of the target; fold "" is for rows outside of the folds.
    called
        Functions of `mlsys.script.blocks` that are called.
    imports
        Lines that import a function of mlsys, each with its reason as a comment before it.
    number
        Of the operation that is written.
    """

    lines: list[str] = field(default_factory=list)
    learned: dict[str, Any] = field(default_factory=dict)
    means: dict[str, dict[str, Any]] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    imports: list[str] = field(default_factory=list)
    number: int = 0


def written(training: TrainingProgram) -> FeatureLines:
    """Write the program of all folds, and the means of the target that rows of each fold get."""
    made, start = FeatureLines(), 0
    _write_derived(made, training.program)
    for number, operation in enumerate(training.program.operations):
        width = len(operation.outputs)
        title = f"{operation.column}: {operation.name}"
        made.lines.append(f"    # {' '.join(title.split())}")
        made.number = number
        WRITERS.get(type(operation), _write_from_mlsys)(made, operation, start)
        start += width
    for fold, program in {"": training.program, **{str(k): each for k, each in training.held_out.items()}}.items():
        made.means[fold] = {
            _key(number, operation): _learned_means(operation)
            for number, operation in enumerate(program.operations)
            if isinstance(operation, Target)
        }
    return made


def _write_derived(made: FeatureLines, program: FeatureProgram) -> None:
    if not program.derive:
        return
    made.imports += [
        "# Derived columns are SQL, which mlsys has Polars evaluate row by row, with its rules of types.",
        "from mlsys.features.derive import add",
    ]
    made.lines.append("    # derived columns")
    made.lines += text.assigned("derived", program.derive, 1)
    made.lines.append("    rows = pl.DataFrame(pl.from_arrow(add(rows.to_arrow(), derived)))")


def _constant(made: FeatureLines, name: str, values: Any) -> str:
    """Source of learned values: a name, after a line that sets it where they stand in the script."""
    if len(values) > MAX_INLINE or any(isinstance(each, str) and len(each) > text.WIDTH // 2 for each in values):
        made.learned[f"{name} {made.number}"] = list(values)
        return f"LEARNED[{text.inline(f'{name} {made.number}')}]"
    made.lines += text.assigned(name, list(values), 1)
    return name


def _at(start: int, width: int) -> str:
    return f"X[:, {start}]" if width == 1 else f"X[:, {start}:{start + width}]"


def _column(made: FeatureLines, name: str, variable: str = "column") -> str:
    """Source of the name of a column: a variable, after a line that sets it, where it is long."""
    if len(name) <= MAX_NAME:
        return text.inline(name)
    made.lines.append(f"    {variable} = {text.inline(name)}")
    return variable


def _scaled(made: FeatureLines, target: str, values: str, scaling: Scaling) -> list[str]:
    """Lines that put scaled values somewhere."""
    given = {"center": scaling.center, "scale": scaling.scale, "fill": scaling.fill, "log": scaling.log}
    usual = {"center": 0.0, "scale": 1.0, "fill": None, "log": False}
    named = [f"{name}={text.inline(value)}" for name, value in given.items() if value != usual[name]]
    if not named:
        return [f"    {target} = {values}"]
    made.called.add("scaled")
    return text.called(f"{target} = scaled(", [values, *named])


def _put_scaled(made: FeatureLines, values: str, scaling: Scaling, start: int) -> None:
    """Put scaled values into a feature, and where they are missing into the next one."""
    if not scaling.indicator:
        made.lines += _scaled(made, _at(start, 1), values, scaling)
        return
    made.lines.append(f"    x = {values}")
    made.lines += _scaled(made, _at(start, 1), "x", scaling)
    made.lines.append(f"    {_at(start + 1, 1)} = np.isnan(x)")


def _write_numeric(made: FeatureLines, operation: Numeric, start: int) -> None:
    made.called.add("number")
    _put_scaled(made, f"number(rows, {_column(made, operation.column)})", operation.scaling, start)


def _write_bins(made: FeatureLines, operation: QuantileBins, start: int) -> None:
    made.called |= {"number", "binned"}
    edges = _constant(made, "edges", operation.edges)
    column = _column(made, operation.column)
    made.lines.append(f"    place = binned(number(rows, {column}), {edges})")
    _put_codes(made, len(operation.edges) + 1, start, len(operation.outputs), onehot=operation.onehot)


def _put_codes(made: FeatureLines, codes: int, start: int, width: int, *, onehot: bool) -> None:
    """Put places into features: their numbers, or a column for each."""
    if onehot:
        made.lines.append(f"    {_at(start, width)} = np.eye({codes + 1}, {width})[place]")
        return
    made.called.add("coded")
    made.lines.append(f"    {_at(start, 1)} = coded(place, {codes})")


def _write_places(made: FeatureLines, operation: Any) -> None:
    made.called |= {"position", "number"}
    categories = _constant(made, "categories", operation.categories)
    column = _column(made, operation.column)
    made.lines.append(f"    place = position(rows, {column}, {categories})")


def _write_codes(made: FeatureLines, operation: Codes, start: int) -> None:
    _write_places(made, operation)
    _put_codes(made, len(operation.categories) + 1, start, 1, onehot=False)


def _write_onehot(made: FeatureLines, operation: OneHot, start: int) -> None:
    _write_places(made, operation)
    _put_codes(made, len(operation.categories) + 1, start, len(operation.outputs), onehot=True)


def _write_frequency(made: FeatureLines, operation: Frequency, start: int) -> None:
    _write_places(made, operation)
    counts = _constant(made, "counts", (0, *operation.counts))
    shares = f"np.append(np.array({counts}) / {operation.total}, np.nan)[place]"
    _put_scaled(made, shares, operation.scaling, start)


def _write_boolean(made: FeatureLines, operation: Boolean, start: int) -> None:
    values = f"rows[{_column(made, operation.column)}].cast(pl.Float64).to_numpy()"
    _put_scaled(made, values, operation.scaling, start)


def _write_target(made: FeatureLines, operation: Target, start: int) -> None:
    made.called.add("target_mean")
    key, column = _column(made, _key(made.number, operation), "key"), _column(made, operation.column)
    width = len(operation.outputs)
    first = "" if width > 1 else "[:, 0]"
    made.lines.append(f"    {_at(start, width)} = target_mean(rows, {column}, means[{key}]){first}")


def _key(number: int, operation: Operation) -> str:
    """Key of the means of a column, which may have several."""
    return f"{operation.column} {number}"


def _learned_means(operation: Target) -> dict[str, Any]:
    return {
        "categories": list(operation.categories),
        "means": [list(each) for each in operation.means],
        "center": list(operation.center),
        "scale": list(operation.scale),
    }


def _clock(made: FeatureLines, domain: Any, column: str) -> str:
    """Source of the microseconds of a time."""
    made.called.add("clock")
    zone = f", {text.inline(domain.zone)}" if domain.name == "instant" else ""
    return f"clock(rows, {_column(made, column)}{zone})"


def _write_datetime(made: FeatureLines, operation: Datetime, start: int) -> None:
    made.called |= {"cycle", "circle" if operation.cyclic else "cycle_number"}
    time = _clock(made, operation.domain, operation.column)
    made.lines.append(f"    time = {time}")
    for part in operation.parts:
        made.lines.append(f"    place, length = cycle(time, {text.inline(part)})")
        if operation.cyclic:
            made.lines.append(f"    {_at(start, 2)} = circle(place, length)")
        else:
            made.lines.append(f"    {_at(start, 1)} = cycle_number(place, length, {CYCLES[part].unit})")
        start += 2 if operation.cyclic else 1
    if operation.indicator:
        made.lines.append(f"    {_at(start, 1)} = time.is_null().to_numpy()")


def _write_elapsed(made: FeatureLines, operation: Elapsed, start: int) -> None:
    made.called.add("days")
    end = _clock(made, operation.domain, operation.column)
    made.lines.append(f"    end = {end}")
    begin = _clock(made, operation.since_domain, operation.since)
    made.lines.append(f"    begin = {begin}")
    _put_scaled(made, "days(end - begin)", operation.scaling, start)


def _write_trend(made: FeatureLines, operation: Trend, start: int) -> None:
    made.called.add("days")
    time = _clock(made, operation.domain, operation.column)
    _put_scaled(made, f"days({time} - {operation.origin})", operation.scaling, start)


def _write_from_mlsys(made: FeatureLines, operation: Operation, start: int) -> None:
    """Use the operation of mlsys, for what takes more than a few lines."""
    line = "from mlsys.features.operations.operation_registry import read_operation"
    if line not in made.imports:
        made.imports += [
            "# Texts, pictures, lists and hashes take more arithmetic than fits a script: mlsys has it.",
            line,
        ]
    made.learned[f"operation {made.number}"] = operation.to_json()
    made.lines += [
        f"    operation = read_operation(LEARNED[{text.inline(f'operation {made.number}')}])",
        "    read = rows.select(expr.alias(str(k)) for k, expr in enumerate(operation.raw()))",
        f"    operation.fill(read.get_columns(), X[:, {start}:{start + len(operation.outputs)}])",
    ]


WRITERS: dict[type[Operation], Callable[[FeatureLines, Any, int], None]] = {
    Numeric: _write_numeric,
    QuantileBins: _write_bins,
    Codes: _write_codes,
    Keys: _write_codes,
    OneHot: _write_onehot,
    Frequency: _write_frequency,
    Boolean: _write_boolean,
    Target: _write_target,
    Datetime: _write_datetime,
    Elapsed: _write_elapsed,
    Trend: _write_trend,
}
"""How an operation is written; those that are not here are taken from mlsys."""
