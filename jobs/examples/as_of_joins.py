"""Joins as of a time: orders with what was known of their customer then, and a late entry that changes nothing.

python jobs/examples/as_of_joins.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import mlsys

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "as_of_joins")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)

# 200 customers with visits; 2,000 orders, of which those after many recent visits are mostly paid by card.
num_visits, num_orders, start = 6_000, 2_000, pd.Timestamp("2024-01-01", tz="UTC")
visits = pd.DataFrame({
    "customer": rng.integers(0, 200, num_visits),
    "visited_at": start + pd.to_timedelta(rng.uniform(0, 90, num_visits), "D"),
    "pages": rng.poisson(5, num_visits),
}).sort_values("visited_at")  # fmt: skip
visits["recorded_at"] = visits["visited_at"] + pd.Timedelta("1h")  # when the table learned of it
orders = pd.DataFrame({
    "order_id": np.arange(num_orders),
    "customer": rng.integers(0, 200, num_orders),
    "ordered_at": start + pd.to_timedelta(rng.uniform(14, 90, num_orders), "D"),
})  # fmt: skip


def recent_pages(order: pd.Series) -> int:
    """Pages that a customer saw in the week up to an order, counted the slow way."""
    age = order["ordered_at"] - visits["visited_at"]
    return int(visits.loc[(visits["customer"] == order["customer"]) & age.between("1h", "7D", "left"), "pages"].sum())


seen = orders.apply(recent_pages, axis=1)
orders["by_card"] = seen + rng.normal(0, 4, num_orders) > seen.median()
orders.to_csv(folder / "orders.csv", index=False)
visits.to_parquet(folder / "visits.parquet", index=False)

recipe = {
    "name": "orders",
    "target": "by_card",
    "data": {"source": str(folder / "orders.csv"), "id": "order_id", "time": "ordered_at", "ignore": ["customer"]},
    "features": {
        "joins": {
            "visits": {
                "source": str(folder / "visits.parquet"),
                "keys": ["customer"],
                "time": "visited_at",
                "known_at": "recorded_at",
                "columns": ["pages"],
                "aggregates": {
                    "pages_7d": {"function": "sum", "column": "pages", "window": "7d"},
                    "visits_7d": {"function": "count", "window": "7d"},
                },
            }
        }
    },
    "split": {"by": "time"},
    "selection": {"families": ["linear", "xgboost"]},
    "tune": {"trials": 0},
}
done = mlsys.run(recipe, until="evaluate", store=folder / "store", cluster=False)
print(f"\n{done.family}: ROC AUC {done.metrics['roc_auc']:.3f}")

# A visit that is written down after all orders, whatever day it is dated to, changes no training row and no model.
late = visits.sample(500, random_state=0).assign(recorded_at=start + pd.Timedelta("200D"), pages=1_000)
pd.concat([visits, late]).to_parquet(folder / "visits.parquet", index=False)
again = mlsys.run(recipe, until="evaluate", store=folder / "store", cluster=False, quiet=True)
print("500 visits recorded late:", "the same model" if again.bundle == done.bundle else "another model")

# At prediction time the keys are enough: the joined columns are looked up as of each row's time. (Without an endpoint
# nothing is published, so here the table carries them.)
rows = orders.head(2)[["order_id", "customer", "ordered_at"]].assign(pages=[4, 5], pages_7d=[40, 2], visits_7d=[8, 1])
print(done.predictor().predict(rows, extra="ignore"))
