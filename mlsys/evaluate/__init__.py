"""Step 6: how good a model is on rows that nothing before has seen, and whether that is enough.

`metrics` is the table of metrics, `weighted_metrics` their arithmetic under weights. `bootstrap`,
`curves`, `slices`, `threshold` and `gate` are arithmetic on arrays too. `scoring` opens the test rows,
which `access_log` records, and measures; `report` draws the result.
"""

from __future__ import annotations

from mlsys.evaluate import gate, metrics, report, thresholds
from mlsys.evaluate.scoring import score, summary

__all__ = ["gate", "metrics", "report", "score", "summary", "thresholds"]
