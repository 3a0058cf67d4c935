"""The receipt of a bundle: from which rows, recipe, code, libraries and schedule a run made it.

It is the file ``receipt.json`` in the bundle's folder, so it goes wherever the folder is copied. The manifest does not
list it, and the digest knows nothing of it: other code or another name of the recipe may make the same model, byte by
byte, and that is then the same bundle. The receipt says how it was made first. `mlsys.workflow.reproduction` makes the
bundle again from it; `mlsys gc` keeps what it names as long as the bundle.
"""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from mlsys import errors, workflow
from mlsys.bundle import Bundle
from mlsys.code_graph import LIBRARIES, code_parts
from mlsys.recipe import Recipe, secrets
from mlsys.store import Store, read_json, write_json
from mlsys.workflow.results import (
    CollectResult,
    ExploreResult,
    SelectionResult,
    StepResult,
    TrainResult,
    TuneResult,
)
from mlsys.workflow.run import Run

FILE = "receipt.json"
"""Name of the receipt in the folder of a bundle."""

CODE_DIGITS = 16
"""Digits that are kept of the digest of a module: enough to tell two versions of it apart."""

RESULTS: dict[str, type[StepResult]] = {
    "collect": CollectResult,
    "explore": ExploreResult,
    "selection": SelectionResult,
    "tune": TuneResult,
    "train": TrainResult,
}
"""Steps behind a bundle, with the types of their results."""

_LEFT_OUT: dict[str, dict[str, Any]] = {
    "collect": {"taken": {}, "messages": (), "screened": (), "joined": {}},
    "explore": {"report": "", "suspects": (), "warnings": ()},
    "selection": {"leaderboard": {}, "summary": ""},
    "tune": {"summary": ""},
}
"""Fields for people, in which samples of rows may stand: a bundle is copied to places that shall not have them."""


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source: of the rows themselves (``data``), or of the feature table of a join, by its name.

    `source` is as in the recipe, without secrets, and `files` are mappings of ``name``, ``bytes`` and ``sha256``; the
    last two are None where the rows came from no file.
    """

    part: str
    source: str
    files: list[dict[str, Any]]


@dataclass(frozen=True)
class Receipt:
    """The making of a bundle.

    Attributes
    ----------
    run
        Id of the run's record in ``runs/<name>/history``.
    recipe
        As YAML, every default filled in, secrets masked.
    steps
        Results of the steps behind the bundle, as JSON by step, without what only people read.
    code
        Digests of the functions of these steps and of all modules that they import, by name.
    libraries
        Versions of Python and of the libraries that compute, by distribution.
    """

    bundle: str
    name: str
    run: str
    made_at: str
    recipe: str
    steps: dict[str, dict[str, Any]]
    sources: list[SourceFiles]
    code: dict[str, str]
    libraries: dict[str, str]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Receipt:
        """Read what `write` wrote, or a later version with more keys."""
        known = {each.name: value[each.name] for each in fields(cls)}
        return cls(**{**known, "sources": [SourceFiles(**source) for source in value["sources"]]})

    def results(self) -> dict[str, StepResult]:
        """The results of the steps, by step."""
        return {step: kind.from_json(self.steps[step]) for step, kind in RESULTS.items()}

    def objects(self) -> list[tuple[str, str]]:
        """Kind and digest of every object of the store that the steps left."""
        return list(dict.fromkeys(each for result in self.results().values() for each in result.objects))


def find(folder: Path) -> Receipt | None:
    """The receipt in the folder of a bundle; None where there is none that can be read."""
    file = folder / FILE
    try:
        receipt = Receipt.from_json(read_json(file)) if file.is_file() else None
        _ = receipt and receipt.results()
    except (errors.StoreError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return receipt


def read(opened: Bundle) -> Receipt:
    """The receipt of a bundle.

    Raises
    ------
    BundleError
        It has none: no run made it, or one of an earlier version of mlsys.
    """
    receipt = find(opened.folder)
    if receipt is None:
        raise errors.BundleError.build(
            f"reproduce: bundle '{opened.digest[:12]}'",
            got=f"no {FILE} in its folder that can be read",
            expected="the receipt that a run leaves there",
            hint="run its recipe again with this version: a run that comes to the same bundle writes it",
        )
    return receipt


def write(run: Run, trained: TrainResult) -> None:
    """Write the receipt of a bundle to which a run came, unless there is one whose objects are all in the store."""
    folder = run.store.path("bundle", trained.bundle)
    before = find(folder)
    if run.run_record is None or not set(RESULTS) <= set(run.results):
        return  # a step by itself knows nothing of the steps before
    if before is not None and all(run.store.has(*each) for each in before.objects()):
        return
    record, results = run.run_record.value, {step: run.results[step] for step in RESULTS}
    code, libraries = current_code(run.store)
    made = Receipt(
        bundle=trained.bundle,
        name=run.recipe.name,
        run=str(record["id"]),
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        recipe=str(record["recipe"]),
        steps={step: {**result.to_json(), **_LEFT_OUT.get(step, {})} for step, result in results.items()},
        sources=list(_sources(run.store, run.recipe, cast("CollectResult", results["collect"]))),
        code=code,
        libraries=libraries | read_json(folder / "bundle.json")["provenance"].get("versions", {}),
    )
    write_json(folder / FILE, asdict(made))


def current_code(store: Store) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the code behind a bundle by name, and versions of libraries, of this installation."""
    code: dict[str, str] = {}
    libraries = {"python": platform.python_version()}
    for step in RESULTS:
        work = workflow.STEPS[step].work
        entry = f"{work.__module__}:{work.__name__}"
        parts = code_parts(store, entry)
        code |= {name: digest[:CODE_DIGITS] for name, digest in {entry: parts.own, **parts.modules}.items()}
        libraries |= {LIBRARIES[name]: version for name, version in parts.libraries.items()}
    return dict(sorted(code.items())), dict(sorted(libraries.items()))


def _sources(store: Store, recipe: Recipe, collected: CollectResult) -> Iterator[SourceFiles]:
    """The files of the rows, and those of each feature table that the recipe names."""
    yield SourceFiles("data", _shown(recipe.data.source), collected.taken["sources"])
    for name, join in recipe.features.joins.items():
        if name in collected.tables:
            files = store.facts("snapshot", collected.tables[name]).get("sources", [])
            yield SourceFiles(name, _shown(join.source), files)


def _shown(source: str | tuple[str, ...]) -> str:
    return ", ".join(map(secrets.shown, [source] if isinstance(source, str) else source))
