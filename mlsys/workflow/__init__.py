"""The nine steps in order: the readable whole.

==  =========  ==========================================================================
1   collect    source → snapshot: checked rows, joined as of their time, divided into parts
2   explore    training rows → statistics, alerts, leakage scan, report
3   features   statistics → the plan of features, with a reason for each
4   selection  families × folds → leaderboard
7   tune       search space → parameters, judged on validation rows
5   train      family, parameters → bundle
6   evaluate   bundle, test rows → metrics with intervals, gate verdict
8   deploy     bundle → registered version, alias, endpoint
9   monitor    prediction log, labels → drift, performance, decision
==  =========  ==========================================================================

They run in the order of this table: the test rows are opened once, after tuning. Each is
a function of what earlier ones left in the store, so the same command continues a run
that was killed and does nothing when nothing changed (see `run.Run.step`).
"""

from __future__ import annotations

from collections.abc import Callable

from mlsys.recipe import dump
from mlsys.store import write_atomic, write_json
from mlsys.workflow import data, modelling, production, tables
from mlsys.workflow.run import NUMBERS, Run

__all__ = ["NUMBERS", "STEPS", "Run", "run", "tables"]

STEPS: dict[str, Callable[[Run], None]] = {
    "collect": data.collect,
    "explore": data.explore,
    "features": data.features,
    "selection": modelling.selection,
    "tune": modelling.tune,
    "train": modelling.train,
    "evaluate": modelling.evaluate,
    "deploy": production.deploy,
    "monitor": production.monitor,
}
"""The steps in the order in which they run."""


def run(plan: Run, until: str = "monitor") -> Run:
    """Run the steps in order up to and including `until`.

    The resolved recipe is written to ``resolved.yaml`` in the run's folder before the first
    step, what the steps produced to ``result.json`` after the last.

    Raises
    ------
    MlsysError
        A step cannot be done; what earlier steps produced stays, and the next run goes on there.
    """
    write_atomic(plan.folder / "resolved.yaml", dump(plan.recipe).encode())
    for name, step in STEPS.items():
        step(plan)
        if name == until:
            break
    write_json(plan.folder / "result.json", plan.records)
    return plan
