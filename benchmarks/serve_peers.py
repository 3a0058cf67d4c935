"""FastAPI in front of a booster, as a person would write it: with pandas, and by hand with NumPy.

`serve_online.py` starts this file as a server; `prepare` fits the booster and notes columns and categories beside it.
Both servers run on uvicorn with uvloop in one process, answer a body ``{"dataframe_records": [{…}]}`` with the
predicted classes and probabilities, and write no log.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost
from pydantic import BaseModel

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


def by_numpy(folder: Path) -> Any:
    """A FastAPI app that fills a row of NumPy by hand."""
    from fastapi import FastAPI

    booster, columns = _opened(folder)
    codes = {name: levels and {level: code for code, level in enumerate(levels)} for name, levels in columns.items()}
    app = FastAPI()

    @app.post("/invocations")
    async def invocations(body: Body) -> dict[str, Any]:
        X = np.full((len(body.dataframe_records), len(codes)), np.nan, np.float32)
        for row, record in enumerate(body.dataframe_records):
            for place, (name, known) in enumerate(codes.items()):
                value = record.get(name)
                if value is not None:
                    X[row, place] = value if known is None else known.get(str(value), np.nan)
        positive = booster.inplace_predict(X, validate_features=False)
        return _answer(positive)

    return app


def by_pandas(folder: Path) -> Any:
    """A FastAPI app that makes a frame of categories of each request, as the library's examples do."""
    import pandas as pd
    from fastapi import FastAPI

    booster, columns = _opened(folder)
    app = FastAPI()

    @app.post("/invocations")
    async def invocations(body: Body) -> dict[str, Any]:
        frame = pd.DataFrame(body.dataframe_records).reindex(columns=list(columns))
        for name, levels in columns.items():
            if levels is None:
                frame[name] = frame[name].astype("float32")
            else:
                frame[name] = pd.Categorical(frame[name].astype(object), categories=levels)
        positive = booster.predict(xgboost.DMatrix(frame, enable_categorical=True), validate_features=False)
        return _answer(positive)

    return app


def _opened(folder: Path) -> tuple[xgboost.Booster, dict[str, list[str] | None]]:
    booster = xgboost.Booster(model_file=folder / "peer.ubj")
    booster.set_param({"nthread": 1})
    return booster, json.loads((folder / "peer.json").read_text())


def _answer(positive: np.ndarray) -> dict[str, Any]:
    return {
        "predictions": (positive >= 0.5).tolist(),
        "probabilities": np.column_stack([1 - positive, positive]).tolist(),
    }


APPS = {"numpy": by_numpy, "pandas": by_pandas}


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", choices=APPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    wanted = parser.parse_args()
    app = APPS[wanted.app](wanted.folder)
    uvicorn.run(app, host="127.0.0.1", port=wanted.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
