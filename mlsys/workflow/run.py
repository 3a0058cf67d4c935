"""A step, and one run of a recipe: when a step need not run again, and what is recorded of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic_core import to_jsonable_python

from mlsys import errors, interruption, locks
from mlsys.code_graph import code_digest
from mlsys.console import Console
from mlsys.plugins import outside_code
from mlsys.recipe import Recipe, dump
from mlsys.store import Store, digest_json, write_atomic, write_json
from mlsys.workflow import refusal
from mlsys.workflow.results import StepResult
from mlsys.workflow.run_record import RunRecord, step_facts

MIRRORED = ("evaluate", "deploy", "monitor")
"""Steps after which MLflow is told of a run; earlier ones are told with the next, or by ``mlsys registry sync``."""

R = TypeVar("R", bound=StepResult)


@dataclass(frozen=True)
class StepContext:
    """Everything beside earlier results that the function of a step may use.

    Attributes
    ----------
    recipe
        The values that the step declares; reading any other is an error.
    folder
        ``runs/<name>/`` of the store.
    labels
        Source of labels for the monitor, in place of those of the production part.
    observed
        What the step's `observe` returned.
    run_id
        Id of the run's record, if it is recorded.
    spent
        Seconds that the steps before took, in this run or when their results were made.
    """

    store: Store
    recipe: Recipe
    folder: Path
    console: Console
    labels: str | Path | None = None
    observed: Any = None
    run_id: str | None = None
    spent: float = 0.0

    def progress(self, text: str) -> None:
        """Show what the step is doing now."""
        self.console.progress(text)

    def report(self, step: str, page: str, values: Any = None) -> str:
        """Write a step's HTML page, and its values as JSON beside it; returns the path of the page."""
        path = self.folder / "reports" / f"{step}.html"
        write_atomic(path, page.encode())
        if values is not None:
            write_json(path.with_suffix(".json"), values)
        return str(path)


def _nothing(*_: Any) -> None:
    """Observe or check nothing."""


def _no_pages(_: Run) -> dict[str, str]:
    """Draw no page at all."""
    return {}


@dataclass(frozen=True)
class Step(Generic[R]):
    """One of the nine steps.

    Attributes
    ----------
    number
        As the field counts them; the order in which they run is that of `mlsys.workflow.run`.
    reads
        Dotted paths of the recipe values that `work` reads: it is given no others.
    work
        ``work(context, *results of earlier steps)``, the function of the step.
    summary
        The line that says what came out.
    observe
        ``observe(context, *results)``: facts that `work` depends on beyond recipe and results, such as
        fingerprints of files, as JSON or models. It reads the whole recipe, since what it returns counts.
    check
        ``check(run, result)``, called each time, also for a result that was there already.
    draw
        ``draw(run)``, called each time after the result: pages that are drawn from results and are no part of one;
        their paths by name.
    is_repeated
        The work is done each time and says itself, by ``is_new``, whether that changed anything.
    leaves
        Files that the work writes into the run's folder, beside its report; without them it is done again.
    """

    name: str
    number: int
    work: Callable[..., R]
    result: type[R]
    summary: Callable[[R], str]
    reads: tuple[str, ...]
    observe: Callable[..., Any] = _nothing
    check: Callable[[Run, R], None] = _nothing
    draw: Callable[[Run], dict[str, str]] = _no_pages
    is_repeated: bool = False
    leaves: tuple[str, ...] = ()

    def key(self, context: StepContext, *inputs: StepResult) -> str:
        """Digest of all that the result depends on: earlier results, recipe values, observed facts and code.

        `context` is the step's own, with the values of the recipe that it reads and what it observed.
        """
        return digest_json({
            "inputs": [result.digest for result in inputs],
            "recipe": context.recipe.model_dump(mode="json"),
            "observed": to_jsonable_python(context.observed),
            "code": code_digest(context.store, f"{self.work.__module__}:{self.work.__name__}"),
            "outside": outside_code(),
        })  # fmt: skip


class _LastStepError(Exception):
    """Leaves the page of the flow after the last step that was asked for."""


@dataclass
class Run:
    """One recipe on one store.

    Attributes
    ----------
    labels
        Source of labels for the monitor, in place of those of the production part.
    results
        What each finished step of this run produced, by its name.
    records
        The same as JSON, with the step's summary, its page and the seconds that its work took.
    mirrors
        MLflow is told of the run when it has ended, if it was to judge a model.
    """

    recipe: Recipe
    store: Store
    console: Console = field(default_factory=Console)
    labels: str | Path | None = None
    results: dict[str, StepResult] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    until: str | None = None
    mirrors: bool = False
    run_record: RunRecord | None = None

    @cached_property
    def folder(self) -> Path:
        """Folder of the recipe's runs: reports, the resolved recipe and the result of the last one."""
        return self.store.run_folder(self.recipe.name)

    def context(self, *reads: str, observed: Any = None) -> StepContext:
        """The context of a step that reads these values of the recipe; without any, of all."""
        recipe = self.recipe.only(*reads) if reads else self.recipe
        run_id = str(self.run_record.value["id"]) if self.run_record else None
        spent = sum(record.get("seconds") or 0.0 for record in self.records.values())
        return StepContext(self.store, recipe, self.folder, self.console, self.labels, observed, run_id, spent)

    @contextmanager
    def ending_after(self, until: str, steps: Mapping[str, Step[Any]]) -> Iterator[None]:
        """Leave the block after the step `until`; the resolved recipe is written before it, the results after.

        One run of a name is at work at a time: another waits, and says for whom. Where a model is refused, the
        results of the steps before are written, too. Where a step fails MLflow is told, too; after Ctrl-C it is not:
        nobody who ends a run waits for a server, and the next run or ``mlsys registry sync`` tells it.

        Raises
        ------
        RecipeError
            There is no such step.
        """
        if until not in steps:
            hint = errors.did_you_mean(until, steps)
            raise errors.RecipeError.build("workflow: until", got=until, expected="a step", hint=hint)
        self.until = until
        try:
            with self.alone(), interruption.noted(), self._recording(until):
                yield
        except Exception:
            self._mirror()
            raise
        self._mirror()

    @contextmanager
    def _recording(self, until: str) -> Iterator[None]:
        """Write the resolved recipe before the block, the record of the run during it, and its results after."""
        resolved = dump(self.recipe)
        write_atomic(self.folder / "resolved.yaml", resolved.encode())
        self.run_record = RunRecord.begin(self.folder, resolved, until)
        try:
            with self.run_record.recording(), refusal.explained(self.results), suppress(_LastStepError):
                yield
        except errors.GateError:
            write_json(self.folder / "result.json", self.records)
            raise
        write_json(self.folder / "result.json", self.records)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the name for this process during the block, and nothing deleted that it may need."""
        name, purpose = self.recipe.name, f"run of '{self.recipe.name}'"
        with (
            locks.hold(self.store.root / "locks" / name, purpose, self.console.line),
            locks.hold(self.store.deletion_lock, purpose, self.console.line, is_shared=True),
        ):
            yield

    def _mirror(self) -> None:
        """Tell MLflow of the run, if it was to judge a model."""
        if not self.mirrors or self.until not in MIRRORED:
            return
        from mlsys.registry import mlflow_mirror

        self.console.progress("telling MLflow")
        warning = mlflow_mirror.mirror(self.store, self.recipe.name)
        if warning:
            self.console.line(warning)

    def prepare(self, step: Step[R], *inputs: StepResult) -> tuple[StepContext, str]:
        """The context in which a step works on these results, and the key of what it will produce."""
        context = self.context(*step.reads, observed=step.observe(self.context(), *inputs))
        return context, step.key(context, *inputs)

    def step(self, step: Step[R], *inputs: StepResult) -> R:
        """The result of a step: recalled if it was done with exactly these inputs, else worked out.

        Raises
        ------
        MlsysError
            The step cannot be done; what earlier steps produced stays, and the next run goes on there.
        """
        began = time.monotonic()
        with self._recorded(step) as entry:
            interruption.heed()
            result, is_new = self._recall(step, inputs)
            self.results[step.name] = result
            self.records[step.name]["summary"] = summary = step.summary(result)
            pages = step.draw(self)
            if step.name in pages:
                self.records[step.name]["report"] = pages[step.name]
            facts = step_facts(self.store, result, pages.values())
            entry |= {"unchanged": not is_new, "summary": summary, **facts}
        ending = f"{time.monotonic() - began:.1f} s" if is_new else "unchanged"
        self.console.line(f"{step.number} {step.name:<10} {summary}   {ending}")
        step.check(self, result)
        if step.name == self.until:
            raise _LastStepError
        return result

    def _recorded(self, step: Step[Any]) -> AbstractContextManager[dict[str, Any]]:
        """Record the step in the history of a run; a step by itself has none."""
        return nullcontext({}) if self.run_record is None else self.run_record.step(step.name, step.number)

    def _is_whole(self, step: Step[R], record: dict[str, Any]) -> bool:
        """True if all that a record names is there: objects in the store, report and files in the run's folder.

        The folder may have been moved with its store: the record is given the report's path of today.
        """
        files = [self.folder / name for name in step.leaves]
        if record.get("report") is not None:
            files.append(self.folder / "reports" / Path(record["report"]).name)
            record["report"] = str(files[-1])
        objects = step.result.from_json(record).objects
        return all(self.store.has(*each) for each in objects) and all(file.is_file() for file in files)

    def _recall(self, step: Step[R], inputs: tuple[StepResult, ...]) -> tuple[R, bool]:
        """The result of a step, and whether its work was done now and changed something."""
        context, key = self.prepare(step, *inputs)
        record = None if step.is_repeated else self.store.recall(step.name, key)
        if record is not None and self._is_whole(step, record):
            self.records[step.name] = record
            return step.result.from_json(record), False
        began = time.monotonic()
        with self.console.during(f"{step.number} {step.name}"):
            result = step.work(context, *inputs)
        record = {**result.to_json(), "seconds": round(time.monotonic() - began, 1)}
        self.records[step.name] = record
        if step.is_repeated:
            return result, bool(getattr(result, "is_new", True))
        self.store.remember(step.name, key, record)
        return result, True
