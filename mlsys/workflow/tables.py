"""Feature tables for the endpoint: those of a run when it is deployed, later ones without training again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlsys import errors
from mlsys.recipe import Recipe
from mlsys.recipe.forecast import PAST
from mlsys.store import Store
from mlsys.workflow import data
from mlsys.workflow.run import StepContext

if TYPE_CHECKING:
    from mlsys.features.online.publishing import Published
    from mlsys.features.online.views import FeatureView


def publish(context: StepContext, views: Sequence[FeatureView], tables: Mapping[str, str]) -> list[Published]:
    """Publish the tables that the rows were joined with, for the views of a bundle; returns those that are new.

    A table that was published before is left alone, for a newer one may have come since. `tables` are
    the digests of their snapshots.
    """
    pairs = [(view, tables[view.name]) for view in views]
    return _publish_all(context, pairs, whole=True) if pairs else []


def materialize(context: StepContext, *, rebuild: bool = False) -> list[Published]:
    """Read the sources of the feature tables again and publish what is new for the served model.

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

    recipe, store = context.recipe, context.store
    entry = registry.resolve(store, recipe.name, recipe.deploy.alias)
    views = bundle.open(store, entry.digest).views
    past = [view for view in views if view.join.source == PAST]
    _check(recipe, {view.name: view for view in views if view not in past}, has_past=bool(past))
    pairs = _past(context, past) if past else []
    for view in (view for view in views if view not in past):
        context.progress(f"reading {view.name}")
        taken = data.take_table(context, view.name, view.join, view.timezone)
        for line in data.messages(taken.report, view.name):
            context.console.line(line)
        pairs.append((view, taken.snapshot.digest))
    return _publish_all(context, pairs, whole=rebuild, again=True)


def _past(context: StepContext, views: Sequence[FeatureView]) -> list[tuple[FeatureView, str]]:
    """Collect the rows again, and write the past of their series for the views of a forecast."""
    from mlsys.collect import forecasting, snapshot

    recipe = forecasting.of_numbers(context.recipe)
    context.progress("reading the rows")
    column, folder = recipe.split.column, context.folder
    taken = snapshot.take(
        context.store, recipe.data, target=recipe.target_column, folder=folder, split_column=column, task=recipe.task
    )
    for line in data.messages(taken.report):
        context.console.line(line)
    joins = {view.name: view.join for view in views}
    past = forecasting.write_past(context.store, taken.snapshot, joins, recipe.target_column)
    return [(view, past.digest) for view in views]


def _publish_all(
    context: StepContext, pairs: Sequence[tuple[FeatureView, str]], *, whole: bool, again: bool = False
) -> list[Published]:
    from mlsys import cluster

    context.progress("publishing feature tables")
    settings = context.recipe.deploy
    facts = {"history": settings.history, "until": dt.datetime.now(dt.UTC), "whole": whole}
    check_machines(settings.lookup, cluster.num_nodes())
    return cluster.call(_publish, context.store, settings.lookup, list(pairs), facts, again=again)


def check_machines(lookup: str, num_nodes: int) -> None:
    """Refuse a file as the online store of several machines: its log is in memory that they do not share."""
    if lookup == "sqlite" and num_nodes > 1:
        where = "recipe: 'deploy.lookup'"
        got = f"sqlite on a cluster of {num_nodes} nodes"
        hint = "deploy.lookup: redis://host:6379/0; or none, and requests carry the joined columns"
        raise errors.RecipeError.build(where, got=got, expected="a store that all of them reach", hint=hint)


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


def _check(recipe: Recipe, views: dict[str, FeatureView], *, has_past: bool = False) -> None:
    """The served model looks up what it was trained with; publishing anything else would reach nobody."""
    joins, zone = recipe.features.joins, recipe.data.timezone
    different = sorted(
        name
        for name in joins.keys() | views.keys()
        if name not in joins or name not in views or views[name].join != joins[name] or views[name].timezone != zone
    )
    if has_past != (recipe.forecast is not None):
        different.append("the forecast")
    if different or not (views or has_past):
        where = "materialize: 'features.joins'"
        got = f"other definitions of {', '.join(different)}" if different else "no feature tables"
        hint = "`mlsys deploy` with this recipe serves a model that knows them"
        raise errors.RecipeError.build(where, got=got, expected="the feature tables of the served model", hint=hint)
