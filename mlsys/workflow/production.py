"""Steps 8 and 9: a judged bundle becomes an endpoint, and its predictions are watched."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys.dataset import Split
from mlsys.store import read_json, write_json
from mlsys.workflow.results import (
    CollectResult,
    DeployResult,
    EvaluateResult,
    ExploreResult,
    FeaturesResult,
    MonitorResult,
    ServedAt,
    TrainResult,
)
from mlsys.workflow.run import Run, StepContext

if TYPE_CHECKING:
    from mlsys.bundle import Bundle
    from mlsys.deploy.rollout import Transition
    from mlsys.evaluate.champion import Comparison
    from mlsys.registry import LedgerEntry
    from mlsys.workflow.promotion import Promotion


def deploy(
    context: StepContext,
    model: TrainResult,
    verdict: EvaluateResult,
    data: CollectResult,
    profile: ExploreResult,
    plan: FeaturesResult,
) -> DeployResult:
    """Register the version, decide whether it is promoted, serve what the alias means, and send it production rows.

    It is done each time: a step that was done yesterday says nothing of what runs today.
    Serving the same bundle again changes nothing.

    Raises
    ------
    GateError
        The model did not pass; what was served before stays.
    """
    from mlsys import bundle, registry
    from mlsys.deploy import canary_rollout, endpoints, rollout
    from mlsys.workflow import promotion, tables

    recipe, store, tell = context.recipe, context.store, context.console.line
    opened = bundle.open(store, model.bundle)
    reports = [Path(page) for page in (profile.report, plan.report, verdict.report)]
    with registry.locked(store, recipe.name, "deploy", tell):
        there = endpoints.reach(store, recipe.name)
        rollout.recover(store, recipe.name, there, tell)
        entry, is_registered = _register(context, opened, verdict, reports)
        promotion.check_gate(verdict, entry, recipe.deploy.alias)
        decision = promotion.decide(context, entry, Split.open(store, data.split))
        served = entry if decision.is_promoted else registry.resolve(store, recipe.name, recipe.deploy.alias)
        published = tables.publish(context, opened.views, data.tables)
        context.progress("loading the model and starting the endpoint")
        changed = canary_rollout.put(
            store,
            served,
            recipe.deploy.alias,
            there,
            reason=decision.reason,
            sections=recipe.model_dump(mode="json", exclude={"name"}),
            tell=tell,
        )
    at, trial = changed.endpoint, changed.trial
    is_canary = trial is not None and trial.ended is None
    is_served = at is not None and decision.is_promoted and not is_canary
    replayed = _replay(context, Split.open(store, data.split), opened, at.url) if at and is_served else None
    return DeployResult(
        name=recipe.name,
        version=entry.version,
        alias=recipe.deploy.alias,
        bundle=model.bundle,
        served=trial.stable.version if trial and is_canary else served.version,
        reason=_reason(decision, changed),
        endpoint=None if at is None else ServedAt(at.url, at.curl, at.proxy),
        views=tuple(view.name for view in opened.views),
        replayed=replayed,
        is_new=is_registered or bool(published) or changed.is_new or replayed is not None,
        comparison=None if decision.comparison is None else decision.comparison.to_json(),
        report=_compared(context, decision.comparison),
    )


def _reason(decision: Promotion, changed: Transition) -> str:
    """Why the version is not the one in service, or no endpoint answers with it; empty if one does."""
    from mlsys.deploy.by_name import canary_text

    if not decision.is_promoted:
        return decision.reason
    trial = changed.trial
    is_canary = trial is not None and trial.ended is None
    return canary_text(changed.entry.name, trial.to_json()) if trial and is_canary else changed.alone


def _compared(context: StepContext, comparison: Comparison | None) -> str | None:
    """Write the page of the comparison with the champion; returns its path."""
    from mlsys.evaluate import comparison_report

    if comparison is None:
        return None
    values = comparison.to_json()
    return context.report("deploy", comparison_report.page(context.recipe.name, values), values)


def _register(
    context: StepContext, opened: Bundle, verdict: EvaluateResult, reports: list[Path]
) -> tuple[LedgerEntry, bool]:
    """Make the bundle a version of the name; whether that was new."""
    from mlsys import registry
    from mlsys.workflow import model_card

    name, store = context.recipe.name, context.store
    context.progress("registering")
    card = store.put_json("card", model_card.build(opened, store.get_json("evaluation", verdict.evaluation)))
    known = len(registry.versions(store, name))
    metrics = {metric: entry["value"] for metric, entry in verdict.metrics.items() if entry["value"] is not None}
    version = registry.register(
        store,
        name,
        opened,
        metrics=metrics,
        tags={"family": opened.family, "gate": "passed" if verdict.passed else "failed"},
        reports=reports,
        facts={"evaluation": verdict.evaluation, "metric": verdict.metric, "card": card}
        | ({"run": context.run_id} if context.run_id else {}),
    )
    return registry.resolve(store, name, version), len(registry.versions(store, name)) > known


def _replay(context: StepContext, split: Split, opened: Bundle, url: str) -> dict[str, Any] | None:
    """Send the production rows to the endpoint over HTTP, once a bundle and split; None if they were sent before."""
    from mlsys import cluster
    from mlsys.deploy import api_keys, replay

    rows = split.only("production")
    done = context.folder / "replayed.json"
    this = f"{opened.digest}:{split.digest}"
    if not context.recipe.deploy.replay or not rows.num_rows.get("production"):
        return None
    earlier = _replayed(done)
    if this in earlier:
        return None
    context.progress(f"sending {rows.num_rows['production']:,} production rows")
    how = (context.recipe.deploy.limits, api_keys.owner_headers(context.store))
    sent = asdict(cluster.call(replay.send, rows, "production", opened.schema, url, opened.digest, *how, threads=1))
    write_json(done, {**earlier, this: sent})
    return sent


def _replayed(file: Path) -> dict[str, Any]:
    """Read by bundle and split what was sent of each; an older file has one of them alone."""
    earlier: dict[str, Any] = read_json(file) if file.is_file() else {}
    return {f"{earlier['bundle']}:{earlier['split']}": earlier} if "bundle" in earlier else earlier


def observe_log(context: StepContext, model: TrainResult, *_: Any) -> dict[str, Any]:
    """Names of the files of the prediction log and of the labels, and the bundle that the alias means."""
    from mlsys import registry
    from mlsys.deploy import label_files, prediction_log
    from mlsys.readers import registry as readers
    from mlsys.recipe import Reading

    name, store, alias = context.recipe.name, context.store, context.recipe.deploy.alias
    pointed = registry.meant(store, name, alias)
    return {
        "bundle": model.bundle if pointed is None else pointed.digest,
        "log": sorted(log_file.path.name for log_file in prediction_log.files(prediction_log.folder_of(store, name))),
        "late": sorted(path.name for path in label_files.folder_of(store, name).glob("[!.]*")),
        "labels": context.labels and readers.fingerprint(str(context.labels), Reading()),
    }


def monitor(context: StepContext, model: TrainResult, verdict: EvaluateResult) -> MonitorResult:
    """Compare windows of the prediction log with the training rows, and with labels once they are there; decide.

    What is judged is the version that the alias means: it need not be the one of this run.
    """
    from mlsys import bundle
    from mlsys.workflow import watch

    context.progress("reading the prediction log")
    store, digest = context.store, str(context.observed["bundle"])
    if digest == model.bundle:
        baseline = store.get_json("evaluation", verdict.evaluation)
    else:
        baseline = watch.baseline(store, context.recipe.name, digest)
    return watch.judge_log(store, context.recipe, bundle.open(store, digest), baseline, context.labels)


def tell(run: Run, result: MonitorResult) -> None:
    """Say what was left out of the log and of the labels, and send the alerts that are due."""
    from mlsys.workflow import alerting

    for message in (*result.messages, *alerting.tell(run.store, run.recipe, result, run.recipe.deploy.alias)):
        run.console.line(f"            {message}")
