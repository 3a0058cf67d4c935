"""Bounds that several packages must agree on, each once, with its unit and its reason.

A bound that one module alone needs stands in that module.
"""

from __future__ import annotations

import datetime as dt

MAX_CODES = 254
"""Categories or bins of one column with a code of their own: with a code for other categories and one
for missing values they fit XGBoost's default of 256 bins."""

MAX_KEYS = 10_000
"""Categories of one column that are numbered where only families with statistics of their own take them apart: as many
as are counted exactly."""

MAX_COLUMNS = 4_096
"""Feature columns that one column may become: 4,096 float32 are 16 GB a million rows."""

ID_LIKE_FRACTION = 0.9
"""Fraction of different values from which a category column identifies rows and does not group them."""

FLOAT32_MAX = 3.4028234663852886e38
"""Largest finite float32, the type of features: a larger number is missing to a model."""

FLOAT32_TINY = 1.1754943508222875e-38
"""Smallest positive float32 in full precision: smaller numbers become 0 where the processor flushes them."""

LAST_YEAR = 2099
"""Times after this year are missing: 9999-12-31 stands for "never" in many tables, and time zone rules end there."""

EPOCH, MICROSECOND = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
"""Point in time from which all stored times count, and their unit."""

DAY_US = 86_400_000_000
"""Microseconds of a day."""

YEAR_1_US, LAST_YEAR_END_US = -62_135_596_800_000_000, 4_102_444_800_000_000
"""Begin of year 1, the first of the calendar, and end of `LAST_YEAR`, in microseconds since 1970 UTC."""

TASK_ROWS, TASK_CELLS = 1 << 17, 1 << 24
"""Rows that one task reads at a time: a tenth of a second of work, against milliseconds to send it, and enough
tasks for a few cores. Of very wide tables fewer: 128 MB of numbers."""


def rows_per_task(num_columns: int) -> int:
    """Rows of a table that one task reads at a time: `TASK_ROWS`, or as many as have `TASK_CELLS`.

    >>> rows_per_task(10), rows_per_task(4_096)
    (131072, 4096)
    """
    return max(1, min(TASK_ROWS, TASK_CELLS // max(1, num_columns)))
