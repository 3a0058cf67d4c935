"""Step 7: a family's parameters, searched on the training rows and judged on validation.

===============  =============================================================
`searching`      the whole step: default first, then trials, then the better one
`trials`         trials on Ray Tune: Optuna proposes, ASHA stops the hopeless
`journal`        finished trials, one line each: what a killed search goes on from
===============  =============================================================
"""

from __future__ import annotations

from mlsys.tune.tuning import Tuned, search

__all__ = ["Tuned", "search"]
