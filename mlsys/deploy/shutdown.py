"""End the endpoints of a store's cluster in order, before its processes are ended.

A process that is told to end does so at once, with what its prediction log holds. Ray Serve lets a replica answer the
requests in progress and write its log first, for `mlsys.deploy.serving.DRAIN_S` seconds at most.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from mlsys import cluster, errors
from mlsys.cluster.priority import SERVING
from mlsys.deploy import prediction_log
from mlsys.deploy.serving import DRAIN_S
from mlsys.store import Store


def drain(store: Store) -> int:
    """End what is served from a store, if anything is; return the rows that were answered and could not be logged.

    The time is bounded: a cluster that does not react is left to be ended without.
    """
    if not cluster.is_serving(store):
        return 0
    before = _lost(store)
    stopping = threading.Thread(target=_stop, args=(store,), daemon=True)
    stopping.start()
    stopping.join(2 * DRAIN_S)
    (store.root / "cluster" / SERVING).unlink(missing_ok=True)
    return _lost(store) - before


def _stop(store: Store) -> None:
    """Shut Serve down on the cluster of this store, whatever another variable names."""
    from ray import serve

    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)  # it warns of joining in a thread
    os.environ.pop("RAY_ADDRESS", None)
    with contextlib.suppress(errors.ClusterError):
        cluster.connect(store)
        serve.shutdown()


def _lost(store: Store) -> int:
    folders = (store.root / "predictions").glob("*")
    return sum(loss.num_rows for folder in folders for loss in prediction_log.losses(folder))
