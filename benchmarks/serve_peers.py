"""FastAPI in front of a booster, as a person would write it: with pandas, and by hand with NumPy.

`serve_online.py` starts this file as a server; `prepare` fits the booster and notes columns and categories beside it.
Both servers run on uvicorn with uvloop in one process, answer a body ``{"dataframe_records": [{…}]}`` with the
predicted classes and probabilities, and write no log.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from pydantic import BaseModel

Predict = Callable[[list[dict[str, Any]]], dict[str, Any]]
"""Predictions from records."""

PARAMS = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 6, "nthread": 2}
ROUNDS = 100
MAX_LEVELS = 2_000
"""Values of a column of texts beyond which it is an id."""


class Body(BaseModel):
    """A request; FastAPI validates it."""

    dataframe_records: list[dict[str, Any]]


def prepare(folder: Path, table: pa.Table, target: str) -> None:
    """Fit a booster to the columns of a table: numbers as they are, texts as codes; neither times nor ids."""
    X, columns = [], {}
    for name in table.column_names:
        kind = table[name].type
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        values = table[name].to_pylist()
        levels = None if is_number else sorted({str(value) for value in values if value is not None})
        if name == target or pa.types.is_temporal(kind) or (levels and len(levels) > MAX_LEVELS):
            continue
        columns[name] = levels
        X.append(_column(values, levels))
    kinds = ["q" if levels is None else "c" for levels in columns.values()]
    y = np.array(table[target].to_pylist(), np.float32)
    data = xgboost.DMatrix(np.column_stack(X), y, feature_types=kinds, enable_categorical=True)
    xgboost.train(PARAMS, data, ROUNDS).save_model(folder / "peer.ubj")
    (folder / "peer.json").write_text(json.dumps(columns))


def _column(values: list[Any], levels: list[str] | None) -> np.ndarray:
    if levels is None:
        return np.array([np.nan if value is None else value for value in values], np.float32)
    codes = {level: code for code, level in enumerate(levels)}
    return np.array([codes.get(str(value), np.nan) for value in values], np.float32)


class ByHand:
    """Predictions from records by a row of NumPy, filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.booster, columns = _opened(folder)
        self.codes = {
            name: {value: code for code, value in enumerate(levels)} if levels else None
            for name, levels in columns.items()
        }

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        X = np.full((len(records), len(self.codes)), np.nan, np.float32)
        for row, record in enumerate(records):
            for place, (name, known) in enumerate(self.codes.items()):
                value = record.get(name)
                if value is not None:
                    X[row, place] = value if known is None else known.get(str(value), np.nan)
        return _answer(self.booster.inplace_predict(X, validate_features=False))


class ByPandas:
    """Predictions from records by a frame of categories, as the library's examples do it."""

    def __init__(self, folder: Path) -> None:
        self.booster, self.columns = _opened(folder)

    def __call__(self, records: Any) -> dict[str, Any]:
        import pandas as pd

        frame = pd.DataFrame(records).reindex(columns=list(self.columns))
        for name, levels in self.columns.items():
            if levels is None:
                frame[name] = frame[name].astype("float32")
            else:
                frame[name] = pd.Categorical(frame[name].astype(object), categories=levels)
        return _answer(self.booster.predict(xgboost.DMatrix(frame, enable_categorical=True), validate_features=False))


def _opened(folder: Path) -> tuple[xgboost.Booster, dict[str, list[str] | None]]:
    booster = xgboost.Booster(model_file=folder / "peer.ubj")
    booster.set_param({"nthread": 1})
    return booster, json.loads((folder / "peer.json").read_text())


def _answer(positive: np.ndarray) -> dict[str, Any]:
    return {
        "predictions": (positive >= 0.5).tolist(),
        "probabilities": np.column_stack([1 - positive, positive]).tolist(),
    }


def app_of(predict: Predict) -> Any:
    """Make the FastAPI app that answers with these predictions."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/invocations")
    async def invocations(body: Body) -> dict[str, Any]:
        return predict(body.dataframe_records)

    return app


APPS: dict[str, Callable[[Path], Predict]] = {"numpy": ByHand, "pandas": ByPandas}


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", choices=APPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    wanted = parser.parse_args()
    app = app_of(APPS[wanted.app](wanted.folder))
    uvicorn.run(app, host="127.0.0.1", port=wanted.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
