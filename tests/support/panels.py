"""Tables of series: values a day of some stores, and runs of a forecast in this process."""

import datetime as dt

import numpy as np
import polars as pl

import mlsys

START = dt.date(2023, 1, 1)


def days(num_stores=3, num_days=400, *, seed=0, late=()):
    """A value a day and store with a week, a level of its own and noise; stores in `late` begin half-way."""
    rng, frames = np.random.default_rng(seed), []
    for store in range(num_stores):
        day = np.arange(num_days // 2 if store in late else 0, num_days)
        level = 20.0 * (store + 1)
        value = level * (1 + 0.4 * np.sin(2 * np.pi * day / 7)) + rng.normal(0, level / 10, len(day))
        frames.append(
            pl.DataFrame({
                "store": [f"s{store}"] * len(day),
                "day": [START + dt.timedelta(int(each)) for each in day],
                "promo": rng.integers(0, 2, len(day)),
                "visitors": value * 3 + rng.normal(0, 1, len(day)),
                "sales": value,
            })
        )  # fmt: skip
    return pl.concat(frames)


def recipe(source, *, horizon="7d", **changes):
    """A recipe that forecasts `sales`."""
    values = {
        "name": "shop",
        "target": "sales",
        "data": {"source": str(source), "time": "day", "known_after": ["visitors"]},
        "forecast": {"series": ["store"], "horizon": horizon},
        "split": {"folds": 3},
        "selection": {"families": ["linear"]},
        "tune": {"trials": 0},
        "evaluate": {"bootstrap": 20},
    }
    return {**values, **changes}


def run(folder, frame, until="evaluate", **changes):
    """Run a forecast of a frame in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "rows.parquet")
    values = recipe(folder / "rows.parquet", **changes)
    return mlsys.run(values, until, store=folder / "store", cluster=False, quiet=True)
