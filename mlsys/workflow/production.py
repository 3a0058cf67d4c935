"""Steps 8 and 9: a judged bundle becomes an endpoint, and its predictions are watched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys import errors
from mlsys.store import read_json, write_json
from mlsys.workflow import tables
from mlsys.workflow.run import Record, Run

if TYPE_CHECKING:
    from mlsys.deploy.serving import Endpoint

__all__ = ["deploy", "monitor"]


def deploy(run: Run) -> None:
    """8: register the version, move the alias, serve it; then send it the production rows.

    The endpoint is looked at each time: a step that was done yesterday says nothing of
    what runs today. Serving the same bundle again changes nothing.

    Raises
    ------
    GateError
        The model did not pass; what was served before stays.
    """
    evaluated = run.records["evaluate"]
    if not evaluated["passed"]:
        raise errors.GateError.build(
            f"deploy: model '{run.recipe.name}'",
            got="a model that did not pass its gate: " + "; ".join(evaluated["failed"]),
            expected="every check passed",
            hint=f"see {evaluated['report']}; what was served before stays",
        )
    began = time.monotonic()
    inputs = {"bundle": run.bundle.digest, "evaluation": evaluated["evaluation"], "alias": run.recipe.deploy.alias}
    record, is_new = run.recall("deploy", inputs, f"{__name__}:_register", lambda: _register(run))
    is_new = _take_alias(run, int(record["version"])) or is_new
    with run.console.during("8 deploy"):
        published = tables.publish(run)
        endpoint = _serve(run, int(record["version"]))
        sent = _replay(run, endpoint.url)
    record["endpoint"] = {"url": endpoint.url, "curl": endpoint.curl, "proxy": endpoint.proxy}
    looked_up = f"; {', '.join(view.name for view in run.bundle.views)} looked up" if run.bundle.views else ""
    summary = f"{record['summary']} at {endpoint.url} ({endpoint.proxy}){looked_up}{sent or ''}"
    changed = is_new or sent is not None or not endpoint.was_served or bool(published)
    run.tell("deploy", summary, time.monotonic() - began if changed else None)


def _register(run: Run) -> Record:
    from mlsys import registry

    recipe = run.recipe
    evaluated = run.records["evaluate"]
    run.console.progress("registering")
    version = registry.register(
        run.store,
        recipe.name,
        run.bundle,
        metrics={name: found["value"] for name, found in evaluated["metrics"].items() if found["value"] is not None},
        tags={"family": run.bundle.family},
        reports=[Path(record["report"]) for record in run.records.values() if "report" in record],
    )
    return {
        "version": version,
        "bundle": run.bundle.digest,
        "objects": [("bundle", run.bundle.digest)],
        "summary": f"{recipe.name} version {version} is {recipe.deploy.alias}",
    }


def _take_alias(run: Run, version: int) -> bool:
    """Let the alias mean this version, also where someone moved it since; whether that was a change."""
    from mlsys import registry

    name, alias = run.recipe.name, run.recipe.deploy.alias
    moves = registry.history(run.store, name, alias)
    if moves and moves[-1].version == version:
        return False
    registry.set_alias(run.store, name, alias, version, reason="passed its gate")
    return True


def _serve(run: Run, version: int) -> Endpoint:
    from mlsys.deploy import serving

    run.console.progress("starting the endpoint")
    return serving.start(run.store, run.recipe.name, run.bundle.digest, version, run.recipe.deploy)


def _replay(run: Run, url: str) -> str | None:
    """Send the production rows to the endpoint over HTTP, once a bundle and split; what was sent, in words."""
    from mlsys import cluster
    from mlsys.deploy import replay

    rows = run.split.only("production")
    done = run.folder / "replayed.json"
    what = {"bundle": run.bundle.digest, "split": run.split.digest}
    if not run.recipe.deploy.replay or not rows.num_rows.get("production"):
        return None
    if done.is_file() and read_json(done).items() >= what.items():
        return None
    run.console.progress(f"sending {rows.num_rows['production']:,} production rows")
    sent = cluster.call(replay.send, rows, "production", run.bundle.schema, url, threads=1)
    write_json(done, {**what, **sent.to_json()})
    return f"; {sent.num_rows:,} production rows answered in {sent.num_requests} requests, {sent.seconds:.1f} s"


def monitor(run: Run) -> None:
    """9: windows of the prediction log against the training rows, labels once they are there, decision."""
    log = run.store.root / "predictions" / run.recipe.name
    if not any(log.rglob("*.parquet")):
        run.records["monitor"] = {"decision": "keep", "exit_code": 0, "windows": [], "summary": "no predictions yet"}
        run.tell("monitor", "no predictions yet: send the endpoint requests and run `mlsys monitor` again", None)
        return
    inputs = {
        "bundle": run.bundle.digest,
        "evaluation": run.records["evaluate"]["evaluation"],
        "monitor": run.recipe.monitor.model_dump(mode="json"),
        "log": sorted(path.name for path in log.rglob("*.parquet")),
        "labels": _fingerprint(run.labels),
    }
    run.step("monitor", inputs, f"{__name__}:_monitor", lambda: _monitor(run, log))


def _monitor(run: Run, log: Path) -> Record:
    from mlsys import monitor as step

    evaluation = run.store.get_json("evaluation", run.records["evaluate"]["evaluation"])
    judgement = step.compare(
        run.store,
        run.recipe.name,
        run.bundle,
        log,
        run.labels or _production_labels(run),
        run.recipe,
        baseline=evaluation,
        progress=run.console.progress,
    )
    return {
        "judgement": judgement.digest,
        "decision": judgement.decision,
        "exit_code": judgement.exit_code,
        "windows": judgement.value["windows"],
        "report": run.report("monitor", (judgement.folder / "report.html").read_text(encoding="utf-8")),
        "objects": [("monitor", judgement.digest)],
        "summary": judgement.summary,
    }


def _production_labels(run: Run) -> Path | None:
    """Labels of the replayed rows, which their ids find; without an id there are none."""
    rows = run.split.only("production")
    if run.recipe.data.id is None or not rows.num_rows.get("production"):
        return None
    return rows.paths("production")[0].parent


def _fingerprint(path: Path | None) -> Any:
    if path is None:
        return None
    facts = path.stat()
    return [path.name, facts.st_size, facts.st_mtime_ns]
