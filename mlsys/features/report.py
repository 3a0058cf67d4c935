"""The report of the feature plans: what each column becomes, why, and the line of the recipe that states it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mlsys.features.operations.operation import Encoding, Operation, OperationChoice
from mlsys.features.plan import FeaturePlan
from mlsys.features.program import FeatureProgram
from mlsys.recipe.columns import options_of
from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html, Page, tag

FOR: Mapping[Encoding, str] = {
    "codes": "For trees",
    "dense": "For linear and kernel models",
    "pixels": "For convolutions",
}

NOTE = "Fitted on the training rows alone. The recipe's word is last: a line under features.columns replaces a choice."


def page(plans: Mapping[Encoding, FeaturePlan], programs: Mapping[Encoding, FeatureProgram], title: str) -> str:
    """Draw the report as HTML, from the plan and the fitted program of each encoding."""
    whole = plans["codes"]
    used = formats.count(len({choice.column for choice in whole.used}), "column")
    report = Page(f"Features: {title}", f"{used} in use, {len(whole.dropped):,} dropped")
    for encoding, plan in plans.items():
        operations = programs[encoding].operations
        size = formats.count(programs[encoding].width, "feature")
        report.section(FOR[encoding], _table(plan, operations), note=f"{size}. {NOTE}")
    if whole.derive:
        rows = [[html.code(name), html.code(sql)] for name, sql in whole.derive.items()]
        report.section("Derived columns", html.table(rows, ["column", "SQL"], align="lw"))
    written = "".join(f"    {line}\n" for line in lines(whole))
    recipe = tag("pre", f"features:\n  columns:\n{written}", tabindex="0")
    report.section("As lines of the recipe", recipe, note="What trees get; a change of a line overrides it.")
    return report.html()


def _table(plan: FeaturePlan, operations: tuple[Operation, ...]) -> Html:
    fitted = dict(zip(map(id, plan.used), operations, strict=True))
    rows = [_row(choice, fitted.get(id(choice))) for choice in plan.choices]
    return html.table(rows, ["column", "operation", "options", "features", "why"], align="lllrw", sortable=True)


def _row(choice: OperationChoice, operation: Operation | None) -> list[object]:
    named = html.badge("warn", "dropped") if operation is None else html.code(choice.operation)
    options = ", ".join(f"{name} {_option(value)}" for name, value in choice.params.items())
    return [html.code(choice.column), named, options, 0 if operation is None else len(operation.outputs), choice.reason]


def _option(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else formats.label(value)


def lines(plan: FeaturePlan) -> list[str]:
    """Write the choices as lines of YAML under ``features.columns``, a column a line, that give them again.

    >>> choices = (OperationChoice("a", "tfidf", {"components": 64}, ""), OperationChoice("b", "drop", {}, ""))
    >>> lines(FeaturePlan("codes", choices, {}, {}))
    ['a: {operation: tfidf, components: 64}', 'b: drop']
    """
    treatments: dict[str, list[Any]] = {}
    for choice in plan.choices:
        treatments.setdefault(choice.column, []).append(_treatment(choice))
    return [_line(column, listed[0] if len(listed) == 1 else listed) for column, listed in treatments.items()]


def _treatment(choice: OperationChoice) -> Any:
    known = options_of(choice.operation)
    options = {name: value for name, value in choice.params.items() if name in known}
    return {"operation": choice.operation, **options} if options else choice.operation


def _line(column: str, treatment: Any) -> str:
    line = {column: treatment}
    written = yaml.safe_dump(line, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return written.strip()[1:-1]
