"""Step 6: how good a model is on rows that nothing before has seen, and whether that is enough.

`metrics` is the table of metrics, `weighted_metrics` their arithmetic under weights. `bootstrap`,
`curves`, `slices`, `threshold` and `gate` are arithmetic on arrays too. `scoring` opens the test rows,
which `access_log` records, and measures; `report` draws the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlsys.evaluate import gate, metrics, report, threshold

if TYPE_CHECKING:
    from mlsys.bundle import Bundle
    from mlsys.dataset import Split
    from mlsys.recipe import Recipe
    from mlsys.store import Store

__all__ = ["gate", "metrics", "report", "score", "summary", "threshold"]


def score(
    store: Store,
    bundle: Bundle,
    split: Split,
    recipe: Recipe,
    *,
    reason: str = "evaluate",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Judge a bundle on the test rows; see `mlsys.evaluate.scoring.score`."""
    from mlsys.evaluate import scoring

    return scoring.score(store, bundle, split, recipe, reason=reason, progress=progress)


def summary(evaluation: dict[str, Any]) -> str:
    """Say in one line how many rows there were, the metric with its interval, and the verdict."""
    metric = evaluation["metrics"][evaluation["metric"]]
    value = "not defined" if metric["value"] is None else f"{metric['value']:.4f}"
    ends = "" if metric["low"] is None else f" [{metric['low']:.4f}, {metric['high']:.4f}]"
    verdict = "gate passed" if evaluation["verdict"]["passed"] else "gate FAILED"
    return f"{evaluation['num_rows']:,} test rows, {metric['title']} {value}{ends}, {verdict}"
