"""The best points of former searches of a name, with which another one begins.

The rows or the recipe have changed since, so scores are not taken over; a point is only tried early. Where there is no
clock a search depends on nothing but its inputs, and begins as any other.

References
----------
Wang et al.: FLAML, MLSys 2021 (starting points); Feurer, Springenberg & Hutter: Initializing Bayesian hyperparameter
optimization via meta-learning, AAAI 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlsys.store import read_json, write_json
from mlsys.tune.journal import Journal
from mlsys.tune.points import Searched

MOST = 2
"""Points that are taken over."""

FILE = "search.json"
"""File beside a journal: what its scores mean."""


def describe(journal: Journal, sign: int) -> None:
    """Write beside the journal which scores are better: the larger ones with sign 1, else the smaller ones."""
    journal.file.parent.mkdir(parents=True, exist_ok=True)
    write_json(journal.file.parent / FILE, {"sign": sign})


def best_points(journal: Journal, families: Mapping[str, Searched]) -> list[tuple[str, dict[str, Any]]]:
    """The best points of the newest other search of the name that these families can try, the best first."""
    others = [file for file in journal.file.parent.parent.glob(f"*/{FILE}") if file.parent != journal.file.parent]
    for file in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True):
        best = _best_of(file.parent, int(read_json(file)["sign"]), families)
        if best:
            return best
    return []


def _best_of(folder: Path, sign: int, families: Mapping[str, Searched]) -> list[tuple[str, dict[str, Any]]]:
    trials = sorted(Journal(folder / "journal.jsonl").trials, key=lambda trial: (-sign * trial.score, trial.number))
    own = [trial for trial in trials if trial.params and trial.family in families]
    able = [trial for trial in own if not trial.params.keys() & set(families[trial.family].fixed)]
    return [(trial.family, dict(trial.params)) for trial in able[:MOST]]
