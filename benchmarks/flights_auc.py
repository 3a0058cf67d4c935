"""The flights model beside gradient boosting as a person would write it: same columns, same rows.

Claim: ROC AUC on the test rows (October) is at least that of scikit-learn's
HistGradientBoostingClassifier with its defaults, fitted on the same training rows. The
model is the one that ``mlsys run jobs/recipes/flights.yaml`` left in the store; if there is
none, it is made first. With ``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from mlsys import bundle, cli
from mlsys.bundle import Bundle
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
    theirs, seconds = peer(split, served)
    print(f"ROC AUC on {len(truth):,} test rows: mlsys {ours:.4f}, {PEER} {theirs:.4f} (fitted in {seconds:.1f} s)")
    if options.json:
        facts: dict[str, Any] = {"claim": "ROC AUC on the test rows of flights, same columns and rows"}
        facts |= {"ratios": {PEER: ours / theirs}, "spread": 0.0, "rows": len(truth), "mlsys": ours, PEER: theirs}
        print(json.dumps(facts))


def finished(store: Store) -> tuple[Split, Bundle]:
    """The split and the bundle of the flights run, which is done first if need be."""
    result = store.root / "runs" / "flights" / "result.json"
    if not result.is_file():
        cli.execute(RECIPE, "train", None, store.root)
    records = read_json(result)
    return Split.open(store, records["collect"]["split"]), bundle.open(store, records["train"]["bundle"])


def peer(split: Split, served: Bundle) -> tuple[float, float]:
    """ROC AUC of the peer, and the seconds that its fit took."""
    columns = [column.name for column in served.schema.with_role(Role.FEATURE)]
    train, test = (split.table(part, [*columns, "late"]).to_pandas() for part in ("train", "test"))
    for name in columns:
        numeric = pd.api.types.is_numeric_dtype(train[name])
        levels = sorted({*train[name].dropna(), *test[name].dropna()} if not numeric else ())
        for frame in (train, test):
            frame[name] = frame[name].astype(np.float64 if numeric else pd.CategoricalDtype(levels))
    began = time.perf_counter()
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    model.fit(train[columns], train["late"].astype(int))
    seconds = time.perf_counter() - began
    return float(roc_auc_score(test["late"].astype(int), model.predict_proba(test[columns])[:, 1])), seconds


if __name__ == "__main__":
    with cli.exit_codes():
        main()
    sys.exit(0)
