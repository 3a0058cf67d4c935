"""Feature tables for the endpoint: those of a run when it is deployed, later ones without training again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlsys import errors
from mlsys.store import Store
from mlsys.workflow import data
from mlsys.workflow.run import Run

if TYPE_CHECKING:
    from mlsys.features.online.publishing import Published
    from mlsys.features.online.views import FeatureView

__all__ = ["check_machines", "materialize", "publish"]


def publish(run: Run) -> list[Published]:
    """The tables that the run's rows were joined with, for the views of its bundle.

    A table that was published before is left alone, for a newer one may have come since; so
    what is returned are those that are new.
    """
    views = run.bundle.views
    pairs = [(view, run.tables[view.name].digest) for view in views]
    return _bring(run, pairs, whole=True) if pairs else []


def materialize(run: Run, *, rebuild: bool = False) -> list[Published]:
    """Read the sources of the feature tables again and bring what is new to the served model.

    Of a table that only got new files, behind those that the store has taken, these alone are
    published. Otherwise events at a key and time that the store has are replaced, all others
    stay, unless `rebuild`, which makes the store hold what the sources hold now.

    Raises
    ------
    RecipeError
        The recipe joins other tables, or joins them otherwise, than the served model knows.
    RegistryError
        No model of this name is deployed.
    """
    from mlsys import bundle, registry
    from mlsys.collect import snapshot

    recipe = run.recipe
    entry = registry.resolve(run.store, recipe.name, recipe.deploy.alias)
    views = bundle.open(run.store, entry.digest).views
    _check(run, {view.name: view for view in views})
    pairs = []
    for view in views:
        run.console.progress(f"reading {view.name}")
        folder = run.folder / view.name
        taken = snapshot.take_table(
            run.store,
            view.name,
            view.join,
            timezone=view.timezone,
            folder=folder,
            evolution=recipe.data.evolution,
            max_bad_fraction=recipe.data.max_bad_fraction,
        )
        for line in data.told(taken.report, view.name):
            run.console.line(line)
        pairs.append((view, taken.snapshot.digest))
    return _bring(run, pairs, whole=rebuild, again=True)


def _bring(run: Run, pairs: Sequence[tuple[FeatureView, str]], *, whole: bool, again: bool = False) -> list[Published]:
    from mlsys import cluster

    run.console.progress("publishing feature tables")
    settings = run.recipe.deploy
    facts: dict[str, Any] = {
        "history": settings.history,
        "until": dt.datetime.now(dt.UTC),
        "whole": whole,
    }
    check_machines(settings.lookup, cluster.num_nodes())
    return cluster.call(_publish, run.store, settings.lookup, list(pairs), facts, again=again)


def check_machines(lookup: str, num_nodes: int) -> None:
    """Refuse a file as the online store of several machines: its log is in memory that they do not share."""
    if lookup == "sqlite" and num_nodes > 1:
        raise errors.RecipeError.build(
            "recipe: 'deploy.lookup'",
            got=f"sqlite on a cluster of {num_nodes} nodes",
            expected="a store that all of them reach",
            hint="deploy.lookup: redis://host:6379/0; or none, and requests carry the joined columns",
            field="deploy.lookup",
        )


def _publish(
    store: Store, lookup: str, pairs: Sequence[tuple[FeatureView, str]], facts: dict[str, Any], *, again: bool
) -> list[Published]:
    """On one node, one table after another; one that is known is left alone unless `again`."""
    from mlsys.dataset import Snapshot
    from mlsys.features.online import publishing
    from mlsys.features.online.lookup import open_store

    online = open_store(lookup, store.root)
    published = []
    for view, digest in pairs:
        if again or not publishing.holds_table(online, view, digest):
            snapshot = Snapshot.open(store, digest)
            remembered = "" if again else digest
            published.append(publishing.publish_snapshot(online, view, snapshot, digest=remembered, **facts))
            publishing.record_snapshot(store, view, snapshot)
    return published


def _check(run: Run, views: dict[str, FeatureView]) -> None:
    """The served model looks up what it was trained with; publishing anything else would reach nobody."""
    wanted = run.recipe.features.joins
    zone = run.recipe.data.timezone
    different = sorted(
        name
        for name in wanted.keys() | views.keys()
        if name not in wanted or name not in views or views[name].join != wanted[name] or views[name].timezone != zone
    )
    if different or not views:
        raise errors.RecipeError.build(
            "materialize: 'features.joins'",
            got=f"other definitions of {', '.join(different)}" if different else "no feature tables",
            expected="the feature tables of the served model",
            hint="`mlsys deploy` with this recipe serves a model that knows them",
            field="features.joins",
        )
