"""Step 5: from a split, a family and parameters to a bundle.

`fitting` is the whole step, by one task or with `distributed` by Ray Train; `training_job` is all that a worker
has to know. `fold` fits on some folds and judges on others, for selection and tuning; `constraints` are the limits of
a recipe on what these may choose. `rows` reads matrices.
"""

from __future__ import annotations

from mlsys.train.constraints import Constraints
from mlsys.train.fitting import fit
from mlsys.train.fold import FoldResult, Judge, Prepared, fit_prepared, judged, prepare, round_seconds
from mlsys.train.judging import JudgedRows

__all__ = [
    "Constraints",
    "FoldResult",
    "Judge",
    "JudgedRows",
    "Prepared",
    "fit",
    "fit_prepared",
    "judged",
    "prepare",
    "round_seconds",
]
