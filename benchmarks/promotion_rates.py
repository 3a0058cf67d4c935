"""How often does one model take another's place by chance, and how often when it is better? Simulated.

Asked: of two models from the same data one is promoted over the other in at most 5 % of the cases; one that is
better by 0.005 in ROC AUC on 20,000 test rows in at least 80 %. With simulated scores of equal models the first holds
(3 %), the second where the scores of the two models correlate by 0.95 (92 %; at 0.9 it is 70 %). With pairs of real
models (gradient boosting, fitted on the same rows with two seeds, or on two samples of them) the first does not hold:
two such models are not equally good, and the interval knows the chance of the test rows and not that of training. So
each pair is judged on 100,000 further rows, too: how often was a model promoted that is the worse one there? With
``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import xgboost as xgb

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from scipy import special

import simulations
from mlsys.evaluate import metrics

ROWS, LOSS = 20_000, 0.005
TRAINED_ON, TESTED_ON, FURTHER = 10_000, 2_000, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--agreement", type=float, nargs="+", default=[0.95], help="correlation of two models' scores")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = {}
    for agreement in options.agreement:
        for loss in (0.0, LOSS):
            rates[f"scores, agreement {agreement}, better by {loss}"] = simulated(options, agreement, loss)
    for how in ("two seeds", "two samples of the rows"):
        rates |= {f"models, {how}{what}": rate for what, rate in fitted(options, how).items()}
    for what, rate in rates.items():
        print(f"{what:<48} promoted {rate:.4f}")
    if options.json:
        print(json.dumps({"claim": "promotions by chance and by merit", "ratios": {}, "spread": 0.0, "rates": rates}))


def simulated(options: argparse.Namespace, agreement: float, loss: float) -> float:
    rng = np.random.default_rng(options.seed)
    done = []
    for case in range(options.cases):
        y, better, worse = simulations.scores(rng, ROWS, loss, agreement)
        done.append(simulations.promoted(y, better, worse, case))
    return float(np.mean(done))


def fitted(options: argparse.Namespace, how: str) -> dict[str, float]:
    """Promotions among pairs of models of 10,000 rows that are compared on 2,000 others, as the default split does.

    The second rate counts those that put the worse model, by the area under the curve of 100,000 further rows, in the
    place of the better one.
    """
    rng = np.random.default_rng(options.seed)
    area = metrics.METRICS["roc_auc"].function
    tested = slice(TRAINED_ON, TRAINED_ON + TESTED_ON)
    promoted, wrong = [], []
    for case in range(options.cases):
        X = rng.normal(size=(TRAINED_ON + TESTED_ON + FURTHER, 10)).astype(np.float32)
        eta = X[:, 0] + 0.7 * X[:, 1] * X[:, 2] + 0.5 * np.sin(2 * X[:, 3]) + 0.3 * X[:, 4]
        y = (rng.random(len(eta)) < special.expit(eta - 0.5)).astype(np.int64)
        new, old = (_scores(X, y, seed, rng if how != "two seeds" else None) for seed in (2 * case, 2 * case + 1))
        promoted.append(simulations.promoted(y[tested], new[tested], old[tested], case))
        further = slice(tested.stop, None)
        wrong.append(promoted[-1] and area(y[further], new[further]) < area(y[further], old[further]))
    return {"": float(np.mean(promoted)), ", the worse one": float(np.mean(wrong))}


def _scores(X: np.ndarray, y: np.ndarray, seed: int, rng: np.random.Generator | None) -> np.ndarray:
    """Scores of all rows by boosted trees that were fitted on the first ones, or on a sample of them."""
    rows = np.arange(TRAINED_ON) if rng is None else rng.integers(0, TRAINED_ON, TRAINED_ON)
    model = xgb.XGBClassifier(
        n_estimators=60, max_depth=4, learning_rate=0.15, subsample=0.8, colsample_bytree=0.8, n_jobs=1,
        random_state=seed, tree_method="hist",
    )  # fmt: skip
    return model.fit(X[rows], y[rows]).predict_proba(X)[:, 1]


if __name__ == "__main__":
    main()
