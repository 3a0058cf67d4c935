"""Behavioural tests of a registered version, on request: those of its recipe, or of another one.

The rows are those of the test part that the version was divided with; looking at them is recorded like every other
opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import cluster, errors
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.evaluate import behaviours as sentences
from mlsys.evaluate.behaviours_report import sentence
from mlsys.recipe import load
from mlsys.reports.formats import percent
from mlsys.store import Store
from mlsys.workflow.watch import WatchedModel


@dataclass(frozen=True)
class BehaviourResults:
    """The outcome of each behavioural test of a version, as `mlsys.evaluate.behaviours.judge` says it."""

    name: str
    version: int
    tests: list[dict[str, Any]]

    @property
    def is_passed(self) -> bool:
        return all(test["passed"] for test in self.tests)

    @property
    def summary(self) -> str:
        """One line a test, with the first row that breaks it."""
        return "\n".join(line for test in self.tests for line in _lines(test))

    def to_json(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {"name": self.name, "version": self.version, "passed": self.is_passed, "behaviours": self.tests}


def _lines(test: dict[str, Any]) -> list[str]:
    word = "passed" if test["passed"] else "FAILED"
    share = f" ({percent(test['fraction'])})" if test["fraction"] else ""
    line = (
        f"{word}  {test['name']}: {sentence(test)}; {test['num_broken']:,} of {test['num_rows']:,} rows break it{share}"
    )
    if test["passed"] or not test["examples"]:
        return [line]
    example = test["examples"][0]
    values = ", ".join(f"{name} = {value}" for name, value in {**example["values"], **example["changed"]}.items())
    return [line, f"        such as {values or 'row 1'}: {example['before']:.4g} became {example['after']:.4g}"]


def behaviours(target: str, recipe: Path | str | None = None, *, store: Path | str | None = None) -> BehaviourResults:
    """Put the behavioural tests of the name's last run, or of another recipe, to ``NAME@WHICH``.

    Raises
    ------
    RegistryError, BundleError, StoreError
        There is no such version, or its bundle or its rows are not in the store.
    RecipeError
        No sentence is known, or one cannot be put to this model.
    """
    home = Store.open(store)
    model = WatchedModel.resolve(home, target)
    file = home.root / "runs" / model.entry.name / "resolved.yaml" if recipe is None else Path(recipe)
    asked = load(file).evaluate.behaviours if recipe is not None or file.is_file() else {}
    if not asked:
        where, hint = f"behaviours: '{target}'", "write some under evaluate.behaviours and name the file by --recipe"
        raise errors.RecipeError.build(where, got="no behaviours", expected="sentences of a recipe", hint=hint)
    opened, timezone = model.bundle, model.bundle.read_options.timezone
    sentences.check(asked, opened, timezone)
    split = Split.open(home, str(opened.provenance.get("split"))).only("test")
    rows = cluster.call(access_log.digest_of_rows, split, threads=1)
    facts = {"name": model.entry.name, "split": split.digest, "bundle": opened.digest}
    access_log.record(home, rows, **facts, reason="behavioural tests")
    tests = cluster.call(sentences.judge, asked, opened, split, timezone)
    return BehaviourResults(model.entry.name, model.entry.version, tests)
