"""Learning rates at which boosting comes to its end in the time of a trial, from the measured seconds of a round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import models, train
from mlsys.models.boosting import rate_in_time
from mlsys.models.interface import FamilyParams
from mlsys.schema import Task


def in_time(
    prepared: train.Prepared,
    task: Task,
    family: str,
    params: FamilyParams,
    metric: str,
    *,
    seconds: float,
    **how: Any,
) -> Mapping[str, float]:
    """The learning rate with which boosting ends in so many `seconds`, as a parameter; nothing where it stays as it is.

    The other arguments are those of `train.round_seconds`, which fills the `bins` of `train.judged`.
    """
    before = getattr(params, "learning_rate", None)
    if before is None or models.family(family).max_rounds(params) is None:
        return {}
    round_s = train.round_seconds(prepared, task, family, params, metric, seconds=seconds, **how)
    rate = rate_in_time(before, seconds / round_s, task)
    return {} if rate == before else {"learning_rate": rate}
