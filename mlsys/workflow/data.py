"""Steps 1 to 3: from a source to rows that can be trained on."""

from __future__ import annotations

from typing import Any

from mlsys import cluster
from mlsys.store import write_atomic
from mlsys.workflow.run import Record, Run

__all__ = ["collect", "explore", "features"]


def collect(run: Run) -> None:
    """1: the source's rows, checked, joined as of their time, and divided into parts."""
    from mlsys.collect import sources

    recipe = run.recipe
    joins = {name: join.model_dump(mode="json") for name, join in recipe.features.joins.items()}
    inputs = {
        "data": recipe.data.model_dump(mode="json"),
        "joins": joins,
        "split": recipe.split.model_dump(mode="json"),
        "target": [recipe.target, str(recipe.task), recipe.positive],
        "sources": [
            sources.fingerprint(source, reading)
            for source, reading in [
                (recipe.data.source, recipe.data.reading),
                *((join.source, join.reading) for join in recipe.features.joins.values()),
            ]
        ],
    }
    code = ("mlsys.collect", "mlsys.features.joins", "mlsys.expressions", "mlsys.schema")
    run.step("collect", inputs, code, lambda: _collect(run))


def _collect(run: Run) -> Record:
    from mlsys.collect import snapshot, split, task
    from mlsys.features import joins

    recipe, store = run.recipe, run.store
    run.console.progress("reading")
    taken = snapshot.take(store, recipe.data, target=recipe.target, folder=run.folder)
    tables = {name: (join, snapshot.take_table(store, join)) for name, join in recipe.features.joins.items()}
    whole, counts = taken.snapshot, {}
    if tables:
        run.console.progress("joining")
        whole, counts = joins.assemble(store, whole, tables)
    what = task.decide(whole, recipe)
    run.console.progress("dividing")
    parts = split.divide(store, whole, recipe, what)
    return {
        "snapshot": whole.digest,
        "split": parts.digest,
        "task": what.model_dump(mode="json"),
        "num_rows": parts.num_rows,
        "report": taken.report,
        "joins": counts,
        "objects": [("snapshot", whole.digest), ("split", parts.digest)],
        "summary": _collected(whole.num_rows, len(whole.schema), parts.num_rows, taken.report),
    }


def _collected(num_rows: int, num_columns: int, parts: dict[str, int], report: dict[str, Any]) -> str:
    shares = ", ".join(f"{part} {rows:,}" for part, rows in parts.items() if rows)
    return f"{num_rows:,} rows × {num_columns} columns, {report['num_quarantined']:,} in quarantine: {shares}"


def explore(run: Run) -> None:
    """2: one pass over the training rows: statistics by fold, alerts, leakage scan, report."""
    inputs = {
        "split": run.split.digest,
        "explore": run.recipe.explore.model_dump(mode="json"),
        "derive": run.recipe.features.derive,
    }
    run.step("explore", inputs, ("mlsys.explore", "mlsys.statistics", "mlsys.reports"), lambda: _explore(run))


def _explore(run: Run) -> Record:
    from mlsys import explore as step

    recipe = run.recipe
    statistics = step.profile(run.split.only("train"), run.task, progress=run.console.progress)
    digest = run.store.put_json("profile", statistics.to_json())
    run.console.progress("leakage scan")
    findings = step.leakage.scan(
        run.split, run.task, statistics, recipe.explore.allow, recipe.explore.max_duplicate_fraction
    )
    page = step.render.document(run.split, run.task, statistics, findings)
    report = run.folder / "reports" / "explore.html"
    write_atomic(report, page.encode())
    step.leakage.enforce(findings)
    return {
        "statistics": digest,
        "report": str(report),
        "objects": [("profile", digest)],
        "summary": "",
    }


def features(run: Run) -> None:
    """3: the plan of features for each encoding that a family of the recipe needs."""
    inputs = {
        "statistics": run.records["explore"]["statistics"],
        "features": run.recipe.features.model_dump(mode="json", exclude={"joins"}),
    }
    run.step("features", inputs, ("mlsys.features", "mlsys.expressions"), lambda: _features(run))


def _features(run: Run) -> Record:
    return {"summary": "", "plan": cluster.plan(0, 0).reason}
