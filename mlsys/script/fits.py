"""The fit of a family as lines of a script: a function of features, target and weights that gives one that predicts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlsys import models
from mlsys.models.boosting import BoostingFamily, has_log_margins
from mlsys.models.interface import FamilyParams
from mlsys.schema import Task, TaskKind
from mlsys.script import source_lines as text


@dataclass(frozen=True)
class Fitted:
    """A model of a family as it was fitted: alone, or as a member of a mean.

    Attributes
    ----------
    params
        Those that the fit was asked for; `rounds` is how many the model kept, None for families without.
    names, types, signs
        Of the features, as in `mlsys.models.matrix.Matrix`.
    is_refitted
        It was fitted once more, asked for the rounds that it has; else a fit of more rounds was cut to them.
    """

    family: str
    params: FamilyParams
    rounds: int | None
    task: Task
    names: tuple[str, ...]
    types: tuple[str, ...]
    signs: tuple[int, ...]
    seed: int
    threads: int
    num_rows: int
    is_refitted: bool = False


@dataclass
class FitLines:
    """Lines of a function that fits, above it those of its settings; and what they need, as in `FeatureLines`."""

    lines: list[str] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    imports: list[str] = field(default_factory=list)


def written(fitted: Fitted, name: str) -> FitLines:
    """Write the function `name` (X, y, weight) that fits the model."""
    made = FitLines()
    WRITERS.get(fitted.family, _write_from_mlsys)(made, fitted, name)
    return made


def _settings(made: FitLines, name: str, values: Mapping[str, Any]) -> str:
    """Set a constant to settings of a library, and give its name."""
    constant = f"{name.upper()}_SETTINGS"
    made.lines += [*text.assigned(constant, values), "", ""]
    return constant


def _outputs(made: FitLines, fitted: Fitted, scores: str) -> str:
    """Source of what scores of a booster say."""
    if fitted.task.is_classification:
        made.called.add("probabilities")
        return f"probabilities({scores})"
    params: Any = fitted.params
    if has_log_margins(fitted.task, params):
        made.called.add("exponential")
        return f"exponential({scores})"
    return f"{scores}.astype(np.float64).reshape(-1)"


def _write_lightgbm(made: FitLines, fitted: Fitted, name: str) -> None:
    from mlsys.models.families import lightgbm as own

    made.called.add("bounded")
    made.imports.append("import lightgbm")
    params: Any = fitted.params
    settings = own.library_params(fitted.task, params, fitted.seed, fitted.threads)
    if any(fitted.signs):
        settings["monotone_constraints"] = list(fitted.signs)
    constant = _settings(made, name, settings)
    bins = {"max_bin": params.max_bin, "num_threads": fitted.threads, "feature_pre_filter": False, "verbosity": -1}
    categories = [j for j, kind in enumerate(fitted.types) if kind == "c"]
    outputs = f".reshape(-1, {len(fitted.task.classes)})" if fitted.task.kind is TaskKind.MULTICLASS else ""
    made.lines += [
        f"def {name}(X, y, weight):",
        f'    """LightGBM, {fitted.rounds} rounds."""',
        *text.assigned("categories", categories, 1),
        *text.assigned("bins", bins, 1),
        "    data = lightgbm.Dataset(bounded(X), y, weight=weight, categorical_feature=categories, params=bins)",
        f"    booster = lightgbm.train({constant}, data, num_boost_round={fitted.rounds})",
        "",
        "    def predict(X):",
        f"        scores = booster.predict(bounded(X), raw_score=True, num_threads=1){outputs}",
        f"        return {_outputs(made, fitted, 'scores')}",
        "",
        "    return predict",
    ]


def _write_xgboost(made: FitLines, fitted: Fitted, name: str) -> None:
    from mlsys.models.families import xgboost as own

    made.called.add("bounded")
    made.imports.append("import xgboost")
    params: Any = fitted.params
    settings = own.library_params(fitted.task, params, fitted.seed, fitted.threads)
    if any(fitted.signs):
        settings["monotone_constraints"] = str(tuple(fitted.signs)).replace(" ", "")
    constant = _settings(made, name, settings)
    kinds = ["c" if kind == "c" else "q" for kind in fitted.types]
    outputs = len(fitted.task.classes) if fitted.task.kind is TaskKind.MULTICLASS else 1
    made.lines += [
        f"def {name}(X, y, weight):",
        f'    """XGBoost, {fitted.rounds} rounds."""',
        *text.assigned("kinds", kinds, 1),
        *text.called(
            "data = xgboost.QuantileDMatrix(",
            [
                "bounded(X)",
                "y",
                "weight=weight",
                "feature_types=kinds",
                f"max_bin={params.max_bin}",
                "enable_categorical=True",
                f"nthread={fitted.threads}",
            ],
        ),
        f"    booster = xgboost.train({constant}, data, num_boost_round={fitted.rounds})",
        "",
        "    def predict(X):",
        '        scores = booster.inplace_predict(bounded(X), predict_type="margin", missing=np.nan)',
        f"        return {_outputs(made, fitted, f'scores.reshape(-1, {outputs})')}",
        "",
        "    return predict",
    ]


def _write_linear(made: FitLines, fitted: Fitted, name: str) -> None:
    params: Any = fitted.params
    is_class = fitted.task.is_classification
    is_other = fitted.task.loss is not None or (not is_class and params.loss == "absolute")
    if is_other or "t" in fitted.types:
        _write_from_mlsys(made, fitted, name)
        return
    made.called |= {"centre_and_scale", "standardised", "linear_scores"}
    unscaled = [j for j, kind in enumerate(fitted.types) if kind == "e"]
    made.lines += [
        f"def {name}(X, y, weight):",
        f'    """{"Logistic" if is_class else "Ridge"} regression of scikit-learn on standardised features."""',
        *text.assigned("unscaled", unscaled, 1),
        "    centre, scale = centre_and_scale(X, weight, unscaled)",
        "    standard_X = standardised(X, centre, scale)",
    ]
    if is_class:
        _add_logistic(made, fitted, params)
    else:
        _add_ridge(made, fitted, params)
    made.lines += ["", "    return predict"]


def _add_logistic(made: FitLines, fitted: Fitted, params: Any) -> None:
    made.called |= {"probabilities", "of_classes"}
    made.imports.append("from sklearn.linear_model import LogisticRegression")
    made.lines += [
        *text.called(
            "solver = LogisticRegression(", [f"C={1 / params.l2!r}", f"max_iter={params.iterations}", "tol=0.0001"]
        ),
        "    solver.fit(standard_X, y.astype(np.int64), sample_weight=weight)",
        "",
        "    def predict(X):",
        "        scores = linear_scores(standardised(X, centre, scale), solver.coef_.T, solver.intercept_)",
        f"        return of_classes(probabilities(scores), solver.classes_, {len(fitted.task.classes)})",
    ]


def _add_ridge(made: FitLines, fitted: Fitted, params: Any) -> None:
    from mlsys.models.families import linear as own

    made.imports.append("from sklearn.linear_model import Ridge")
    at_once = params.iterations >= min(fitted.num_rows, len(fitted.types)) / own.DIRECT
    solver = "cholesky" if at_once else "sparse_cg"
    made.lines += [
        *text.called(
            "solver = Ridge(", [f"alpha={params.l2!r}", f'solver="{solver}"', f"max_iter={params.iterations}"]
        ),
        "    solver.fit(standard_X, y, sample_weight=weight)",
        "",
        "    def predict(X):",
        "        standard_X = standardised(X, centre, scale)",
        "        return linear_scores(standard_X, solver.coef_.reshape(-1, 1), np.array([solver.intercept_]))[:, 0]",
    ]


def _write_trees(made: FitLines, fitted: Fitted, name: str) -> None:
    """Write an estimator of scikit-learn, by what it says of itself."""
    family: Any = models.family(fitted.family)
    params: Any = fitted.params
    limit = getattr(params, "rows", fitted.num_rows)
    if limit < fitted.num_rows:
        _write_from_mlsys(made, fitted, name)
        return
    estimator: Any = family.estimator(fitted.task, params, fitted.num_rows)
    kind = type(estimator)
    own = {**estimator.get_params(), "random_state": fitted.seed}
    own |= {"n_estimators": params.trees} if "n_estimators" in own else {}
    usual = kind().get_params()
    given = [f"{key}={text.inline(value)}" for key, value in own.items() if value != usual[key]]
    made.called.add("bounded")
    module = "sklearn.tree" if kind.__module__.startswith("sklearn.tree") else "sklearn.ensemble"
    made.imports.append(f"from {module} import {kind.__name__}")
    made.lines += [
        f"def {name}(X, y, weight):",
        f'    """Trees of scikit-learn: {fitted.family}."""',
        *text.called(f"trees = {kind.__name__}(", given),
    ]
    if fitted.task.is_classification:
        made.called.add("of_classes")
        made.lines += [
            "    trees.fit(bounded(X), y.astype(np.int64), sample_weight=weight)",
            "",
            "    def predict(X):",
            "        p = trees.predict_proba(bounded(X))",
            f"        return of_classes(p, trees.classes_, {len(fitted.task.classes)})",
        ]
    else:
        made.lines += [
            "    trees.fit(bounded(X), y, sample_weight=weight)",
            "",
            "    def predict(X):",
            "        return trees.predict(bounded(X))",
        ]
    made.lines += ["", "    return predict"]


def _write_dummy(made: FitLines, fitted: Fitted, name: str) -> None:
    params: Any = fitted.params
    if fitted.task.loss is not None or (not fitted.task.is_classification and params.loss != "squared"):
        _write_from_mlsys(made, fitted, name)
        return
    made.lines += [f"def {name}(X, y, weight):", '    """The best constant, whatever the features."""']
    if fitted.task.is_classification:
        made.lines += [
            f"    counts = np.bincount(y.astype(np.int64), weight, minlength={len(fitted.task.classes)})",
            "    return lambda X: np.tile(counts / counts.sum(), (len(X), 1))",
        ]
    else:
        made.lines += [
            "    mean = np.mean(y) if weight is None else np.average(y, weights=weight)",
            "    return lambda X: np.full(len(X), mean)",
        ]


def _write_from_mlsys(made: FitLines, fitted: Fitted, name: str) -> None:
    """Have mlsys fit, for a family that is more than a call of its library."""
    family = models.family(fitted.family)
    made.imports += [
        f"# The {re.sub(r'[^a-z_0-9]', ' ', fitted.family)} family is more than a call of a library: mlsys fits it.",
        "from mlsys.models import family",
        "from mlsys.models.matrix import Matrix",
        "from mlsys.schema import Task",
    ]
    params, end = fitted.params, ""
    is_boosted = isinstance(family, BoostingFamily)
    if fitted.rounds is not None and (fitted.is_refitted or not is_boosted):
        params = family.of_rounds(params, fitted.rounds)
    made.lines += [
        *text.assigned(f"{name.upper()}_TASK", fitted.task.model_dump(mode="json")),
        *text.assigned(f"{name.upper()}_PARAMS", params.model_dump(mode="json")),
        *text.assigned(f"{name.upper()}_NAMES", list(fitted.names)),
        *text.assigned(f"{name.upper()}_TYPES", list(fitted.types)),
        *text.assigned(f"{name.upper()}_SIGNS", list(fitted.signs)),
        "",
        "",
        f"def {name}(X, y, weight):",
        f'    """{fitted.family} as mlsys fits it."""',
        f"    own, task = family({text.inline(fitted.family)}), Task.model_validate({name.upper()}_TASK)",
        f"    params = own.params.model_validate({name.upper()}_PARAMS)",
        f"    names, types = tuple({name.upper()}_NAMES), tuple({name.upper()}_TYPES)",
        f"    rows = Matrix(X, y, names, types, weight, None, tuple({name.upper()}_SIGNS))",
    ]
    if is_boosted:
        end = f", exactly={fitted.rounds}"
        made.lines += [
            f"    bins = own.bin([rows], None, params, threads={fitted.threads})",
            "    given = bins, task, params",
        ]
        call = "grow(*given"
    else:
        made.lines += ["    given = rows, None, task, params"]
        call = "fit(*given"
    made.lines += [
        f"    model = own.{call}, seed={fitted.seed}, threads={fitted.threads}{end})",
        "    return lambda X: own.predict(model, X)",
    ]


WRITERS: dict[str, Callable[[FitLines, Fitted, str], None]] = {
    "lightgbm": _write_lightgbm,
    "xgboost": _write_xgboost,
    "linear": _write_linear,
    "forest": _write_trees,
    "extra_trees": _write_trees,
    "decision_tree": _write_trees,
    "dummy": _write_dummy,
}
"""How the fit of a family is written; mlsys fits those that are not here."""
