"""How often do the 95 % intervals of test metrics hold the truth? Simulated, where the truth is known.

Claim: between 93 and 97 of 100 intervals hold it, for rows that share something with the other rows of their day or
group, for 20 and 60 days and three strengths of what they share; beside it the interval that takes rows as independent.
Days that are alike to the days before them (memory) are shown too: few such days cannot tell it, and no claim is made.
With ``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import simulations
from simulations import BINARY, REGRESSION, World

NAMES = {"binary": BINARY, "regression": REGRESSION}
LOW, HIGH = 0.93, 0.97


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    claimed = [
        World(kind, units, correlation=correlation, by=by)
        for kind in NAMES
        for by in ("time", "group")
        for units in (20, 60)
        for correlation in (0.02, 0.1, 0.3)
    ]
    claimed += [
        World(kind, units=rows, rows=1, correlation=0.0, unequal=0.0, by="rows") for kind in NAMES for rows in (60, 600)
    ]
    shown = [World(kind, units, memory=0.5) for kind in NAMES for units in (20, 60, 180)]
    print(f"{options.replications} replications, seed {options.seed}; standard error of a share 0.007 for 1,000")
    missed = []
    for world in [*claimed, *shown]:
        began = time.monotonic()
        shares = simulations.coverage(world, NAMES[world.kind], options.replications, options.seed)
        alone = dataclasses.replace(world, by="rows")
        independent = simulations.coverage(alone, NAMES[world.kind], options.replications // 10, options.seed)
        outside = [name for name, share in shares.items() if not LOW <= share <= HIGH]
        missed += [(world, name, shares[name]) for name in outside if world in claimed]
        print(
            f"{describe(world)}  {said(shares)}   as independent rows: {said(independent)}"
            f"  {time.monotonic() - began:.0f} s",
            flush=True,
        )
    print(f"outside {LOW} to {HIGH}: {len(missed)}")
    for world, name, share in missed:
        print(f"  {describe(world)} {name} {share:.3f}")
    if options.json:
        print(json.dumps({"claim": "coverage of 95 % intervals", "ratios": {}, "spread": 0.0, "missed": len(missed)}))


def describe(world: World) -> str:
    what = {"time": "days", "group": "groups", "rows": "rows"}[world.by]
    shared = f"correlation {world.correlation:<4}" + (f" memory {world.memory}" if world.memory else "")
    return f"{world.kind:<10} {world.units:>3} {what:<6} {shared if world.by != 'rows' else 'independent'}"


def said(shares: dict[str, float]) -> str:
    return " ".join(f"{name} {share:.3f}" for name, share in shares.items())


if __name__ == "__main__":
    main()
