"""How a contender of `model_quality.py` is judged: its loss, the dummy's, and how far it is behind the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from quality_sets import Prepared

__all__ = ["LEAST_PROBABILITY", "against", "check", "dummy", "loss", "normalised"]

LEAST_PROBABILITY = 1e-6
"""Log loss takes no probability for smaller, so that one impossible class of one row decides nothing."""

TINY = 1e-12
"""A loss of nothing, where one is divided by."""


def loss(case: Prepared, predicted: np.ndarray) -> float:
    """1 - ROC AUC, log loss or RMSE, by the task: lower is better."""
    if case.task == "regression":
        return float(np.sqrt(np.mean((predicted - case.truth) ** 2)))
    if case.task == "binary":
        return float(1.0 - roc_auc_score(case.truth == case.classes[1], predicted[:, 1]))
    raised = np.clip(predicted, LEAST_PROBABILITY, None)
    return float(log_loss(case.truth, raised / raised.sum(axis=1, keepdims=True), labels=case.classes))


def dummy(case: Prepared) -> np.ndarray:
    """The predictions of one who knows the training targets and nothing of a row."""
    if case.task == "regression":
        return np.full(len(case.truth), case.known.mean())
    shares = [(case.known == name).mean() for name in case.classes]
    return np.tile(shares, (len(case.truth), 1))


def check(case: Prepared, predicted: np.ndarray) -> None:
    """Refuse predictions that are not one for each row, or no numbers."""
    expected = (len(case.truth), *([len(case.classes)] if case.classes else []))
    if predicted.shape != expected or not np.isfinite(predicted).all():
        raise ValueError(f"predictions of shape {predicted.shape}, expected numbers of shape {expected}")


def normalised(losses: Mapping[str, float], dummy_loss: float) -> dict[str, float]:
    """Losses of the contenders on a set as fractions of the way from the best to the dummy.

    Where nobody is better than the dummy there is no such way, and everybody has 1.
    """
    best = min(losses.values())
    if best >= dummy_loss:
        return dict.fromkeys(losses, 1.0)
    return {name: (value - best) / (dummy_loss - best) for name, value in losses.items()}


def against(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, Any]:
    """Sets that we win, draw and lose by our losses and a peer's, our largest excess over its loss, and their ratio.

    The ratio is the geometric mean of their loss over ours: above 1 we lose less.
    """
    excess = {name: value / max(theirs[name], TINY) - 1 for name, value in ours.items()}
    worst = max(excess, key=lambda name: excess[name])
    logs = [math.log(max(theirs[name], TINY) / max(value, TINY)) for name, value in ours.items()]
    return {
        "wins": sum(value < theirs[name] for name, value in ours.items()),
        "draws": sum(value == theirs[name] for name, value in ours.items()),
        "losses": sum(value > theirs[name] for name, value in ours.items()),
        "largest_excess": excess[worst],
        "largest_excess_on": worst,
        "ratio": math.exp(fmean(logs)),
    }
