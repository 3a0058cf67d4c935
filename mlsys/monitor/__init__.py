"""Step 9: what the endpoint answered, window by window, against what it was made from.

`compare` reads the prediction log once and says of every window whether inputs, predictions
or labels moved, how the model performed where labels have come, and of all together whether
the model should be kept, watched or trained again (`maintain`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys import cluster

if TYPE_CHECKING:
    from mlsys.bundle import Bundle
    from mlsys.monitor.judge import Judgement, LabelSource, LogSource
    from mlsys.recipe import Recipe
    from mlsys.store import Store

__all__ = ["compare"]


def compare(
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource,
    recipe: Recipe,
    *,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Judge the traffic of a bundle, as one task of the cluster.

    Parameters
    ----------
    log
        Parquet files of the prediction log, or folders of them. Rows that other bundles
        answered are counted and left out; a prediction_id that repeats counts once.
    labels
        Table or file with an id, a label and perhaps ``known_at``; None while there are none.
        A label that is null says that none will come.
    baseline
        JSON of the evaluation on the test rows, or a mapping from metric to value. Without
        it performance is shown and not judged.
    as_of
        Labels known only later count as not there yet.

    Returns
    -------
    The judgement; its tables, its JSON and its report are in ``objects/monitor/<digest>/``.

    Raises
    ------
    SourceError
        The log or the labels are not there or cannot be read.
    RecipeError
        The labels lack a key or a label; a slice names no column.
    ContractError
        No label is a class of the task.
    """
    from mlsys.monitor import judge

    progress("reading the prediction log")
    return cluster.call(
        judge.judge,
        store,
        name,
        bundle,
        _absolute(log),
        _absolute(labels),
        recipe=recipe,
        baseline=baseline,
        as_of=as_of,
    )


def _absolute(source: Any) -> Any:
    """Paths as they are on every node: the task does not run in the folder of the caller."""
    if isinstance(source, str | Path):
        return Path(source).absolute()
    return [Path(path).absolute() for path in source] if isinstance(source, list | tuple) else source
