"""Step 9: monitor the endpoint's predictions, window by window, against the rows that its model was made from.

`compare` reads the prediction log once and judges for every window whether inputs, predictions
or labels drifted and, where labels have come, how the model performs. Over all windows it
decides whether to keep the model, watch it or train it again.

Order of the modules: `judge` runs the step; `log_scan` sorts the log's rows into `windows` and
joins `labels`; `reference` has the training rows' bins; `drift`, `significance` and
`drift_alarms` judge distributions, `performance` metrics and calibration; `decision` concludes;
`metric_tables` and `report` write what is stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys import cluster
from mlsys.readers import registry

if TYPE_CHECKING:
    from mlsys.bundle import Bundle
    from mlsys.monitor.judge import Judgement, LogSource
    from mlsys.monitor.labels import LabelSource
    from mlsys.recipe import Recipe
    from mlsys.store import Store

__all__ = ["compare"]


def compare(
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource | None,
    recipe: Recipe,
    *,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Judge the predictions of a bundle in one task of the cluster.

    Parameters
    ----------
    log
        Parquet files of the prediction log, or folders of them. Rows that other bundles
        answered are counted and left out; a repeated prediction_id counts once.
    labels
        Table or file with an id, a label and optionally ``known_at``; None if there are none.
        A null label means that none will come.
    baseline
        JSON of the evaluation on the test rows, or a mapping from metric to value. Without
        it performance is shown but not judged.
    as_of
        Labels that became known later are left out, as if they had not come yet.

    Returns
    -------
    The judgement; its JSON, tables and report are in ``objects/monitor/<digest>/``.

    Raises
    ------
    SourceError
        The log or the labels are missing or cannot be read.
    RecipeError
        The labels have no column for the key or the label; a slice names no column.
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
    """Make paths absolute, because the task does not run in the caller's folder."""
    if isinstance(source, str | Path):
        return registry.absolute(source)
    return [registry.absolute(path) for path in source] if isinstance(source, list | tuple) else source
