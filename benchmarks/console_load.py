"""The console of a store of 200 models and 5,000 runs, in a browser, from the address to the page that has loaded.

Claim: each page loads in under a second, also the first time, when nothing of the store is in the console's memory.
The store is generated: 25 runs a model, each of a size as a search of 40 trials leaves it, five versions of each model,
and a decision of its monitor. The console is a process of its own, as ``mlsys console`` starts it; the browser is
Chromium without a window, which is a part of the machine's work as for a person at it.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import Browser  # type: ignore[import-not-found]  # of the tests, which have no types
from measured import median, options, say, spread
from mlsys import registry
from mlsys.bundle import Bundle
from mlsys.registry import ledger
from mlsys.registry.ledger import LedgerEntry
from mlsys.store import Store, write_json

CLAIM = "pages of the console of many models and runs"
MODELS, VERSIONS, RUNS, TRIALS = 200, 5, 25, 40
LIMIT_S = 1.0


def main() -> None:
    wanted = options(__doc__, repeats=5).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        fill(store)
        pages = {"models": "", "runs": "runs", "a model": "models/model-100", "its runs": "runs?name=model-100"}
        first: dict[str, list[float]] = {name: [] for name in pages}
        later: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(wanted.repeats):
            with Console(store) as address, Browser() as browser:
                browser.visit("about:blank")
                for name, path in pages.items():
                    seconds = [loaded(browser, f"{address}{path}") for _again in range(2)]
                    first[name].append(seconds[0])
                    later[name].append(seconds[1])
    report(first, later, as_json=wanted.json)


def fill(store: Store) -> None:
    """Write what 5,000 runs of 200 models would have left."""
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for number in range(MODELS):
        name = f"model-{number:03d}"
        for version in range(1, VERSIONS + 1):
            digest = f"{number * VERSIONS + version:064x}"
            model = SimpleNamespace(digest=digest, family="xgboost", params={"rounds": 100})
            metrics = {"roc_auc": 0.7 + version / 100, "log_loss": 0.5}
            registry.register(store, name, cast("Bundle", model), metrics=metrics, facts={"metric": "roc_auc"})
        ledger.write(store, "move", LedgerEntry(name, VERSIONS, model.digest), "champion", reason="newest")
        for run in range(RUNS):
            at = began + dt.timedelta(hours=run * MODELS + number)
            file = store.run_folder(name) / "history" / f"{at:%Y-%m-%dT%H-%M-%S.%f}-{run:08x}.json"
            write_json(file, record(name, at, run))
        decided = {"at": began.isoformat(), "version": VERSIONS, "decision": "keep", "headline": "ok", "seen": {}}
        decided |= {"counts": {}, "num_rows": 1, "judgement": None}
        write_json(store.root / "monitor" / name / "last.json", decided)


def record(name: str, at: dt.datetime, run: int) -> dict[str, object]:
    """A run of nine steps whose search had 40 trials."""
    tries = [
        {"name": f"trial {trial}", "params": {"rounds": trial, "rate": 0.1}, "metrics": {"validation_roc_auc": 0.7}}
        for trial in range(TRIALS)
    ]
    words = "collect explore features selection tune train evaluate deploy monitor".split()
    steps = [
        {"name": word, "number": number, "began": at.isoformat(), "status": "finished", "ended": at.isoformat()}
        for number, word in enumerate(words, 1)
    ]
    steps[4]["tries"] = tries
    facts = {"id": f"{run:032x}", "name": name, "by": "someone", "until": "monitor", "recipe": "name: x\n" * 200}
    ended = {"began": at.isoformat(), "ended": at.isoformat(), "status": "finished", "message": None}
    return {**facts, **ended, "steps": steps}


class Console:
    """``mlsys console`` as a process; a context manager that gives its address."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> str:
        command = [sys.executable, "-c", "from mlsys.cli import main; main()", "console", "--port", "0"]
        command += ["--store", str(self._store.root)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return next(word for word in self._process.stdout.readline().split() if word.startswith("http"))

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(2)
        self._process.wait(30)


def loaded(browser: Browser, address: str) -> float:
    """Seconds from asking for a page to the end of its load, by the browser's own clock."""
    tab = browser.visit(address)
    timing = json.loads(tab.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])"))
    return float(timing["loadEventEnd"]) / 1000


def report(first: dict[str, list[float]], later: dict[str, list[float]], *, as_json: bool) -> None:
    print(f"{CLAIM}: {MODELS} models, {MODELS * RUNS:,} runs")
    for name, runs in first.items():
        print(f"  {name:<10} first {median(runs):.3f} s (spread {spread(runs):.0%}), then {median(later[name]):.3f} s")
    slowest = max(first, key=lambda name: median(first[name]))
    if as_json:
        ratios = {"a second": LIMIT_S / median(first[slowest])}
        facts = {"first_s": {name: median(runs) for name, runs in first.items()}, "slowest": slowest}
        say(CLAIM, ratios, spread(first[slowest]), MODELS * RUNS, facts)


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"took {time.perf_counter() - began:.0f} s", file=sys.stderr)
