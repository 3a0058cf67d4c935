"""Steps 1 to 3: from a source to rows that can be trained on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlsys.dataset import Split
from mlsys.recipe.sections import FilesSection
from mlsys.workflow.results import CollectResult, ExploreResult, FeaturesResult
from mlsys.workflow.run import Run, StepContext

if TYPE_CHECKING:
    from mlsys.collect.forecasting import ForecastPlan
    from mlsys.collect.screening import Screened
    from mlsys.collect.snapshot import Collection
    from mlsys.dataset import Snapshot
    from mlsys.recipe import DataSection, Join, Recipe
    from mlsys.schema import Task

MAX_MESSAGES = 10
"""Messages of a collection that the console shows: a table may have 10,000 empty columns."""


def observe_sources(context: StepContext) -> dict[str, Any]:
    """Fingerprints of the sources as they are now, the rules of the contract, and columns chosen as features."""
    from mlsys.collect import contract
    from mlsys.readers import registry

    recipe = context.recipe
    sources: list[DataSection | Join] = [recipe.data, *recipe.features.joins.values()]
    return {
        "contract": contract.load(recipe.data.contract) if recipe.data.contract else None,
        "sources": [registry.fingerprint(each.source, each.reading, _excluded(each)) for each in sources],
        "named": _named(recipe),
    }


def _named(recipe: Recipe) -> list[str]:
    """Columns of which the recipe itself says that they are used: no screening takes them away."""
    from mlsys import expressions

    derived = [expressions.parse(*each, "recipe: features.derive").inputs for each in recipe.features.derive.items()]
    keys = [name for join in recipe.features.joins.values() for name in join.keys]
    own = [name for name in (recipe.train.weight, recipe.train.exposure) if name is not None]
    return sorted(
        {*recipe.explore.allow, *recipe.features.columns, *keys, *own, *(name for names in derived for name in names)}
    )


def _excluded(source: DataSection | Join) -> tuple[str, ...]:
    return getattr(source, "files", FilesSection()).exclude


def collect(context: StepContext) -> CollectResult:
    """Collect the rows and the feature tables, check and join them, and divide them into parts."""
    from mlsys.collect import forecasting, screening, split, task

    # 1. Read and check the rows and every feature table.
    recipe = forecasting.of_numbers(context.recipe)
    context.progress("reading")
    taken, timezone = _take_rows(context, recipe), recipe.data.timezone
    tables = {name: take_table(context, name, join, timezone) for name, join in recipe.features.joins.items()}
    # 2. Join them as of each row's time.
    joined = _join(context, recipe, taken.snapshot, {name: table.snapshot for name, table in tables.items()})
    # 3. Decide the task, leave out what is known only with the answer, and divide the rows.
    rows = _decide(context, recipe, joined)
    roles = {name: each.role for name, each in rows.screened.items() if each.role is not None}
    context.progress("dividing")
    parts = split.divide(context.store, rows.snapshot, recipe, rows.task, roles)
    decided = rows.task
    if parts.rare_classes:
        decided = task.decide(rows.snapshot, recipe, [label for label, _ in parts.rare_classes])
    return CollectResult(
        snapshot=rows.snapshot.digest,
        split=parts.digest,
        task=decided,
        num_rows=parts.num_rows,
        num_columns=len(rows.snapshot.schema),
        taken=taken.report,
        messages=(
            *screening.messages(rows.screened),
            *messages(taken.report),
            *(line for name, table in tables.items() for line in messages(table.report, name)),
            *(joined.added.messages if joined.added else ()),
            *rows.messages,
            *split.messages(parts, decided.target),
            *task.messages(rows.snapshot, recipe, decided),
        ),
        screened=tuple(
            {"kind": each.kind, "column": name, "detail": each.detail, "action": each.action}
            for name, each in rows.screened.items()
        ),
        joined=joined.report,
        tables=joined.tables,
        forecast=None if joined.added is None else joined.added.to_json(),
    )


def _take_rows(context: StepContext, recipe: Recipe) -> Collection:
    from mlsys.collect import label_columns, snapshot

    target = None if label_columns.is_asked_for(recipe) else str(recipe.target)
    by, folder = recipe.split.column, context.folder
    return snapshot.take(context.store, recipe.data, target=target, folder=folder, split_column=by, task=recipe.task)


@dataclass(frozen=True)
class JoinedRows:
    """Rows with what was joined to them, the report of it, the digests of the tables, and what a forecast adds."""

    snapshot: Snapshot
    report: dict[str, Any]
    tables: dict[str, str]
    added: ForecastPlan | None


def _join(context: StepContext, recipe: Recipe, whole: Snapshot, tables: Mapping[str, Snapshot]) -> JoinedRows:
    """Join the feature tables, and the past of its own target that a forecast takes."""
    from mlsys.collect import forecasting
    from mlsys.features.joins import assembly

    pairs = {name: (join, tables[name]) for name, join in recipe.features.joins.items()}
    added = forecasting.plan(whole, recipe) if recipe.forecast is not None else None
    if added is not None:
        past = forecasting.write_past(context.store, whole, added.joins, recipe.target_column)
        pairs |= {name: (join, past) for name, join in added.joins.items()}
    digests = {name: table.digest for name, (_, table) in pairs.items()}
    if not pairs:
        return JoinedRows(whole, {}, digests, added)
    done = assembly.assemble(context.store, whole, pairs, context.progress)
    return JoinedRows(done.snapshot, done.report, digests, added)


@dataclass(frozen=True)
class DecidedRows:
    """Rows with their task, the columns that the screening names, and messages about label columns."""

    snapshot: Snapshot
    task: Task
    screened: dict[str, Screened]
    messages: tuple[str, ...]


def _decide(context: StepContext, recipe: Recipe, joined: JoinedRows) -> DecidedRows:
    """Decide the task, with label columns combined into one, and screen what nobody has chosen."""
    from mlsys.collect import label_columns, screening, task

    whole = joined.snapshot
    lines: tuple[str, ...] = ()
    if label_columns.is_asked_for(recipe):
        labelled = label_columns.combine(context.store, whole, recipe)
        whole, lines, decided = labelled.snapshot, labelled.messages, label_columns.decide(labelled, recipe)
    else:
        decided = task.decide(whole, recipe)
    named = [*context.observed["named"], *recipe.data.allow_personal]
    if joined.added is not None:
        decided = decided.model_copy(update={"forecast": joined.added.facts})
        named += joined.added.named
    return DecidedRows(whole, decided, screening.screen(whole, decided, named), lines)


def completed(recipe: Recipe, data: CollectResult) -> Recipe:
    """The recipe with the lags, windows and times that its forecast adds, once the rows are known."""
    from mlsys.collect import forecasting

    return forecasting.completed(recipe, data.forecast or {})


def take_table(context: StepContext, name: str, join: Join, timezone: str) -> Collection:
    """Collect a feature table by the rules that the recipe has for its rows."""
    from mlsys.collect import snapshot

    data = context.recipe.data
    return snapshot.take_table(
        context.store,
        name,
        join,
        timezone=timezone,
        folder=context.folder / name,
        evolution=data.evolution,
        max_bad_fraction=data.max_bad_fraction,
    )


def messages(report: dict[str, Any], name: str = "") -> list[str]:
    """Lines about a collection that a person should read; `name` is that of a feature table."""
    lines = [*report["notes"], *report["warnings"]]
    if name and report["num_quarantined"]:
        lines.append(f"{report['num_quarantined']:,} of {report['num_read']:,} rows in quarantine")
    if len(lines) > MAX_MESSAGES:
        lines[MAX_MESSAGES:] = [f"and {len(lines) - MAX_MESSAGES:,} more of this kind"]
    return [f"{name}: {line}" if name else line for line in lines]


def check_collected(run: Run, result: CollectResult) -> None:
    """Print the messages, and stop where the rows are too old: a source that stands still gets staler.

    Raises
    ------
    ContractError
        The newest row is older than ``data.freshness``.
    RecipeError
        The threshold is chosen by a utility that cannot be computed of these rows: no search begins for it.
    """
    from mlsys.collect import history
    from mlsys.evaluate import utility

    for line in result.messages:
        run.console.line(f"            {line}")
    history.check_age(result.taken["newest"], run.recipe.data, dt.datetime.now(dt.UTC))
    utility.check_rule(run.recipe.evaluate, Split.open(run.store, result.split).schema, result.task)


def explore(context: StepContext, data: CollectResult) -> ExploreResult:
    """Profile the training rows in one pass, scan for leakage, and write the report."""
    from mlsys.explore import document, leakage, scan
    from mlsys.explore import report as explore_report
    from mlsys.features import derive

    recipe, split = context.recipe, Split.open(context.store, data.split)
    profile = scan.profile(
        split.only("train"),
        data.task,
        schema=derive.extend(split.schema, recipe.features.derive),
        derive=recipe.features.derive,
        progress=context.progress,
    )
    context.progress("leakage scan")
    settings = recipe.explore
    findings = leakage.scan(
        split, data.task, profile, settings.allow, settings.max_duplicate_fraction, settings.suspects
    )
    context.progress("report")
    described = document.describe(split, data.task, profile, findings, data.screened, title=recipe.name)
    report = context.report("explore", explore_report.page(described), described)
    digest = context.store.put_json("profile", profile.statistics.to_json())
    leakage.enforce(findings)
    return ExploreResult(
        statistics=digest,
        report=report,
        num_rows=profile.whole.num_rows,
        num_columns=len(described["columns"]),
        num_alerts=len(described["alerts"]),
        num_findings=len(findings),
        suspects=tuple(dict.fromkeys(finding.column for finding in findings if finding.column is not None)),
        warnings=leakage.warnings(findings),
    )


def check_explored(run: Run, result: ExploreResult) -> None:
    """Print what is suspected of knowing the answer."""
    for line in result.warnings:
        run.console.line(f"            {line}")


def observe_encoders(context: StepContext, *_: Any) -> dict[str, str]:
    """Digests of the users' files that hold the encoders which the recipe names."""
    from mlsys.features.operations import encoders

    return encoders.encoder_digests(context.recipe.features)


def features(context: StepContext, data: CollectResult, profile: ExploreResult) -> FeaturesResult:
    """Plan the features of each encoding, with a reason for each choice, and fit them on training rows."""
    from mlsys.features import plan, program
    from mlsys.features import report as features_report
    from mlsys.features.operations.operation import Encoding
    from mlsys.statistics import TrainStatistics

    recipe, schema = context.recipe, Split.open(context.store, data.split).schema
    whole = TrainStatistics.from_json(context.store.get_json("profile", profile.statistics)).whole()
    encodings: tuple[Encoding, ...] = ("codes", "dense", "pixels")
    plans = {e: plan.choose(schema, whole, recipe.features, e, recipe.data.timezone) for e in encodings}
    if all(choice.operation != "pixels" for choice in plans["pixels"].used):  # no picture, nothing of its own
        del plans["pixels"]
    programs = {e: program.fit(chosen, whole) for e, chosen in plans.items()}
    values = {e: chosen.to_json() for e, chosen in plans.items()}
    return FeaturesResult(
        plan=context.store.put_json("plan", values),
        report=context.report("features", features_report.page(plans, programs, recipe.name), values),
        used=tuple(dict.fromkeys(choice.column for choice in plans["codes"].used)),
        dropped={choice.column: choice.reason for choice in plans["codes"].dropped},
        num_features={e: fitted.width for e, fitted in programs.items()},
        num_rows=whole.num_rows,
    )
