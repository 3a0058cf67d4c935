"""The flights model beside gradient boosting as a person would write it: same columns, same rows.

Claim: ROC AUC on the test rows (October) is at least that of scikit-learn's
HistGradientBoostingClassifier with its defaults, fitted on the same training rows. The
peer gets every column that it can take. The time of the row is none of these, so a second
peer is given its weekday by hand. The model is the one that
``mlsys run jobs/recipes/flights.yaml`` left in the store; if there is none, it is made
first. With ``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, cast

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

import mlsys
from mlsys import bundle
from mlsys.bundle import Bundle
from mlsys.cli.endings import exit_codes
from mlsys.dataset import Split
from mlsys.predict import Predictor
from mlsys.schema import Role
from mlsys.store import Store, read_json

RECIPE = "jobs/recipes/flights.yaml"
PEER = "HistGradientBoosting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="folder of the store; .mlsys by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    split, served = finished(Store.open(options.store))
    truth = split.table("test", ["late"])["late"].to_numpy()
    ours = float(roc_auc_score(truth, Predictor(served).table(split.table("test")).score))
    frames = {part: frame(split, served, part) for part in ("train", "test")}
    peers = {PEER: peer(frames, weekday=False), f"{PEER} + weekday": peer(frames, weekday=True)}
    print(f"ROC AUC on {len(truth):,} test rows\n  {'mlsys':<32} {ours:.4f}")
    for name, theirs in peers.items():
        print(f"  {name:<32} {theirs:.4f}   ratio {ours / theirs:.4f}")
    if options.json:
        facts: dict[str, Any] = {"claim": "ROC AUC on the test rows of flights, same columns and rows"}
        ratios = {name: ours / theirs for name, theirs in peers.items()}
        print(json.dumps({**facts, "ratios": ratios, "spread": 0.0, "rows": len(truth), "mlsys": ours, **peers}))


def finished(store: Store) -> tuple[Split, Bundle]:
    """The split and the bundle of the flights run, which is done first if need be."""
    result = store.root / "runs" / "flights" / "result.json"
    if not result.is_file():
        mlsys.run(RECIPE, "train", store=store.root)
    records = read_json(result)
    return Split.open(store, records["collect"]["split"]), bundle.open(store, records["train"]["bundle"])


def frame(split: Split, served: Bundle, part: str) -> pd.DataFrame:
    """Rows of a part: the columns that the model was given, the weekday of the time, and the target."""
    columns = [column.name for column in served.schema.with_role(Role.FEATURE)]
    rows = split.table(part, [*columns, "scheduled_at", "late"]).to_pandas()
    rows["weekday"] = rows.pop("scheduled_at").dt.tz_convert("America/New_York").dt.day_of_week
    return cast("pd.DataFrame", rows)


def peer(frames: dict[str, pd.DataFrame], *, weekday: bool) -> float:
    """ROC AUC of the peer."""
    train, test = (frames[part].drop(columns=[] if weekday else ["weekday"]) for part in ("train", "test"))
    truth = {"train": train.pop("late").astype(int), "test": test.pop("late").astype(int)}
    for name in train.columns:
        numeric = pd.api.types.is_numeric_dtype(train[name])
        levels = sorted({*train[name].dropna(), *test[name].dropna()} if not numeric else ())
        for rows in (train, test):
            rows[name] = rows[name].astype(np.float64 if numeric else pd.CategoricalDtype(levels))
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    model.fit(train, truth["train"])
    return float(roc_auc_score(truth["test"], model.predict_proba(test)[:, 1]))


if __name__ == "__main__":
    with exit_codes():
        main()
    sys.exit(0)
