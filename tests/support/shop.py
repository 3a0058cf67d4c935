"""A shop whose world changes: rows, predictions and labels of weeks, and a model of them that is maintained."""

import contextlib
import datetime as dt
import io
import json
import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq

import mlsys
from mlsys import registry
from mlsys.console import Console
from mlsys.deploy import prediction_log
from mlsys.deploy.log_writer import LoggedRequest, table_of
from mlsys.recipe import parse
from mlsys.registry import ledger
from mlsys.store import Store
from mlsys.workflow import Run, maintenance, run

MONDAY = dt.datetime(2025, 1, 6, tzinfo=dt.UTC)
WEEK = dt.timedelta(weeks=1)
ROWS = 200
FIRST, DRIFT, YEAR = 12, 20, 52
"""Weeks before the first model, the week in which the world changes, and the weeks of the year."""

RECIPE = """
name: shop
target: y
seed: 3
budget: none
data: {source: rows.csv, id: id, time: at}
split: {until: {train: "2025-03-10", validation: "2025-03-17", test: "2025-03-31"}, folds: 2}
selection: {families: [linear], metric: roc_auc}
train: {family: linear, calibration: none}
tune: {trials: 0}
evaluate: {bootstrap: 50, min_slice_rows: 100}
deploy: {replay: false}
monitor: {min_rows: 50, alerts: [{to: file, path: alerts.jsonl}]}
maintain: {labels: labels.csv, min_new_rows: 300, cooldown: 13d, budget: 6, per: 365d}
"""


def rows_of(week):
    """Rows of a week: what is bought depends on the colour, and from the drift on colours are others."""
    rng = np.random.default_rng(week)
    colours = ("red", "blue") if week < DRIFT else ("lime", "cyan")
    colour, z = rng.integers(0, 2, ROWS), rng.normal(size=ROWS).round(6)
    bought = rng.random(ROWS) < 1 / (1 + np.exp(-(5.0 * colour - 2.5 + 0.7 * z)))
    at = [MONDAY + week * WEEK + WEEK * (number + 0.5) / ROWS for number in range(ROWS)]
    ids = [f"{week}-{number}" for number in range(ROWS)]
    names, y = np.array(colours)[colour], np.where(bought, "yes", "no")
    return pl.DataFrame({"id": ids, "at": at, "colour": names, "z": z, "y": y})


class Shop:
    """A shop whose rows, predictions and labels grow by a week at a time."""

    def __init__(self, folder, week=FIRST, labels=None, store=None):
        self.folder, self.week = folder, week
        self.store = store or Store.open(folder / "store")
        self.labels = rows_of(0).select("id", "y").head(0) if labels is None else labels

    def begin(self, **deploy):
        """The first model is made of the first weeks; `deploy` are other values of that section of the recipe."""
        self.write(FIRST)
        with contextlib.chdir(self.folder):
            recipe = parse(RECIPE).having({f"deploy.{key}": value for key, value in deploy.items()})
            run(Run(recipe, self.store, Console(io.StringIO())), "deploy")
        return self

    def copy(self, folder):
        """The same shop in another folder."""
        shutil.copytree(self.folder, folder)
        return Shop(folder, self.week, self.labels)

    def write(self, weeks, *, num_cut=0, num_empty=0, name="colour"):
        """The rows of the first weeks; the last ones are cut off, or have no z, or a column has another name."""
        rows = pl.concat([rows_of(week) for week in range(weeks)]).with_columns(
            pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            pl.when(pl.int_range(pl.len()) < pl.len() - num_empty).then(pl.col("z")).alias("z"),
        )
        lines = rows.rename({"colour": name}).write_csv().splitlines()
        lines[len(lines) - num_cut :] = [line.rpartition(",")[0] for line in lines[len(lines) - num_cut :]]
        (self.folder / "rows.csv").write_text("\n".join([*lines, ""]))

    def live(self, *, labelled=True, **broken):
        """A week goes by: the champion answers its rows, which come in, and labels of all weeks until now."""
        rows, entry = rows_of(self.week), self.champion
        predictor = mlsys.load(f"shop@{entry.version}", store=self.store.root)
        table = predictor.conform(rows.drop("y").to_arrow())
        at, ids = MONDAY + (self.week + 1) * WEEK, rows["id"].to_list()
        answered = LoggedRequest(predictor, entry, table, predictor.conformed_table(table), ids, at, 1.0)
        day = prediction_log.folder_of(self.store, "shop") / "2025-01-01"
        day.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_of([answered]), day / f"{self.week:04d}.parquet")
        self.week += 1
        if labelled:
            self.labels = pl.concat([rows_of(week).select("id", "y") for week in range(FIRST, self.week)])
            self.labels.write_csv(self.folder / "labels.csv")
        self.write(self.week, **broken)

    def maintain(self, *settings, **options):
        recipe = maintenance.recipe_of(self.store, "shop", settings)
        with contextlib.chdir(self.folder):
            return maintenance.once(self.store, recipe, clock=self.clock, console=Console(io.StringIO()), **options)

    def clock(self):
        return MONDAY + self.week * WEEK

    @property
    def champion(self):
        return registry.resolve(self.store, "shop")

    def versions(self):
        return [entry.version for entry in registry.versions(self.store, "shop")]

    def lines(self):
        return [move.reason for move in ledger.read(self.store) if move.kind == "maintained"]

    def alerts(self):
        lines = (self.store.root / "alerts.jsonl").read_text().splitlines()
        return [(body["kind"], body["event"]) for body in map(json.loads, lines)]
