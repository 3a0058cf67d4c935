"""The complete machine-learning workflow on one Ray cluster, from raw tables to a monitored endpoint.

`mlsys.run` executes a recipe, `mlsys.init` writes one for a table, `mlsys.load` gives a model whose
`predict` takes tables of pandas, Polars or Arrow, and `mlsys.operate` has the verbs of names: deploy,
promote, roll back, monitor. Importing this package imports none of the libraries
behind it: the first use of a name does. Types stand in ``__init__.pyi``, so that no module of the package
seems to import the whole of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "FinishedRun": "mlsys.api",
    "Predictor": "mlsys.predict",
    "Recipe": "mlsys.recipe",
    "errors": "mlsys",
    "init": "mlsys.api",
    "load": "mlsys.api",
    "operate": "mlsys",
    "run": "mlsys.api",
}
"""The module of each public name, imported when the name is first asked for."""

__all__ = ["FinishedRun", "Predictor", "Recipe", "__version__", "errors", "init", "load", "operate", "run"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'mlsys' has no attribute {name!r}"
        raise AttributeError(message)
    return import_module(f"mlsys.{name}") if home == "mlsys" else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
