"""The first thing that a worker of a cluster does: it lets endpoints go before it, unless it is one of theirs.

Ray imports this module in each worker that it starts (`RAY_preload_python_modules`), before the worker gets a task,
whose arguments have it import the libraries of a step: seconds of computing, of which no line is the task's.
"""

from __future__ import annotations

import os

from mlsys.cluster.priority import ENDPOINTS, give_way

if not ENDPOINTS["env_vars"].items() <= os.environ.items():
    give_way()
