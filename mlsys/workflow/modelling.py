"""Steps 4 to 7: from training rows to a judged bundle. Only `evaluate` can open the test rows."""

from __future__ import annotations

from typing import Any

from mlsys.bundle import Bundle
from mlsys.store import write_json
from mlsys.workflow.run import Record, Run

__all__ = ["evaluate", "selection", "train", "tune"]


def _inputs(run: Run, *sections: str) -> dict[str, Any]:
    """What every fit depends on, and sections of the recipe."""
    from mlsys.features.operations import encoders

    return {
        "split": run.split.digest,
        "statistics": run.records["explore"]["statistics"],
        "features": run.recipe.features.model_dump(mode="json", exclude={"joins"}),
        "encoders": encoders.encoder_digests(run.recipe.features),
        "metric": run.recipe.selection.metric,
        **{name: getattr(run.recipe, name).model_dump(mode="json") for name in sections},
    }


def selection(run: Run) -> None:
    """4: families × folds; the simplest within noise of the best is preferred."""
    run.step("selection", _inputs(run, "selection"), f"{__name__}:_selection", lambda: _selection(run))


def _selection(run: Run) -> Record:
    from mlsys import selection as step

    ranking = step.rank(run.split.only("train"), run.statistics, run.recipe, run.task, progress=run.console.progress)
    digest = run.store.put_json("ranking", ranking.to_json())
    return {
        "ranking": digest,
        "preferred": ranking.preferred,
        "leaderboard": ranking.to_json(),
        "objects": [("ranking", digest)],
        "summary": ranking.summary(),
    }


def tune(run: Run) -> None:
    """7: the family's parameters, judged on validation rows; the test part is out of reach."""
    inputs = {**_inputs(run, "tune", "train"), "family": _family(run)}
    run.step("tune", inputs, f"{__name__}:_tune", lambda: _tune(run))


def _tune(run: Run) -> Record:
    from mlsys import tune as step

    rows = run.split.only("train", "validation")
    tuned = step.search(
        run.store,
        rows,
        run.statistics,
        run.recipe,
        run.task,
        _family(run),
        folder=run.folder,
        progress=run.console.progress,
    )
    digest = run.store.put_json("params", tuned.to_json())
    return {
        "params": tuned.params,
        "digest": digest,
        "objects": [("params", digest)],
        "summary": tuned.summary(),
    }


def train(run: Run) -> None:
    """5: fit the family with its parameters on the training rows and store the bundle."""
    inputs = {
        **_inputs(run, "train", "evaluate"),
        "family": _family(run),
        "params": run.records["tune"]["params"],
        "views": [view.model_dump(mode="json") for view in run.views],
    }
    run.step("train", inputs, f"{__name__}:_train", lambda: _train(run))


def _train(run: Run) -> Record:
    from mlsys import train as step

    rows = run.split.only("train", "validation")
    params = {**run.records["tune"]["params"], **run.recipe.train.params}
    bundle = step.fit(
        run.store,
        rows,
        run.statistics,
        run.recipe,
        run.task,
        _family(run),
        params,
        views=run.views,
        progress=run.console.progress,
    )
    return {
        "bundle": bundle.digest,
        "family": bundle.family,
        "plan": bundle.provenance["plan"],
        "objects": [("bundle", bundle.digest)],
        "summary": _trained(bundle),
    }


def _trained(bundle: Bundle) -> str:
    made = bundle.provenance
    width = len(bundle.program.names)
    return f"{bundle.family}, {width} features, bundle {bundle.digest[:12]}; plan {made['plan']}"


def evaluate(run: Run) -> None:
    """6: open the test rows once: metrics with intervals, slices, gate verdict, report."""
    inputs = {
        "bundle": run.bundle.digest,
        "split": run.split.digest,
        "evaluate": run.recipe.evaluate.model_dump(mode="json"),
        "metric": run.recipe.selection.metric,
    }
    run.step("evaluate", inputs, f"{__name__}:_evaluate", lambda: _evaluate(run))


def _evaluate(run: Run) -> Record:
    from mlsys import evaluate as step

    evaluation = step.score(run.store, run.bundle, run.split, run.recipe, progress=run.console.progress)
    digest = run.store.put_json("evaluation", evaluation)
    write_json(run.folder / "reports" / "evaluate.json", evaluation)
    verdict = evaluation["verdict"]
    return {
        "evaluation": digest,
        "metric": evaluation["metric"],
        "metrics": evaluation["metrics"],
        "passed": verdict["passed"],
        "failed": [check["reason"] for check in verdict["checks"] if not check["passed"]],
        "checks": verdict["checks"],
        "report": run.report("evaluate", step.report.page(evaluation)),
        "objects": [("evaluation", digest)],
        "summary": step.summary(evaluation),
    }


def _family(run: Run) -> str:
    family = run.recipe.train.family
    return str(run.records["selection"]["preferred"]) if family == "auto" else family
