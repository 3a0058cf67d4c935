"""Maintain a registered model: labels, monitor, decision, and a new model where one is due and its rows are sound.

::

    1  labels that a source of the recipe has are taken in
    2  the monitor judges, and says keep, watch or retrain; its alerts are sent
    3  retrain: unless a canary runs, the last retraining is too near, or there were too many
    4  the rows are collected and looked at: no model is made of a broken feed
    5  the run of the recipe, as of now, up to its deployment: gate, champion, canary or promotion decide as ever
    6  a line of the ledger, and alerts

Until 5 begins nothing is remembered: a maintenance that was killed begins anew, and comes to the same. From then on the
retraining is noted, and the next maintenance goes on with it, step by step as every run does.
"""

from __future__ import annotations

import datetime as dt
import io
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from mlsys import errors, locks, registry, workflow
from mlsys.alerts import alert_delivery
from mlsys.alerts.alert_book import Condition, Severity
from mlsys.console import Console
from mlsys.recipe import Recipe, load, secrets, set_values
from mlsys.recipe.alert_section import AlertKind
from mlsys.registry import LedgerEntry, canaries, ledger
from mlsys.store import Store
from mlsys.workflow import maintenance_feed, maintenance_state, watch
from mlsys.workflow.maintenance_feed import FeedReport
from mlsys.workflow.maintenance_state import MaintenanceResult, MaintenanceState, Outcome, Retraining
from mlsys.workflow.results import DeployResult
from mlsys.workflow.run import Run

MAX_FAILURES = 3
"""Errors after which a retraining that was begun is given up."""

ALERTS: dict[Outcome, tuple[AlertKind, Severity]] = {
    "refused": ("feed", "warning"),
    "left": ("gate", "warning"),
    "failed": ("maintenance", "critical"),
}
"""Outcomes that somebody should know."""

Values: TypeAlias = Mapping[str, Any] | Iterable[str]


def maintain(
    model: str | Path,
    *,
    set: Values = (),  # noqa: A002  (as --set on the command line)
    dry_run: bool = False,
    quiet: bool = False,
    store: Path | str | None = None,
) -> MaintenanceResult:
    """Maintain a model once: it is trained again if the monitor asks for it, and promoted if its gate allows it.

    Parameters
    ----------
    model
        The name of a model, which means the recipe of its last run; or the file of a recipe.
    set
        Other values of the recipe, by dotted key.
    dry_run
        Say what would be done: nothing is trained, moved or sent, and no line is written.
    quiet
        Print nothing of the steps.

    Raises
    ------
    RegistryError, RecipeError
        There is no such model or recipe, or another maintenance of it is at work.
    MlsysError
        The monitor cannot judge.
    """
    home = Store.open(store)
    console = Console(io.StringIO() if quiet else None)
    return once(home, recipe_of(home, model, set_values(set)), is_dry=dry_run, mirrors=True, console=console)


def recipe_of(store: Store, model: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """The recipe of a file, or that of the last run of a name.

    Raises
    ------
    RegistryError, RecipeError
        There is no such model or recipe.
    """
    if Path(model).suffix in (".yaml", ".yml"):
        return load(model, settings)
    registry.existing(store, str(model))
    file = store.root / "runs" / str(model) / "resolved.yaml"
    if not file.is_file():
        raise errors.RegistryError.build(
            f"maintain: model '{model}'", got="no run of its recipe in this store", expected="the recipe that makes it",
            hint="mlsys maintain RECIPE.yaml",
        )  # fmt: skip
    recipe = load(file, settings)
    _check_secrets(recipe)
    return recipe


def _check_secrets(recipe: Recipe) -> None:
    """Refuse sources whose written-out password was not kept with the run."""
    places = [recipe.data.source, recipe.maintain.labels, *(join.source for join in recipe.features.joins.values())]
    texts = [text for place in places if place for text in ([place] if isinstance(place, str) else place)]
    if any(secrets.MASK in text for text in texts):
        raise errors.RecipeError.build(
            f"maintain: model '{recipe.name}'", got="a source whose password is kept nowhere",
            expected="one that the environment holds", hint="${NAME} in its place; or mlsys maintain RECIPE.yaml",
        )  # fmt: skip


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def once(
    store: Store,
    recipe: Recipe,
    *,
    is_dry: bool = False,
    mirrors: bool = False,
    clock: Callable[[], dt.datetime] = _now,
    console: Console | None = None,
) -> MaintenanceResult:
    """Maintain the model of a recipe once, alone; `mirrors` tells MLflow of a retraining.

    Raises
    ------
    RegistryError
        There is no such model, or another maintenance of it is at work.
    """
    name = recipe.name
    registry.existing(store, name)
    lock = maintenance_state.folder(store, name) / "lock"
    with locks.hold_if_free(lock, f"maintenance of '{name}'") as is_held:
        if not is_held:
            raise errors.RegistryError.build(
                f"maintain: model '{name}'", got=locks.holder(lock) or "another one at work",
                expected="one maintenance of a name at a time", hint="it goes on; look again later",
            )  # fmt: skip
        return _Maintenance(store, recipe, console or Console(), clock, is_dry=is_dry, mirrors=mirrors).run()


@dataclass
class _Maintenance:
    """One maintenance of a model, whose lock is held.

    Attributes
    ----------
    label_error
        Why labels could not be taken in, if so.
    """

    store: Store
    recipe: Recipe
    console: Console
    clock: Callable[[], dt.datetime]
    is_dry: bool
    mirrors: bool
    messages: list[str] = field(default_factory=list)
    label_error: str | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def champion(self) -> LedgerEntry | None:
        """The version that the alias means now."""
        return registry.meant(self.store, self.name, self.recipe.deploy.alias)

    def run(self) -> MaintenanceResult:
        state = MaintenanceState.read(self.store, self.name)
        if state.retraining is not None:
            return self._go_on(state, state.retraining)
        # 1. Labels, and the monitor
        self._take_labels()
        model = f"{self.name}@{self.recipe.deploy.alias}"
        labels = self.recipe.maintain.labels if self.is_dry else None  # used, and not kept
        given = list(labels) if isinstance(labels, tuple) else labels
        judged = watch.monitor(self.store, model, labels=given, recipe=self.recipe, sends=not self.is_dry)
        self.messages += judged.messages
        # 2. Is a new model due, and are there rows for it?
        if judged.decision != "retrain":
            return self._ended(state, "kept", judged.summary, judged.decision)
        reason = self._waits(state)
        if reason is not None:
            return self._ended(state, "waits", reason, judged.decision)
        feed = maintenance_feed.check(self._run_of(self.recipe), workflow.COLLECT, self.champion)
        if feed.problems:
            return self._ended(state, "refused", "; ".join(feed.problems), judged.decision, feed=feed)
        if self.is_dry:
            reason = f"it would be trained again, with {feed.num_new:,} new rows"
            return self._ended(state, "dry run", reason, judged.decision, feed=feed)
        # 3. From here on it is noted, and goes on whatever happens
        until = maintenance_feed.as_of(self.store, self.recipe, feed.newest, self.champion).split.until
        champion = None if self.champion is None else (self.champion.version, self.champion.digest)
        begun_at = self.clock().isoformat(timespec="seconds")
        retraining = Retraining(
            uuid.uuid4().hex[:12],
            begun_at,
            judged.decision,
            judged.summary,
            champion,
            {str(part): date for part, date in until.items()},
        )
        state.retraining = retraining
        state.begun_at.append(begun_at)
        state.write(self.store, self.name)
        return self._retrain(state, retraining, feed)

    def _take_labels(self) -> None:
        """Take labels in; a source that does not answer holds up nothing, and is told."""
        source = self.recipe.maintain.labels
        if source is None or self.is_dry:
            return
        for each in [source] if isinstance(source, str) else source:
            try:
                received = watch.receive_labels(self.store, self.name, each)
                self.messages += [received.summary, *received.counts.messages]
            except errors.MlsysError as error:
                self.label_error = f"labels were not taken in: {_in_line(error)}"
                self.messages.append(self.label_error)

    def _waits(self, state: MaintenanceState) -> str | None:
        trial = canaries.running(self.store, self.name)
        if trial is not None:
            return f"version {trial.entry.version} is a canary; `mlsys rollout {self.name}` says how it fares"
        return state.waits(self.recipe.maintain, self.clock())

    def _run_of(self, recipe: Recipe) -> Run:
        return Run(maintenance_feed.guarded(recipe), self.store, self.console, mirrors=self.mirrors)

    def _go_on(self, state: MaintenanceState, retraining: Retraining) -> MaintenanceResult:
        """Go on with a retraining that was begun and has not ended."""
        if self.is_dry:
            reason = f"the retraining that began at {retraining.begun_at} would go on"
            return self._ended(state, "dry run", reason, retraining.decision)
        self.messages.append(f"goes on with the retraining that began at {retraining.begun_at}")
        feed = None
        if self.champion is not None and retraining.champion == (self.champion.version, self.champion.digest):
            feed = maintenance_feed.check(self._run_of(self.recipe), workflow.COLLECT, self.champion)
            if feed.problems:  # it has broken since
                reason = "; ".join(feed.problems)
                return self._ended(state, "refused", reason, retraining.decision, feed=feed, retraining=retraining)
        return self._retrain(state, retraining, feed)

    def _retrain(self, state: MaintenanceState, retraining: Retraining, feed: FeedReport | None) -> MaintenanceResult:
        """Run the recipe up to its deployment, whose gate and comparison decide."""
        from mlsys.deploy import endpoints

        recipe = self.recipe
        if retraining.until:
            recipe = recipe.having({"split.until": retraining.until})
        run = self._run_of(recipe)
        outcome: Outcome
        try:
            endpoints.reach(self.store, self.name)  # where a cluster runs, it is joined
            workflow.run(run, "deploy")
        except errors.GateError as error:
            outcome, reason = "left", _in_line(error)
        except errors.MlsysError as error:
            return self._failed(state, retraining, error)
        else:
            outcome, reason = self._deployed(run, retraining)
        made = _version_of(self.store, self.name, run)
        return self._ended(state, outcome, reason, retraining.decision, feed=feed, made=made, retraining=retraining)

    def _deployed(self, run: Run, retraining: Retraining) -> tuple[Outcome, str]:
        """The outcome of a run that came to its deployment, and its reason."""
        result = run.results["deploy"]
        if not isinstance(result, DeployResult):
            raise TypeError("the run has no deployment")
        trial, champion = canaries.running(self.store, self.name), self.champion
        if trial is not None and trial.entry.version == result.version:
            return "canary", result.reason
        if retraining.champion is not None and retraining.champion[1] == result.bundle:
            return "unchanged", "the rows of today give the model that is there"
        if champion is not None and champion.version == result.version:
            moves = registry.history(self.store, self.name, self.recipe.deploy.alias)
            return "promoted", moves[-1].reason
        return "left", result.reason

    def _failed(self, state: MaintenanceState, retraining: Retraining, error: errors.MlsysError) -> MaintenanceResult:
        """Note an error; the retraining goes on with the next maintenance, unless there were too many."""
        again = retraining.failed()
        ending = "it is given up" if again.num_failures >= MAX_FAILURES else "the next maintenance goes on"
        reason = f"{_in_line(error)}; {ending}"
        return self._ended(state, "failed", reason, again.decision, retraining=again)

    def _ended(
        self,
        state: MaintenanceState,
        outcome: Outcome,
        reason: str,
        decision: str,
        *,
        feed: FeedReport | None = None,
        made: int | None = None,
        retraining: Retraining | None = None,
    ) -> MaintenanceResult:
        """Write the line of the ledger, send alerts, and note the result; a dry run does none of it."""
        champion, at = self.champion, self.clock().isoformat(timespec="seconds")
        version = None if champion is None else champion.version
        facts = None if feed is None else feed.to_json()
        result = MaintenanceResult(self.name, outcome, reason, decision, version, made, facts, at)
        if not self.is_dry:
            self._write_line(result, retraining)
            self._send_alerts(result, feed)
            is_over = outcome != "failed" or (retraining is not None and retraining.num_failures >= MAX_FAILURES)
            state.retraining = None if is_over else retraining
            state.last = result.to_json()
            state.write(self.store, self.name)
        return MaintenanceResult(**{**vars(result), "messages": tuple(self.messages)})

    def _write_line(self, result: MaintenanceResult, retraining: Retraining | None) -> None:
        """Write how it ended into the ledger, once, whatever was killed after that."""
        number = result.made if result.made is not None else result.version
        entries = registry.existing(self.store, self.name)
        entry = next((each for each in entries if each.version == number), entries[-1])
        run_id = uuid.uuid4().hex[:12] if retraining is None else f"{retraining.id}-{retraining.num_failures}"
        facts = {"maintenance": run_id, "outcome": result.outcome, "decision": result.decision}
        lines = [move for move in ledger.read(self.store) if move.kind == "maintained" and move.name == self.name]
        if all(move.facts.get("maintenance") != run_id for move in lines):
            reason = f"{result.outcome}: {result.reason}"
            ledger.write(self.store, "maintained", entry, self.recipe.deploy.alias, reason=reason, facts=facts)

    def _send_alerts(self, result: MaintenanceResult, feed: FeedReport | None) -> None:
        """Send what somebody should know; while a retraining waits, what was known before lasts."""
        alias = self.recipe.deploy.alias
        scope: list[tuple[str, AlertKind]] = [(alias, "labels")]
        conditions: list[Condition] = []
        if self.label_error is not None:
            conditions.append(Condition("labels", "warning", self.label_error, alias))
        if result.outcome != "waits":
            scope += [(alias, kind) for kind, _ in ALERTS.values()]
        if result.outcome in ALERTS:
            problems = () if feed is None else feed.problems
            kind, severity = ALERTS[result.outcome]
            conditions.append(Condition(kind, severity, f"{result.outcome}: {result.reason}", alias, problems))
        places = self.recipe.monitor.alerts
        self.messages += alert_delivery.tell(self.store, self.name, places, conditions, scope)


def _version_of(store: Store, name: str, run: Run) -> int | None:
    """The version of the bundle that a run trained, if it is registered."""
    digest = run.records.get("train", {}).get("bundle")
    return next((entry.version for entry in registry.versions(store, name) if entry.digest == digest), None)


def _in_line(error: errors.MlsysError) -> str:
    """The first facts of an error in one line."""
    where, *facts = str(error).splitlines()
    return "; ".join([where, *(" ".join(fact.split()) for fact in facts[:2])])
