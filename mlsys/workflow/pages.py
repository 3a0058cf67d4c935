"""Pages that are drawn from the results of steps: of the comparison, and of the search with the time of all three fits.

What they show takes minutes to make and is stored; drawing takes a tenth of a second and depends on later steps, too.
So these pages are no part of a result. They are drawn again where what they show, or the code that draws them, changed.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, cast

from mlsys import budget
from mlsys.code_graph import code_digest
from mlsys.dataset import Split
from mlsys.store import read_json
from mlsys.workflow.results import CollectResult, SelectionResult, TuneResult

if TYPE_CHECKING:
    from mlsys.workflow.run import Run


BEFORE = ("collect", "explore", "features")
"""Steps whose seconds are over when learning begins."""


def comparison(run: Run) -> dict[str, str]:
    """Draw ``selection.html``; returns its path by its name."""
    result = cast("SelectionResult", run.results["selection"])
    document = {
        "name": run.recipe.name,
        "ranking": result.leaderboard,
        "family": result.family,
        "seconds": result.seconds,
    }
    return _drawn(run, "selection", document)


def search(run: Run) -> dict[str, str]:
    """Draw ``tune.html``, with the seconds of the final fit once it is made; returns its path by its name."""
    result = cast("TuneResult", run.results["tune"])
    tuned, phases = run.store.get_json("params", result.stored), _phases(run)
    before = _values(run, "tune")
    if before.get("tuned") == tuned:  # the final fit of this search may have been made by an earlier run
        phases = {**before["phases"], **phases}
    return _drawn(run, "tune", {"name": run.recipe.name, "tuned": tuned, "phases": phases})


def _values(run: Run, step: str) -> dict[str, Any]:
    """The document of a page as it is drawn now; nothing where there is none."""
    file = run.folder / "reports" / f"{step}.json"
    return dict(read_json(file)) if file.is_file() and file.with_suffix(".html").is_file() else {}


def _phases(run: Run) -> dict[str, Any]:
    """Seconds of reading, comparing, searching and the final fit as far as they are made, and their budget."""
    rows = cast("CollectResult", run.results["collect"])
    whole = budget.seconds(run.recipe, Split.open(run.store, rows.split), rows.task)
    before = sum(run.records[step].get("seconds") or 0.0 for step in BEFORE if step in run.records)
    made = [step for step in ("selection", "tune", "train") if step in run.records]
    return {
        "reading": round(budget.read(run.recipe, whole, before), 1),
        **{str(step): run.records[step]["seconds"] for step in made},
        "budget": whole if math.isfinite(whole) else None,
        "shares": [budget.SELECTION, budget.SEARCH],
    }


def _drawn(run: Run, step: str, document: dict[str, Any]) -> dict[str, str]:
    module = f"mlsys.{step}.report"
    document |= {"code": code_digest(run.store, module)}
    path = run.folder / "reports" / f"{step}.html"
    if _values(run, step) != document:
        run.context().report(step, importlib.import_module(module).page(document), document)
    return {step: str(path)}
