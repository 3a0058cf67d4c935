"""Step 2, exploratory analysis: what the training rows are like, and whether something leaks.

============  ===============================================================
`scan`        one pass over the training rows: mergeable statistics by fold
`sample`      a fixed random sample of rows, for what cannot be merged
`relation`    how well each column alone predicts the target
`alerts`      what is odd about a column, and what is done about it
`leakage`     columns that know the answer, rows in two parts, broken order
`document`    all of it as JSON: what is stored
`render`      the JSON as one HTML page; `cards`, its drawings by column
============  ===============================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlsys.dataset import Split
    from mlsys.explore.leakage import Finding
    from mlsys.schema import Schema, Task
    from mlsys.statistics import TrainStatistics

__all__ = ["describe", "profile"]


def profile(
    split: Split,
    task: Task,
    *,
    schema: Schema | None = None,
    derive: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainStatistics:
    """Statistics of the training rows, fold by fold, from one pass over them.

    Parameters
    ----------
    schema
        The schema with derived features, if there are any; by default that of the split.
    derive
        Derived features as SQL, computed before they are counted.
    """
    from mlsys.explore.scan import profile as run

    return run(split, task, schema=schema, derive=derive, progress=progress)


def describe(
    split: Split,
    task: Task,
    statistics: TrainStatistics,
    findings: Iterable[Finding],
    *,
    derive: Mapping[str, str] | None = None,
    title: str = "",
) -> dict[str, Any]:
    """The profile as JSON: overview, alerts, findings of the leakage scan, and every column.

    Parameters
    ----------
    derive
        Derived features as SQL; those left out are described without their relation to the target.
    """
    from mlsys.explore.document import describe as run

    return run(split, task, statistics, findings, derive=derive, title=title)
