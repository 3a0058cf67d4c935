"""The bundle: the one output of training, a content-addressed folder with all that a prediction needs.

::

    objects/bundle/<digest>/
      bundle.json      format, task, family, parameters, threshold, provenance
      schema.json      columns of a request
      program.json     the fitted feature program
      views.json       feature tables whose columns an endpoint looks up, as the recipe joins them
      model/           what the family saved: JSON, UBJSON, or arrays, never a pickle
      reference.json   statistics of the training rows, of their pictures and of the model's predictions
      example.json     one row that can be sent as a request
      reading.json     how its source was read, if that is not the default and the program does not tell
      manifest.json    size and SHA-256 of each file
      receipt.json     how a run made it (`mlsys.workflow.receipts`): not in the manifest, and no part of the digest

There are no times and no paths in what the manifest lists: the same inputs give the same digest. Every byte of it is
checked on opening.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlsys import errors
from mlsys.recipe import ReadOptions
from mlsys.schema import Role, Schema, Task
from mlsys.store import MANIFEST, Store, digest_json, read_json, verify_folder, write_json

if TYPE_CHECKING:
    from mlsys.features.online.views import FeatureView
    from mlsys.features.program import FeatureProgram
    from mlsys.statistics import TableStatistics

FORMAT = 2
"""Format of the folder; a reader refuses any other."""

REQUEST_ROLES = (Role.FEATURE, Role.ID, Role.TIME, Role.EXPOSURE)
"""What a request may carry: features, its exposure, and as context its id and time; and keys of feature tables, and
the group of a ranking, by which the monitor measures it."""


@dataclass(frozen=True)
class Reference:
    """The reference profile: statistics from the time of training, with which the monitor compares.

    `inputs` are those of the training rows, features and target; `predictions` of the model's predictions on rows
    that it was not fitted on; `images` of image measures (`mlsys.predict.image_measures`), for pictures.
    """

    inputs: TableStatistics
    predictions: TableStatistics | None = None
    images: TableStatistics | None = None


@dataclass(frozen=True)
class Bundle:
    """A stored model with everything around it; parts are read when first asked for."""

    digest: str
    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def task(self) -> Task:
        return Task.model_validate(self.manifest["task"])

    @cached_property
    def schema(self) -> Schema:
        """Columns that a request may carry: features, id and time as context, keys of feature tables."""
        return Schema.model_validate(read_json(self.folder / "schema.json"))

    @property
    def family(self) -> str:
        return str(self.manifest["family"])

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.manifest["params"])

    @property
    def threshold(self) -> float | list[float] | None:
        """Positive-class probability from which a binary model says yes; of several labels, that of each."""
        return self.manifest["threshold"]  # type: ignore[no-any-return]

    @property
    def provenance(self) -> dict[str, Any]:
        """Digests of the inputs of training, versions, seed and chosen plan."""
        return dict(self.manifest["provenance"])

    @cached_property
    def program(self) -> FeatureProgram:
        from mlsys.features.program import FeatureProgram

        return FeatureProgram.from_json(read_json(self.folder / "program.json"))

    @property
    def needed(self) -> list[str]:
        """Columns that a prediction reads: those of the feature program, and the exposure where the task has one."""
        exposure = self.task.exposure
        return self.program.inputs if exposure is None else [*self.program.inputs, exposure]

    @cached_property
    def views(self) -> tuple[FeatureView, ...]:
        """Feature tables, for rows that come without their columns."""
        from mlsys.features.online.views import FeatureView

        return tuple(FeatureView.model_validate(view) for view in read_json(self.folder / "views.json"))

    @cached_property
    def read_options(self) -> ReadOptions:
        """The options with which the source was read, and the time zone of times without one."""
        file = self.folder / "reading.json"
        return ReadOptions.model_validate(read_json(file)) if file.is_file() else _usual_options(self.program)

    @cached_property
    def reference(self) -> Reference:
        from mlsys.statistics import TableStatistics

        parts = read_json(self.folder / "reference.json")
        tables = {name: TableStatistics.from_json(part) for name, part in parts.items() if part is not None}
        return Reference(tables["inputs"], tables.get("predictions"), tables.get("looks"))

    @cached_property
    def example(self) -> dict[str, Any]:
        """One row as JSON values, complete and valid as a request."""
        return dict(read_json(self.folder / "example.json"))

    def model(self) -> Any:
        """The fitted model, loaded anew; keep what you get."""
        from mlsys import models

        return models.load(self.family, self.folder / "model")


def write(
    store: Store,
    *,
    task: Task,
    schema: Schema,
    program: FeatureProgram,
    family: str,
    model: Any,
    params: Mapping[str, Any],
    threshold: float | Sequence[float] | None,
    reference: Reference,
    provenance: Mapping[str, Any],
    example: Mapping[str, Any],
    views: Sequence[FeatureView] = (),
    read_options: ReadOptions | None = None,
) -> Bundle:
    """Store a model as a bundle.

    Parameters
    ----------
    schema
        Schema of the rows trained on; columns with other roles than feature, exposure, id and time
        are left out, keys of `views` apart.
    provenance
        JSON values without times and paths, or the digest would differ from run to run.
    example
        One row of JSON values for the request columns.
    read_options
        How the source was read. Options that are the default, and a zone that the program tells, are not
        written: the digest stays that of a bundle from before they were kept.

    Raises
    ------
    StoreError
        The store cannot be written.
    """
    from mlsys import models

    # 1. State what the model is, without times and paths.
    request = _requiring_exposure(schema.select(request_columns(schema, views, task)))
    facts = {
        "format": FORMAT,
        "task": task.model_dump(mode="json"),
        "family": family,
        "params": dict(params),
        "threshold": threshold,
        "provenance": dict(provenance),
    }
    facts = json.loads(json.dumps(facts, sort_keys=True, ensure_ascii=False))  # no history of a mapping in the digest
    predictions, images = reference.predictions, reference.images
    profile = {"inputs": reference.inputs.to_json(), "predictions": predictions and predictions.to_json()}

    # 2. Write all parts into one folder, which gets the digest of its content.
    def fill(folder: Path) -> None:
        write_json(folder / "bundle.json", facts)
        write_json(folder / "schema.json", request.model_dump(mode="json"))
        write_json(folder / "program.json", program.to_json())
        write_json(folder / "views.json", [view.model_dump(mode="json") for view in views])
        write_json(folder / "reference.json", profile | ({"looks": images.to_json()} if images else {}))
        write_json(folder / "example.json", dict(example))
        if read_options is not None and read_options != _usual_options(program):
            write_json(folder / "reading.json", read_options.model_dump(mode="json"))
        (folder / "model").mkdir()
        models.save(family, model, folder / "model")

    return open(store, store.put("bundle", fill))


def _requiring_exposure(schema: Schema) -> Schema:
    """The schema of requests in which an exposure has to be there and is not negative."""
    facts = {"nullable": False, "minimum": 0.0}
    return Schema(columns=[c.model_copy(update=facts) if c.role is Role.EXPOSURE else c for c in schema])


def _usual_options(program: FeatureProgram) -> ReadOptions:
    """The default, in the zone whose wall clock the features of a program read; UTC where they read none."""
    domains = [getattr(operation, "domain", None) for operation in program.operations]
    zones = (domain.zone for domain in domains if domain is not None and domain.zone != "UTC")
    return ReadOptions(timezone=next(zones, "UTC"))


def request_columns(schema: Schema, views: Sequence[FeatureView], task: Task | None = None) -> list[str]:
    """Names of the columns that a request may carry, in the order of the schema; those of a ranking name its group."""
    keys = {key.column for view in views for key in view.keys} | {task and task.group}
    return [column.name for column in schema if column.role in REQUEST_ROLES or column.name in keys]


def open(store: Store, digest: str) -> Bundle:  # noqa: A001 - read at the call site as bundle.open
    """Open the bundle with this digest, every file checked against its SHA-256.

    Raises
    ------
    StoreError
        There is none with this digest.
    BundleError
        A file is missing or changed, or the folder is of another format.
    """
    return _opened(store.path("bundle", digest), digest)


def open_folder(folder: Path) -> Bundle:
    """Open the bundle in a folder, which may have been copied out of its store; every file is checked.

    Raises
    ------
    BundleError
        The folder holds no bundle, a file is missing or changed, or it is of another format.
    """
    if not (folder / MANIFEST).is_file():
        raise errors.BundleError.build(
            f"bundle: '{folder}'", got=f"no {MANIFEST} there", expected="the folder of a bundle"
        )
    return _opened(folder, digest_json(read_json(folder / MANIFEST)))


def _opened(folder: Path, digest: str) -> Bundle:
    try:
        verify_folder(folder, "bundle", digest)
    except errors.StoreError as error:
        raise errors.BundleError(str(error)) from error
    manifest = read_json(folder / "bundle.json")
    written = manifest.get("format") if isinstance(manifest, dict) else None
    if written != FORMAT:
        raise errors.BundleError.build(
            f"bundle '{digest[:12]}'", got=f"format {written}", expected=f"format {FORMAT}",
            hint="train again with this version of mlsys, or read it with the version that wrote it",
        )  # fmt: skip
    opened = Bundle(digest, folder, manifest)
    try:
        _ = opened.task, opened.schema
    except (KeyError, ValidationError) as error:
        raise errors.BundleError.build(
            f"bundle '{digest[:12]}'", got=str(error), expected=f"the keys of format {FORMAT}"
        ) from error
    return opened
