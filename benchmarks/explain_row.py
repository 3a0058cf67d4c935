"""One explained row beside one that is only predicted, for each family that has exact contributions.

A row is a record of JSON values, as a request brings it: checked, its features computed, predicted, and explained by
its five largest contributions. The models are fitted to the first 50,000 flights of a table of 20 columns, boosting
with 100 rounds, XGBoost of depth 6. Another contender is ``shap.TreeExplainer`` on the same XGBoost model and the
finished matrix, where that package is installed; it is no dependency of ours. All run without a server.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batch_model import DEPTH, ROUNDS, fitted
from flights_table import FEATURES, flights
from measured import median, options, repeat, say, spread
from mlsys.predict import Predictor
from mlsys.store import Store

CLAIM = "an explained row beside a predicted one"
MODELS: dict[str, dict[str, Any]] = {
    "linear": {}, "xgboost": {"rounds": ROUNDS, "max_depth": DEPTH}, "lightgbm": {"rounds": ROUNDS}, "forest": {},
}  # fmt: skip
TRAINED, MOST = 50_000, 5
ROWS = {"forest": 20}
"""Rows a run of a family whose rows take long; of the others 300."""


def main() -> None:
    wanted = options(__doc__, repeats=5).parse_args()
    print(f"{CLAIM}, microseconds\n  {'':<22}{'predicted':>11}{'explained':>11}{'ratio':>8}{'spread':>8}")
    facts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        for family, settings in MODELS.items():
            predictor = Predictor(fitted(store, family, settings, TRAINED))
            rows = records(ROWS.get(family, 300))
            facts[family] = measured(predictor, rows, wanted.repeats)
            if family == "xgboost" and importlib.util.find_spec("shap"):
                facts["shap, matrix alone"] = {"explained_us": by_shap(predictor, rows, wanted.repeats)}
    for name, found in facts.items():
        print(f"  {name:<22}" + "".join(f"{found.get(key, float('nan')):>{form}}" for key, form in SHOWN.items()))
    if wanted.json:
        ratios = {
            name: found["predicted_us"] / found["explained_us"] for name, found in facts.items() if "ratio" in found
        }
        say(CLAIM, ratios, facts["xgboost"]["spread"], 300, {"families": facts})


SHOWN = {"predicted_us": "11,.0f", "explained_us": "11,.0f", "ratio": "8.1f", "spread": "8.0%"}
"""What the table shows, and how."""


def records(number: int) -> list[dict[str, Any]]:
    """Rows spread over the table, as a client sends them."""
    table = flights().select(FEATURES)
    found = table.take(np.linspace(0, table.num_rows - 1, number).astype(int)).to_pylist()
    return [{k: v.isoformat() if isinstance(v, dt.datetime) else v for k, v in row.items()} for row in found]


def measured(predictor: Predictor, rows: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, float]:
    """Microseconds of a row, by both ways in turn."""

    def explained(row: Mapping[str, Any]) -> None:
        conformed = predictor.conform([row])
        predictor.explain(conformed, predictor.conformed_rows(conformed)).largest(MOST)

    plain = each(lambda row: predictor.rows([row]), rows, repeats)
    full = each(explained, rows, repeats)
    found = {"predicted_us": median(plain), "explained_us": median(full), "spread": spread(full)}
    return {**found, "ratio": found["explained_us"] / found["predicted_us"]}


def each(function: Callable[[Mapping[str, Any]], Any], rows: Sequence[Mapping[str, Any]], repeats: int) -> list[float]:
    """Microseconds of a row in each run, after a first run that is not counted."""
    runs = repeat(lambda: [function(row) for row in rows], repeats + 1)[1:]
    return [1e6 * run / len(rows) for run in runs]


def by_shap(predictor: Predictor, rows: Sequence[Mapping[str, Any]], repeats: int) -> float:
    """Microseconds of a row of `shap.TreeExplainer`."""
    import shap

    explainer = shap.TreeExplainer(predictor.bundle.model())
    X = predictor.bundle.program.transform(predictor.contract.arrow(predictor.conform(rows)))
    runs = repeat(lambda: [explainer.shap_values(row[None]) for row in X], repeats + 1)[1:]
    return median(1e6 * run / len(X) for run in runs)


if __name__ == "__main__":
    main()
