"""`cluster.map` is the only fan-out: no other module starts tasks, actors or pools of workers."""

from __future__ import annotations

import ast

from house import modules

STARTS = ("ray.remote", "ray.data", "ray.train", "ray.tune", "ray.serve", "concurrent.futures", "multiprocessing")
"""Modules and functions that start work elsewhere."""

ALLOWED = {
    "mlsys.cluster.tasks": {"ray.remote", "concurrent.futures"},  # `cluster.call`, `submit` and `map` themselves
    "mlsys.train.distributed": {"ray.train"},  # one model fitted by several workers, in step
    "mlsys.cluster.replacement": {"ray.train"},  # what is done when one of them dies
    "mlsys.models.xgboost_workers": {"ray.train"},  # how those of XGBoost find each other
    "mlsys.tune.trials": {"ray.tune"},  # trials that are proposed one after another, and stopped early
    "mlsys.deploy.asgi": {"concurrent.futures"},  # a few threads inside of a replica, for large requests
    "mlsys.tune.points": {"ray.tune"},  # the searcher of those trials
    "mlsys.deploy.gateway": {"ray.serve"},  # endpoints
    "mlsys.deploy.ledger_swap": {"ray.serve"},  # the form of its configurations
    "mlsys.deploy.online": {"ray.serve"},
    "mlsys.deploy.serve_books": {"ray.serve"},
    "mlsys.deploy.serving": {"ray.serve"},
    "mlsys.deploy.shutdown": {"ray.serve"},
    "mlsys.deploy.telemetry": {"ray.serve"},  # metrics of a replica
    "mlsys.deploy.together": {"ray.serve"},  # many models in one replica
    "mlsys.features.executors": {"concurrent.futures"},  # threads inside of a task
    "mlsys.threads": {"concurrent.futures"},  # the same
}


def test_no_other_module_starts_tasks():
    starts = {module.name: found for module in modules() if (found := _starts(module.tree))}
    assert starts == ALLOWED


def _starts(tree):
    names = {name for node in ast.walk(tree) for name in _names(node)}
    return {start for start in STARTS if any(name == start or name.startswith(start + ".") for name in names)}


def _names(node):
    """Dotted names that a piece of code imports or uses."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
