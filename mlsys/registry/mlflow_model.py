"""A bundle as an MLflow model folder: ``MLmodel`` with signature and input example, and the bundle beside it.

::

    MLmodel                 flavour python_function with loader module mlsys.pyfunc, signature, digest
    bundle/                 the bundle as it lies in the store
    input_example.json      one row that can be sent as a request
    requirements.txt        mlsys in the version that wrote it
    python_env.yaml         the version of Python

The signature names the columns and says which may be absent. Their types are MLflow's ``Any``, since MLflow converts
less than the model does (whole numbers to a column of floats, categories, times with a zone are refused) and the
model itself names row, column and value of what does not fit. The exact types stand in ``metadata.mlsys``.
"""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys.bundle import Bundle
from mlsys.schema import Schema, Task
from mlsys.store import write_atomic

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LOADER = "mlsys.pyfunc"
"""Module whose `_load_pyfunc` MLflow calls."""


def write(opened: Bundle, folder: Path) -> None:
    """Write the model folder of a bundle; `folder` must not exist.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    folder.mkdir(parents=True)
    shutil.copytree(opened.folder, folder / "bundle")
    needed = f"mlsys=={version('mlsys')}"
    write_atomic(folder / "requirements.txt", f"{needed}\n".encode())
    python = f"python: {platform.python_version()}\ndependencies:\n- -r requirements.txt\n"
    write_atomic(folder / "python_env.yaml", python.encode())
    model = Model(
        signature=signature(opened.schema, opened.task, needed=opened.needed),
        saved_input_example_info=_write_example(opened.example, folder),
        metadata={
            "mlsys": {"digest": opened.digest, "schema": opened.schema.model_dump(mode="json", exclude_defaults=True)}
        },
    )
    pyfunc.add_to_model(model, loader_module=LOADER, data="bundle", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))


def signature(schema: Schema, task: Task, needed: list[str]) -> ModelSignature:
    """The columns that a request may carry and those that come back; `needed` are the columns that the model reads."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types import Schema as MlflowSchema
    from mlflow.types.schema import AnyType

    anything: Any = AnyType()  # type: ignore[no-untyped-call]
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(anything, column.name, required=column.name in needed and not column.nullable) for column in schema
    ]
    kind = {bool: DataType.boolean, int: DataType.long, str: DataType.string}
    value = kind[type(task.classes[0])] if task.is_classification else DataType.double
    answers: list[ColSpec | TensorSpec] = [ColSpec(value, "prediction")]
    answers += [ColSpec(DataType.double, f"probability_{name}") for name in task.output_names]
    answers += [ColSpec(DataType.boolean, f"prediction_{name}") for name in task.labels]
    return ModelSignature(MlflowSchema(columns), MlflowSchema(answers))


def _write_example(example: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the example as MLflow's own form ``dataframe_split``, and describe the file as ``MLmodel`` has to."""
    name = "input_example.json"
    content = {"columns": list(example), "data": [list(example.values())]}
    write_atomic(folder / name, json.dumps(content, ensure_ascii=False).encode())
    serving = {"dataframe_split": content}
    write_atomic(folder / "serving_input_example.json", json.dumps(serving, ensure_ascii=False).encode())
    return {
        "artifact_path": name,
        "serving_input_path": "serving_input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
