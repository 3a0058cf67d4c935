"""Verbs that watch a model: the monitor."""

from __future__ import annotations

from mlsys.cli.application import NAMES, Labels, RecipeFile, Settings, StoreRoot, app
from mlsys.cli.recipe_verbs import perform


@app.command(rich_help_panel=NAMES)
def monitor(recipe: RecipeFile, settings: Settings = None, store: StoreRoot = None, labels: Labels = None) -> None:
    """9: judge the logged predictions; the exit code says what to do."""
    perform("monitor", recipe, settings, store, labels)
