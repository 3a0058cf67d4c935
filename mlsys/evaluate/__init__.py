"""Step 6: how good a model is on rows that nothing before has seen, and whether that is enough.

`metrics`, `threshold`, `calibration`, `bootstrap`, `slices` and `gate` are arithmetic on
arrays; `score` opens the test rows and puts them to work, `report` draws the result.
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
    """One line: rows, the metric with its interval, the verdict."""
    found = evaluation["metrics"][evaluation["metric"]]
    value = "not defined" if found["value"] is None else f"{found['value']:.4f}"
    ends = "" if found["low"] is None else f" [{found['low']:.4f}, {found['high']:.4f}]"
    verdict = "gate passed" if evaluation["verdict"]["passed"] else "gate FAILED"
    return f"{evaluation['num_rows']:,} test rows, {found['title']} {value}{ends}, {verdict}"
