"""Importance of the parameters of a search: the share of the scores' variance that each explains alone.

Functional analysis of variance on a forest of the trials: Hutter, Hoos, Leyton-Brown, "An Efficient Approach for
Assessing Hyperparameter Importance", ICML 2014, https://proceedings.mlr.press/v32/hutter14.html, as Optuna has it.
What the shares leave of 1 is explained by parameters together. The trials lie closest where scores are good, so a share
says what moved the score in this search, and not over the whole space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.tune.journal import Trial
from mlsys.tune.points import Searched, distribution

FEWEST_TRIALS = 20
"""Trials of a family below which a forest over its parameters says how they were drawn rather than what they do."""


def by_family(families: Mapping[str, Searched], trials: Sequence[Trial], sign: int) -> dict[str, dict[str, Any]]:
    """The shares of the parameters of each family that was tried, or a ``reason`` where there are none.

    Parameters
    ----------
    sign
        The number +1 where larger scores are better, else -1.

    Returns
    -------
    By family ``trials``, those whose values lie in its space, and ``shares`` by parameter or ``reason``.
    """
    tried = dict.fromkeys(trial.family for trial in trials)
    return {
        name: _shares(families[name], [trial for trial in trials if trial.family == name], sign)
        for name in tried
        if name in families
    }


def _shares(family: Searched, trials: Sequence[Trial], sign: int) -> dict[str, Any]:
    inside = [(values, sign * trial.score) for trial in trials if (values := _values(family, trial)) is not None]
    facts = {"trials": len(inside)}
    if not family.space:
        return facts | {"reason": "nothing of it is searched"}
    if len(inside) < FEWEST_TRIALS:
        return facts | {"reason": f"{len(inside)} trials in its space: fewer than {FEWEST_TRIALS} say little"}
    if len({score for _, score in inside}) == 1:
        return facts | {"reason": "all of its trials have the same score"}
    return facts | {"shares": _fanova(family, inside)}


def _values(family: Searched, trial: Trial) -> dict[str, Any] | None:
    """The values of the parameters that are searched; None where they lie outside of the space."""
    values = {name: trial.params.get(name, family.defaults.get(name)) for name in family.space}
    return values if all(values[name] in domain for name, domain in family.space.items()) else None


def _fanova(family: Searched, trials: Sequence[tuple[dict[str, Any], float]]) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: distribution(domain) for name, domain in family.space.items()}
    study = optuna.create_study(direction="maximize")
    for values, score in trials:
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=score))
    shares = optuna.importance.FanovaImportanceEvaluator(seed=0).evaluate(study)
    return {name: float(share) for name, share in shares.items()}
