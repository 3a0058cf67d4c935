"""Step 2, exploratory analysis: a profile of the training rows, alerts, and a scan for leakage.

================  ==================================================================
`scan`            one pass over the training rows: statistics by fold, a sample, row hashes
`univariate`      strength of each column alone as a predictor of the target
`alerts`          alerts about the table, its columns and pairs of them
`leakage`         columns that know the answer, rows in two parts, broken order
`associations`    pairs of columns, missing values and time, as JSON
`document`        the whole profile as JSON: what is stored
`report`          the JSON as one HTML page
`report_columns`  its table of columns and a card for each
================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlsys.dataset import Split
    from mlsys.explore.leakage import Finding
    from mlsys.explore.scan import Profile
    from mlsys.schema import Schema, Task

__all__ = ["describe", "profile"]


def profile(
    split: Split,
    task: Task,
    *,
    schema: Schema | None = None,
    derive: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Scan the training rows once: statistics by fold, a sample, a hash of each row.

    Parameters
    ----------
    schema
        The schema with derived features, if there are any; by default that of the split.
    derive
        Derived features as SQL, computed before they are counted.
    """
    from mlsys.explore import scan

    layout = scan.layout(split, schema or split.schema, task, derive or {})
    return scan.profile(split, task, schema=schema, derive=derive, layout=layout, progress=progress)


def describe(
    split: Split, task: Task, profile: Profile, findings: Iterable[Finding], *, title: str = ""
) -> dict[str, Any]:
    """Write the profile as JSON: overview, alerts, findings of the leakage scan, every column. Reads no rows."""
    from mlsys.explore.document import describe as run

    return run(split, task, profile, findings, title=title)
