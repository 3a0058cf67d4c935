"""A comparison and a search as their pages are given them: made up, with ties, candidates that left and late trials."""

import numpy as np

from mlsys import models
from mlsys.evaluate import metrics
from mlsys.models.families import ensemble
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection import leaderboard
from mlsys.train import FoldResult
from mlsys.tune import evidence, importance, outcome
from mlsys.tune.blending import Blend
from mlsys.tune.journal import Trial
from mlsys.tune.points import Searched

TASK = Task(kind="binary", target="y", classes=("no", "yes"))
LEVELS = {
    "dummy": (0.5, 0.0, 0.4), "linear": (0.781, 0.01, 2.0), "forest": (0.802, 0.012, 31.0),
    "xgboost": (0.811, 0.01, 9.0), "lightgbm": (0.808, 0.011, 4.0), "lightgbm, target means": (0.825, 0.01, 5.5),
    "lightgbm, amounts and target means; log target": (0.8, 0.02, 6.0),
}  # fmt: skip
"""By candidate the mean of its scores, their spread, and its microseconds a row."""

LEFT = {
    "lightgbm, amounts and target means; log target": "another form of the family was better after 2 folds",
    "linear": "linear left after 2 folds: 0.034 of roc_auc behind lightgbm, of which 0.020 could be chance",
    "linear, all terms of texts": "linear, all terms of texts was left out: 3 <b>texts</b> are empty",
}


def comparison(name="made up", *, growing=False):
    """The document of ``selection.html``: five folds, two candidates that left after the last two."""
    rng = np.random.default_rng(1)
    rows = [400 * (fold + 1) if growing else 2_000 for fold in range(5)]
    scores = {
        candidate: [
            FoldResult(float(rng.normal(mean, spread)), 0.8, us, 120 if us > 3 else None, rows[fold], 500)
            for fold in range(5)
        ]
        for candidate, (mean, spread, us) in LEVELS.items()
    }
    for candidate in LEFT:
        if candidate in scores:
            scores[candidate][:3] = [None] * 3
    notes = ["the target has a heavy tail: <said>", "fitted on samples of 40,000 rows a fold"]
    ranking = leaderboard.leaderboard(metrics.METRICS["roc_auc"], scores, notes)
    decided = {"selection.metric": "roc_auc", "features.columns": {"code": ["target"]}}
    value = ranking.to_json() | {"left": LEFT, "decided": decided}
    return {"name": name, "ranking": value, "family": ranking.family, "seconds": 12.3}


def families():
    """Boosters as a search has them."""
    able = [models.family(name) for name in ("lightgbm", "xgboost")]
    return {
        family.name: Searched(
            family.params().model_dump(mode="json"), family.space(TASK), tuple(family.portfolio(TASK, 5_000))
        )
        for family in able
    }


def trials(number=60, seed=0):
    """Trials of two boosters whose score depends on the learning rate alone, one of them far off."""
    rng = np.random.default_rng(seed)
    made, searched = [], families()
    points = [("lightgbm", {}), *(("xgboost", dict(point)) for point in searched["xgboost"].portfolio)]
    points += [("lightgbm", dict(point)) for point in searched["lightgbm"].portfolio[:2]]
    for at in range(number):
        name, params = points[at] if at < len(points) else ("xgboost" if at % 3 == 2 else "lightgbm", drawn(rng, at))
        rate = params.get("learning_rate", 0.05)
        score = 0.83 - 0.05 * abs(np.log10(rate / 0.06)) + 0.001 * rng.normal() - (0.3 if at == 7 else 0.0)
        made.append(Trial(at, name, params, float(score), 100 + at, at % 9 != 4, 0.4 + rng.random(), 1.1 * at + 1))
    return made


def drawn(rng, at):
    rate = float(10 ** rng.uniform(-1.6, -0.6))
    if at % 3 == 2:
        space = {"max_depth": int(rng.integers(3, 10)), "min_child_weight": float(10 ** rng.uniform(-1, 1.5))}
        space |= {"subsample": float(rng.uniform(0.5, 1)), "colsample_bytree": float(rng.uniform(0.4, 1))}
        return {"learning_rate": rate, **space, "reg_lambda": float(10 ** rng.uniform(-2, 2))}
    return {
        "learning_rate": rate,
        "num_leaves": int(rng.integers(4, 255)),
        "min_data_in_leaf": int(rng.integers(1, 100)),
        "bagging_fraction": float(rng.uniform(0.5, 1)),
        "feature_fraction": float(rng.uniform(0.4, 1)),
        "lambda_l2": float(10 ** rng.uniform(-1.9, 1.9)),
        "extra_trees": bool(at % 2),
    }


def search(name="made up", *, number=60, mean=True):
    """The document of ``tune.html``, with the mean of two trials or the best one."""
    done, searched, metric = trials(number), families(), metrics.METRICS["roc_auc"]
    best = outcome.best_trial("lightgbm", metric, done, 0.5)
    other = next(trial for trial in done if trial.family == "xgboost")
    blend = Blend({0: 0.65, 1: 0.35}, best.score + 0.0021, 0.0021, 0.0008 if mean else 0.004)
    recipe = Recipe.model_validate({"name": "made_up", "target": "y", "data": {"source": "rows.csv"}})
    ended = evidence.why_ended(done, num_trials=200, patience=40, num_first=9, sign=1)
    facts = {
        "best": best.number, "default": 0, "dummy": 0.5, "greater_is_better": True, "judges": ["validation", "0", "1"],
        "seconds": 40.0, "ended": ended, "families": evidence.described(searched),
        "untried": evidence.untried(searched, done, {}, ended)
        + evidence.not_searched(searched, recipe, TASK, 5_000),
        "importance": importance.by_family(searched, done, 1),
        "mean": evidence.of_mean(blend, [best, other]) | ({} if mean else {"reason": "no mean is better <enough>"}),
        "chosen": [best.number, other.number] if mean else [best.number],
    }  # fmt: skip
    tuned = outcome.tuned("lightgbm", {}, metric, done, best, ("fitted on samples of 150,000 rows",), 0.5).to_json()
    members = [(best.family, dict(best.params), 0.65), (other.family, dict(other.params), 0.35)]
    chosen = {"family": "ensemble", "params": ensemble.params_of_members(members), "kept": "mean"}
    chosen |= {"score_tuned": blend.score}
    tuned |= chosen if mean else {"family": best.family, "params": best.params}
    phases = {"reading": 4.5, "selection": 12.3, "tune": 41.5, "train": 9.1, "budget": 80.0, "shares": [0.35, 0.75]}
    return {"name": name, "tuned": tuned | {"search": facts}, "phases": phases}


def nothing_searched(name="made up"):
    """The document of ``tune.html`` where there was nothing to search."""
    tuned = outcome.Tuned(
        "linear", {"l2": 1.0}, "roc_auc", None, None, "default", (), ("the recipe asks for no trials",)
    )
    return {
        "name": name,
        "tuned": tuned.to_json(),
        "phases": {"selection": 2.0, "budget": None, "shares": [0.35, 0.75]},
    }
