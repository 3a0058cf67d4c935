"""Step 5: from a split, a family and parameters to a bundle.

===============  =============================================================
`fitting`        the whole step: plan, fit, threshold, reference, bundle
`fold`           a fit on some folds, judged on others, for selection and tuning
`training_job`   a model to fit: all that a worker has to know
`rows`           rows of a part as a matrix; samples and hold-outs that never change
`distributed`    a fit by Ray Train, for tables that one task should not hold
===============  =============================================================
"""

from __future__ import annotations

from mlsys.train.fitting import fit
from mlsys.train.fold import FoldResult, Prepared, fit_prepared, prepare

__all__ = ["FoldResult", "Prepared", "fit", "fit_prepared", "prepare"]
