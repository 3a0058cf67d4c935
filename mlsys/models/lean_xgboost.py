"""XGBoost as a worker process of Ray imports it: without its classes for scikit-learn.

XGBoost imports scikit-learn, and that SciPy's statistics, only to derive these classes from its own, which nobody uses
in a process that fits or that connects those that fit. It is a second of CPU for each of the processes with which a fit
begins, and for one that takes the place of another. Everywhere else XGBoost stays whole.
"""

from __future__ import annotations

import sys

import ray
from ray._private.worker import global_worker

NAME = "sklearn"

if global_worker.mode == ray.WORKER_MODE and NAME not in sys.modules:
    sys.modules[NAME] = None  # type: ignore[assignment]  # Python's way to say that it is not there
    try:
        import xgboost  # noqa: F401
    finally:
        del sys.modules[NAME]
