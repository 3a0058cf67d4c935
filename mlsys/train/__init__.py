"""Step 5: from a split, a family and parameters to a bundle.

===============  =============================================================
`fitting`        the whole step: plan, fit, threshold, reference, bundle
`fold`           one fit on some folds, judged on others: what selection and tuning call
`job`            one model to fit: all that a worker has to know
`validation`     what the validation rows say of a fitted model
`parameters`     parameters of a family as the recipe sets them
`rows`           rows of a part as a matrix; samples and hold-outs that never change
`distributed`    XGBoost on Ray Train, for tables that one task should not hold
===============  =============================================================
"""

from __future__ import annotations

from mlsys.train.fitting import fit
from mlsys.train.fold import FoldResult, Prepared, fit_fold, fit_prepared, prepare

__all__ = ["FoldResult", "Prepared", "fit", "fit_fold", "fit_prepared", "prepare"]
