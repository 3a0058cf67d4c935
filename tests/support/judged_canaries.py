"""How many canaries are judged in a simulation, how often, and how many of them chance may take back."""

import math

from mlsys.deploy.canary_verdict import Tolerance
from mlsys.statistics.sequential import SampleMoments

RUNS, EVERY, BINS = 200, 100, 16
ALPHA = 0.1
MOST = ALPHA * RUNS + 3 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))
"""Canaries taken back among the runs that a rate of α allows, three standard deviations included."""

LOOSE = Tolerance(ALPHA, steps=1, slowdown=1.0, shift=1e-9)
"""Nothing worse is tolerated, so that equality is the border of each hypothesis."""


def moments(values):
    """Number, sum and sum of squares of values."""
    return SampleMoments(len(values), float(values.sum()), float((values**2).sum()))
