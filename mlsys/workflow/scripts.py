"""A registered model as a script that fits it again: what the store knows of it, collected and written out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsys import bundle, errors, registry, script
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.explore import scan
from mlsys.features import directions
from mlsys.features.operations.target import Target
from mlsys.features.training import TrainingProgram
from mlsys.predict import Predictor
from mlsys.recipe import Recipe, parse
from mlsys.statistics import TrainStatistics
from mlsys.store import Store, read_json, write_atomic
from mlsys.train import training_job
from mlsys.workflow import run_record

IMPORTED = ("catboost", "lightgbm", "mlsys", "numpy", "polars", "pyarrow", "scipy", "sklearn", "torch", "xgboost")
"""Modules that a script may import: a file of such a name beside it would be imported in their place."""


@dataclass(frozen=True)
class WrittenScript:
    """A script that was written: of which version, where it lies, and the file of what it learned beside it."""

    name: str
    version: int
    bundle: str
    script: str
    beside: str

    @property
    def summary(self) -> str:
        """One line, with the command that runs it."""
        return f"wrote {self.script} and {self.beside}: `python {self.script}` fits version {self.version} again"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def write(store: Store, target: str, output: Path | None = None) -> WrittenScript:
    """Write the script of a registered model, ``NAME`` or ``NAME@WHICH``, and the file of what it learned beside it.

    Raises
    ------
    RegistryError
        There is no such version.
    BundleError
        A script cannot repeat its fit, or the store no longer has what it was fitted from.
    """
    name, _, which = target.partition("@")
    entry = registry.resolve(store, name, which or "champion")
    opened = bundle.open(store, entry.digest)
    script.check(opened)
    split = _split(store, opened)
    facts = _facts(store, name, entry.version, opened, split)
    made = script.write(facts)
    file = _file(name, output)
    beside = file.with_suffix(".json")
    write_atomic(beside, json.dumps(made.beside, ensure_ascii=False).encode())
    write_atomic(file, made.source.encode())
    return WrittenScript(name, entry.version, opened.digest, str(file), str(beside))


def _file(name: str, output: Path | None) -> Path:
    """The file to write, whose name must not hide a module that the script imports from beside it."""
    hidden = {*sys.stdlib_module_names, *IMPORTED}
    if output is None:
        return Path(f"{name}_model.py" if name in hidden else f"{name}.py").absolute()
    if output.suffix != ".py" or output.stem in hidden:
        raise errors.RecipeError.build(
            "code: --output",
            got=str(output),
            expected="a file that ends with .py and has not the name of a module that it imports",
            hint=f"--output {name}_model.py",
        )
    return output.absolute()


def _split(store: Store, opened: Bundle) -> Split:
    """The rows that the model was fitted from."""
    digest = opened.provenance.get("split", "")
    try:
        return Split.open(store, digest)
    except errors.StoreError:
        raise errors.BundleError.build(
            f"code: bundle '{opened.digest[:12]}'",
            got=f"no split {digest[:12]} in {store.root}",
            expected="the rows that it was fitted from",
            hint="use the store in which it was trained",
        ) from None


def _facts(store: Store, name: str, version: int, opened: Bundle, split: Split) -> script.Facts:
    records = _records(store, name, opened)
    recipe = run_record.recipe_of(store, name, opened.digest)
    parts = tuple(opened.provenance["fitted_on"])
    return script.Facts(
        title=f"Model '{name}', version {version}: {opened.family}, written out by mlsys.",
        store=store.root.absolute(),
        bundle=opened,
        split=split.digest,
        training=_training(store, opened, split, None if recipe is None else parse(recipe), records),
        parts=parts,
        joins_first=not records or records["tune"].get("judged") is not None,
        num_rows=split.num_rows,
        max_rows=opened.provenance.get("sampled_rows"),
        threads=opened.provenance.get("threads", 1),
        predictions=_predictions(store, name, opened, split),
    )


def _records(store: Store, name: str, opened: Bundle) -> dict[str, Any]:
    """The results of the last run of a name, where it made this bundle."""
    file = store.root / "runs" / name / "result.json"
    records: dict[str, Any] = read_json(file) if file.is_file() else {}
    return records if records.get("train", {}).get("bundle") == opened.digest else {}


def _training(
    store: Store, opened: Bundle, split: Split, recipe: Recipe | None, records: dict[str, Any]
) -> TrainingProgram:
    """The program of the bundle with what its rows to fit on got: means of the other folds, and directions."""
    program = opened.program
    if not any(isinstance(operation, Target) for operation in program.operations):
        signs = () if recipe is None else directions.signs(program, recipe.train.monotone)
        return TrainingProgram(program, {}, signs)
    if recipe is not None:
        digest = records.get("explore", {}).get("statistics")
        statistics = (
            scan.profile(split.only("train"), opened.task).statistics
            if digest is None
            else TrainStatistics.from_json(store.get_json("profile", digest))
        )
        decided = recipe.having(records.get("selection", {}).get("decided", {}))
        fitted = training_job.fit_program(split.schema, statistics, decided, opened.family)
        if fitted.program.digest == program.digest:
            return fitted
    raise errors.BundleError.build(
        f"code: bundle '{opened.digest[:12]}'",
        got="means of the target over categories, and no record of the run that learned them fold by fold",
        expected="the last run of its name, or one whose comparison decided nothing about features",
        hint="run its recipe again",
    )


def _predictions(store: Store, name: str, opened: Bundle, split: Split) -> np.ndarray:
    """The predictions of the stored model for the test rows; that these are opened is recorded."""
    rows = access_log.digest_of_rows(split.only("test"))
    access_log.record(store, rows, name=name, split=split.digest, bundle=opened.digest, reason="a script of the model")
    predicted = Predictor(opened).table(split.only("test").table("test"))
    return np.asarray(predicted.prediction if predicted.probabilities is None else predicted.probabilities)
