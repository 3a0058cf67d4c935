"""Model files: JSON and NumPy arrays, read without running code; same content, same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mlsys import errors

T = TypeVar("T", bound=BaseModel)


class ModelFacts(BaseModel):
    """Base of what a family stores beside its arrays: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def damaged(file: Path, got: str, expected: str) -> errors.BundleError:
    """The error for a model file that is not what `save` wrote."""
    return errors.BundleError.build(
        f"models: file '{file.name}'", got=got, expected=expected, hint="train again, or restore the bundle from a copy"
    )


def write_facts(file: Path, facts: BaseModel) -> None:
    """Write a model of facts as indented JSON."""
    file.write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_facts(file: Path, model: type[T]) -> T:
    """A JSON file as the model that wrote it.

    Raises
    ------
    BundleError
        The file is missing, or holds other fields or types.
    """
    try:
        return model.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(file, str(error), "a readable file") from None
    except ValidationError as error:
        fault = error.errors()[0]
        got = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise damaged(file, got, f"{model.__name__} as JSON") from None


def read_checked(file: Path, sha256: str) -> bytes:
    """The bytes of a file once their digest is found right.

    Raises
    ------
    BundleError
        The file is missing, or its bytes have changed.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise damaged(file, str(error), "a readable file") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(file, "missing or changed bytes", f"SHA-256 {sha256[:12]}…")
    return data


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays as one ``.npz``; members carry no time, so equal arrays give equal bytes."""
    np.savez_compressed(file, allow_pickle=False, **arrays)


def arrays_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an ``.npz``; equal arrays give equal bytes."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def arrays_of_bytes(data: bytes) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz``; `ValueError` for other bytes, and for Python objects."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as stored:
            files = {name.removesuffix(".npy"): io.BytesIO(stored.read(name)) for name in stored.namelist()}
            return {name: np.lib.format.read_array(array, allow_pickle=False) for name, array in files.items()}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from None


def read_arrays(file: Path, kinds: Mapping[str, tuple[str, int]]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz``, each of the type and number of dimensions that `kinds` says.

    Raises
    ------
    BundleError
        The file is missing or damaged, holds Python objects, or other arrays than expected.
    """
    try:
        arrays = arrays_of_bytes(file.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(file, str(error), "NumPy arrays without Python objects") from None
    got = {name: (array.dtype.str, array.ndim) for name, array in arrays.items()}
    if got != dict(kinds):
        raise damaged(file, str(got), str(dict(kinds)))
    return arrays
