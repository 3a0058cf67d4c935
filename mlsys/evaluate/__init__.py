"""Step 6: how good a model is on rows that nothing before has seen, and whether that is enough.

`metrics` is the table of metrics, `weighted_metrics` their arithmetic under weights. `intervals` says how far a metric
can be trusted, `resampling` which rows belong together for that; `slices`, `thresholds` and `gate` are arithmetic on
arrays too. `scoring` opens the test rows, which `access_log` records and `held_out` reads, and measures; `champion`
compares two models on them; `report` draws the result.
"""

from __future__ import annotations

from mlsys.evaluate import champion, gate, metrics, report, thresholds
from mlsys.evaluate.scoring import score, summary

__all__ = ["champion", "gate", "metrics", "report", "score", "summary", "thresholds"]
