"""The command line: recipe verbs make models, name verbs operate what is registered.

A recipe verb runs the recipe up to and including its step; steps whose inputs did not change are not run
again. ``jobs/<step>.py`` does the same with ``--recipe``. A name verb never runs a step of a recipe.

====  =============================================================================
exit  meaning
====  =============================================================================
0     done
1     the model did not pass its gate, or a behavioural test; a replay gave another bundle
2     something must be mended first: the recipe, the data, the cluster
3, 4  of ``monitor``: watch the model, or train it again (`mlsys.monitor.decision`)
3     of ``profile``: a column drifted, is gone or of another kind
5     of ``reproduce``: it gave another bundle, or the store lacks what it is made of
70    a fault of mlsys itself; its traceback is kept in the store
130   interrupted
====  =============================================================================

==================  =============================================================
`application`       the application, its groups of verbs, arguments that verbs share
`endings`           exit codes: every error becomes a message
`recipe_verbs`      run, a verb a step, init, materialize, schema
`maintain_verbs`    maintain
`name_verbs`        deploy, promote, rollback, undeploy, models, history, open, predict, replay
`batch_verbs`       batch submit, batch list, batch show, batch cancel
`registry_verbs`    registry add, registry sync
`together_verbs`    together serve, show, stop
`watch_verbs`       monitor, alerts, labels
`table_verbs`       profile
`card_verbs`        card, behaviours
`provenance_verbs`  reproduce, why, lineage
`cluster_verbs`     up, down, status, console, env, logs, gc
`key_verbs`         keys add, list, rotate, revoke
`jobs`              the same for the files of ``jobs/``
==================  =============================================================
"""

from __future__ import annotations

from mlsys.cli import (  # noqa: F401  (the verbs)
    batch_verbs,
    card_verbs,
    cluster_verbs,
    key_verbs,
    maintain_verbs,
    name_verbs,
    provenance_verbs,
    recipe_verbs,
    registry_verbs,
    table_verbs,
    together_verbs,
    watch_verbs,
)
from mlsys.cli.application import app
from mlsys.cli.endings import exit_codes
from mlsys.cli.jobs import job

__all__ = ["app", "job", "main"]


def main() -> None:
    """Entry point of the console script: errors become messages and exit codes, never tracebacks."""
    with exit_codes():
        app(standalone_mode=True)
