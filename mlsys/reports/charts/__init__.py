"""Charts as inline SVG: each function draws plain numbers.

Missing values (None, NaN) are gaps. Every chart takes a keyword `title`, which is also its
name for readers who cannot see it; wide ones scroll sideways on a phone, the others shrink.
"""

from __future__ import annotations

from mlsys.reports.charts.diagnostics import Interval, calibration, curve, intervals
from mlsys.reports.charts.distributions import bars, histogram, histogram_by_class, shares, spark_bars
from mlsys.reports.charts.matrices import Pair, confusion, density, heat, patterns
from mlsys.reports.charts.searches import Axis, Dot, Stretch, Thread, parallel, scatter, stretches
from mlsys.reports.charts.series import Series, lines

__all__ = [
    "Axis",
    "Dot",
    "Interval",
    "Pair",
    "Series",
    "Stretch",
    "Thread",
    "bars",
    "calibration",
    "confusion",
    "curve",
    "density",
    "heat",
    "histogram",
    "histogram_by_class",
    "intervals",
    "lines",
    "parallel",
    "patterns",
    "scatter",
    "shares",
    "spark_bars",
    "stretches",
]
