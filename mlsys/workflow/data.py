"""Steps 1 to 3: from a source to rows that can be trained on."""

from __future__ import annotations

import datetime as dt
from typing import Any

from mlsys.reports.formats import count
from mlsys.store import write_json
from mlsys.workflow.run import Record, Run

__all__ = ["collect", "explore", "features"]


MAX_LINES = 10
"""Lines that a collection takes on the console beside its own: a table may have 10,000 empty columns."""


def collect(run: Run) -> None:
    """1: the source's rows, checked, joined as of their time, and divided into parts."""
    from mlsys.collect import contract, history
    from mlsys.readers import registry

    recipe = run.recipe
    rules = contract.load(recipe.data.contract) if recipe.data.contract else None
    joins = {name: join.model_dump(mode="json") for name, join in recipe.features.joins.items()}
    inputs = {
        "data": recipe.data.model_dump(mode="json"),
        "contract": rules and rules.model_dump(mode="json"),
        "joins": joins,
        "split": recipe.split.model_dump(mode="json"),
        "target": [recipe.target, str(recipe.task), recipe.positive],
        "sources": [
            registry.fingerprint(source, reading)
            for source, reading in [
                (recipe.data.source, recipe.data.reading),
                *((join.source, join.reading) for join in recipe.features.joins.values()),
            ]
        ],
    }
    run.step("collect", inputs, f"{__name__}:_collect", lambda: _collect(run))
    record = run.records["collect"]
    for line in record["told"]:
        run.console.line(f"            {line}")
    # A source that stands still is no new step, and the later it gets the staler it is.
    history.check_age(record["taken"]["newest"], recipe.data, dt.datetime.now(dt.UTC))


def told(report: dict[str, Any], name: str = "") -> list[str]:
    """What a person should know of a collection, a line each; `name` is that of a feature table."""
    lines = [*report["notes"], *report["warnings"]]
    if name and report["num_quarantined"]:
        lines.append(f"{report['num_quarantined']:,} of {report['num_read']:,} rows in quarantine")
    more = len(lines) - MAX_LINES
    shown = [*lines[:MAX_LINES], *([f"and {more:,} more of this kind"] if more > 0 else [])]
    return [f"{name}: {line}" if name else line for line in shown]


def _collect(run: Run) -> Record:
    from mlsys.collect import snapshot, split, task
    from mlsys.features.joins import assembly

    recipe, store = run.recipe, run.store
    run.console.progress("reading")
    taken = snapshot.take(
        store,
        recipe.data,
        target=recipe.target,
        folder=run.folder,
        split_column=recipe.split.column,
        task=recipe.task,
    )
    others = {
        name: snapshot.take_table(
            store,
            name,
            join,
            timezone=recipe.data.timezone,
            folder=run.folder / name,
            evolution=recipe.data.evolution,
            max_bad_fraction=recipe.data.max_bad_fraction,
        )
        for name, join in recipe.features.joins.items()
    }
    tables = {name: (join, others[name].snapshot) for name, join in recipe.features.joins.items()}
    whole, joined = taken.snapshot, {}
    if tables:
        done = assembly.assemble(store, whole, tables, run.console.progress)
        whole, joined = done.snapshot, done.report
    what = task.decide(whole, recipe)
    run.console.progress("dividing")
    parts = split.divide(store, whole, recipe, what)
    return {
        "snapshot": whole.digest,
        "split": parts.digest,
        "task": what.model_dump(mode="json"),
        "num_rows": parts.num_rows,
        "taken": taken.report,
        "told": [*told(taken.report), *(line for name, table in others.items() for line in told(table.report, name))],
        "joined": joined,
        "tables": {name: table.digest for name, (_, table) in tables.items()},
        "objects": [
            ("snapshot", whole.digest),
            ("split", parts.digest),
            *(("snapshot", table.digest) for _, table in tables.values()),
        ],
        "summary": _collected(whole.num_rows, len(whole.schema), parts.num_rows, taken.report) + _matched(joined),
    }


def _collected(num_rows: int, num_columns: int, parts: dict[str, int], report: dict[str, Any]) -> str:
    shares = ", ".join(f"{part} {rows:,}" for part, rows in parts.items() if rows)
    return f"{num_rows:,} rows × {num_columns} columns, {report['num_quarantined']:,} in quarantine: {shares}"


def _matched(joined: dict[str, Any]) -> str:
    """What part of the rows each feature table had a value for."""
    counts = joined.get("joins", {})
    shares = {name: found["matched"] / max(1, _asked(found)) for name, found in counts.items()}
    return "".join(f"; {name} known for {share:.1%}" for name, share in shares.items())


def _asked(found: dict[str, int]) -> int:
    return found["matched"] + found["missing"] + found["too_old"]


def explore(run: Run) -> None:
    """2: one pass over the training rows: statistics by fold, alerts, leakage scan, report."""
    inputs = {
        "split": run.split.digest,
        "explore": run.recipe.explore.model_dump(mode="json"),
        "derive": run.recipe.features.derive,
    }
    run.step("explore", inputs, f"{__name__}:_explore", lambda: _explore(run))


def _explore(run: Run) -> Record:
    from mlsys import explore as step
    from mlsys.explore import leakage
    from mlsys.explore import report as explore_report
    from mlsys.features import derive

    recipe, split, task = run.recipe, run.split, run.task
    seen = step.profile(
        split.only("train"),
        task,
        schema=derive.extend(split.schema, recipe.features.derive),
        derive=recipe.features.derive,
        progress=run.console.progress,
    )
    run.console.progress("leakage scan")
    settings = recipe.explore
    findings = leakage.scan(split, task, seen, settings.allow, settings.max_duplicate_fraction)
    run.console.progress("report")
    profile = step.describe(split, task, seen, findings, title=recipe.name)
    report = run.report("explore", explore_report.page(profile))
    write_json(run.folder / "reports" / "explore.json", profile)
    digest = run.store.put_json("profile", seen.statistics.to_json())
    leakage.enforce(findings)
    return {
        "statistics": digest,
        "report": report,
        "objects": [("profile", digest)],
        "summary": f"{count(seen.whole.num_rows, 'training row')}, {count(len(profile['columns']), 'column')}: "
        f"{count(len(profile['alerts']), 'alert')}, {count(len(findings), 'leakage finding')}",
    }


def features(run: Run) -> None:
    """3: the plan of features for each encoding, with a reason for each choice; fitted on training rows."""
    from mlsys.features.operations import encoders

    inputs = {
        "statistics": run.records["explore"]["statistics"],
        "features": run.recipe.features.model_dump(mode="json", exclude={"joins"}),
        "encoders": encoders.encoder_digests(run.recipe.features),
        "timezone": run.recipe.data.timezone,
    }
    run.step("features", inputs, f"{__name__}:_features", lambda: _features(run))


def _features(run: Run) -> Record:
    from mlsys.features import plan, program
    from mlsys.features import report as features_report

    recipe, whole = run.recipe, run.statistics.whole()
    encodings: tuple[plan.Encoding, ...] = ("codes", "dense")
    plans = {e: plan.choose(run.split.schema, whole, recipe.features, e, recipe.data.timezone) for e in encodings}
    programs = {e: program.fit(chosen, whole) for e, chosen in plans.items()}
    told = {e: chosen.to_json() for e, chosen in plans.items()}
    digest = run.store.put_json("plan", told)
    report = run.report("features", features_report.page(plans, programs, recipe.name))
    write_json(run.folder / "reports" / "features.json", told)
    codes = plans["codes"]
    used = list(dict.fromkeys(choice.column for choice in codes.used))
    return {
        "plan": digest,
        "report": report,
        "used": used,
        "dropped": {choice.column: choice.reason for choice in codes.dropped},
        "objects": [("plan", digest)],
        "summary": f"{count(len(used), 'column')} in use, {len(codes.dropped)} dropped → "
        f"{count(programs['codes'].width, 'feature')} for trees, {programs['dense'].width} for linear models; "
        f"fitted on {whole.num_rows:,} training rows",
    }
