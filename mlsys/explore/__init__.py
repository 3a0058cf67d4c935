"""Step 2, exploratory analysis: what the training rows are like, and whether something leaks.

==============  =====================================================================
`pilot`         a look at some rows: which categories and bins are counted
`scan`          one pass over the training rows: statistics by fold, a sample, row hashes
`relation`      how well each column alone predicts the target
`alerts`        what is odd, and what is done about it; `oddities`, of one column
`leakage`       columns that know the answer, rows in two parts, broken order
`associations`  pairs of columns, gaps and time, for the document
`texts`         what stands in a text column, for the document
`document`      all of it as JSON: what is stored
`render`        the JSON as one HTML page
`listing`       its table of columns
`cards`         a card a column; `contents`, those of texts and pictures
`panels`        what is about all columns
==============  =====================================================================
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
    """What one pass over the training rows sees: statistics fold by fold, a sample, a hash of each row.

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
    split: Split,
    task: Task,
    profile: Profile,
    findings: Iterable[Finding],
    *,
    title: str = "",
) -> dict[str, Any]:
    """The profile as JSON: overview, alerts, findings of the leakage scan, and every column. Reads no rows."""
    from mlsys.explore.document import describe as run

    return run(split, task, profile, findings, title=title)
