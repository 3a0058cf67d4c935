"""Forms of features and target that a family is compared in: each is a few values of the recipe.

The usual form is what the recipe says and the automatic choice of features. Another one is offered where the training
rows give a reason for it, and only for what the recipe leaves open, so that nothing that a person stated is changed.
The winner's values are the decision of step 4: later steps run as if the recipe had said them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlsys import models
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features.auto_plan import automatic
from mlsys.features.operations.operation import PlanInputs
from mlsys.models import class_balance
from mlsys.models.boosting import BoostingFamily
from mlsys.recipe import Recipe
from mlsys.schema import Kind, Role, Schema, Task
from mlsys.selection import category_forms, code_forms
from mlsys.selection.leaderboard import LeaderboardEntry, family_of
from mlsys.statistics import TrainStatistics, encode_target
from mlsys.statistics.tails import Tail

MAX_VALUES = 2_000_000
"""Values of the target whose tail is measured; of more rows, every k-th."""

INFLATED = 0.5
"""Share of the rows at the median from which on a median is no prediction: zero nearly everywhere."""


@dataclass(frozen=True)
class CandidateForm:
    """A form: its name ("" for the usual one), the recipe values that make it, and the one family that it is for."""

    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    family: str | None = None

    def apply(self, recipe: Recipe) -> Recipe:
        return recipe.having(self.values)


USUAL = CandidateForm()
LOG_LINK = CandidateForm("log link", {"train.target_transform": "log_link"})
TRANSFORMS = {"log": CandidateForm("log target", {"train.target_transform": "log"}),
              "winsor": CandidateForm("winsorised target", {"train.target_transform": "winsor"})}  # fmt: skip
DIFFERENCE = CandidateForm("difference to the naive forecast", {"train.target_transform": "difference"})


def measure_tail(split: Split, task: Task) -> Tail | None:
    """Measure the tail of the target over the training rows; None for classes, grades, and a loss of the recipe."""
    if task.is_classification or task.is_ranking or task.loss is not None:
        return None
    step = -(-split.num_rows["train"] // MAX_VALUES) or 1
    batches = (b for path in split.paths("train") for b in pq.ParquetFile(path).iter_batches(columns=[task.target]))
    values = [np.asarray(encode_target(batch.column(0), task), np.float64)[::step] for batch in batches]
    return Tail.of(np.concatenate([np.empty(0), *values]))


def metric_for(recipe: Recipe, task: Task, tail: Tail | None) -> metrics.Metric:
    """The metric to compare by: the recipe's, or where it leaves that open, one that a heavy tail does not decide."""
    robust = metrics.usual(task)
    if tail is not None and tail.is_heavy:
        robust = "rmsle" if tail.at_median > INFLATED else "mae"
    return metrics.find(recipe.selection.metric, task.kind, robust)


def target_forms(recipe: Recipe, task: Task, tail: Tail | None, metric: metrics.Metric) -> list[CandidateForm]:
    """The forms of the target to compare where the recipe leaves its transform open, the usual one first."""
    if recipe.train.target_transform != "auto" or tail is None:
        return [USUAL]
    usual = [USUAL] if task.forecast is None else [USUAL, DIFFERENCE]
    links = [LOG_LINK] if metric.functional == "mean" and tail.is_multiplied else []
    if tail.is_heavy:
        return [*usual, *TRANSFORMS.values(), *links]
    is_log = tail.is_skewed or metric.functional == "mean of logarithms"
    return [*usual, TRANSFORMS["log"], *links] if is_log else [*usual, *links]


BALANCED = CandidateForm("weighted classes", {"train.balance": "weights"})


def balance_forms(split: Split, recipe: Recipe, task: Task) -> list[CandidateForm]:
    """Rows as they are and classes weighted, where the recipe leaves that to the comparison and a class is rare."""
    if recipe.train.balance != "auto" or not task.is_classification or task.labels:
        return []
    positions = np.asarray(encode_target(split.table("train", [task.target])[task.target], task), np.intp)
    counts = np.bincount(positions[positions >= 0], minlength=len(task.classes))
    return [USUAL, BALANCED] if class_balance.is_rare(counts) else []


def balance_notes(balances: list[CandidateForm]) -> list[str]:
    """Say that classes are tried with weights, and how the recipe settles it."""
    return (
        ["a class is rare; compared with weighted classes, too (train.balance: none or weights settles it)"]
        if balances
        else []
    )


MAX_FORMS = 6
"""Forms of a family at most: two rounds of folds each, and the rest for the best."""


def feature_forms(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[CandidateForm]:
    """The usual form, times with a trend, and whole numbers that may be codes: as amounts, target means, or both."""
    return [USUAL, *trend_forms(schema, statistics, recipe), *number_forms(schema, statistics, recipe)]


def trend_forms(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[CandidateForm]:
    """Times with the days since training began beside their usual features, where no column is the time of the row."""
    stated, whole = recipe.features.model_dump(mode="json")["columns"], statistics.whole()
    times = [column for column in schema.features if column.kind is Kind.DATETIME and column.name not in stated]
    if not times or schema.name_of(Role.TIME):
        return []
    usual = {column.name: automatic(PlanInputs(column, whole.columns[column.name], "codes")) for column in times}
    ways = {
        name: [*(choice.operation for choice in choices if choice.operation != "drop"), "trend"]
        for name, choices in usual.items()
    }
    return [CandidateForm(TREND, {"features.columns": stated | ways})]


TREND = "trend of times"


def trend_notes(ways: list[CandidateForm], stated: Mapping[str, Any]) -> list[str]:
    """Say which times are tried with a trend, and how the recipe settles it."""
    treated = [way.values["features.columns"] for way in ways if way.name == TREND]
    columns = [name for columns in treated for name in columns if name not in stated]
    if not columns:
        return []
    settled = f"features.columns: {{{columns[0]}: [datetime, trend]}} or {{{columns[0]}: datetime}} settles it"
    return [f"times tried with the days since training began: {', '.join(columns[:MAX_NAMED])} ({settled})"]


def number_forms(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[CandidateForm]:
    """The forms of columns whose whole numbers may be codes: as amounts, as means of the target, as both."""
    amounts = code_forms.candidates(schema, statistics, recipe)
    codes = code_forms.categories(schema, statistics, recipe)
    stated = recipe.features.model_dump(mode="json")["columns"]
    treatments = {
        "target means": {name: ["target", "keys"] for name in amounts},
        "amounts and target means": {name: ["numeric", "target", "keys"] for name in [*amounts, *codes]},
        "amounts": {name: ["numeric"] for name in codes},
    }
    return [CandidateForm(name, {"features.columns": stated | way}) for name, way in treatments.items() if way]


def mean_forms(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[CandidateForm]:
    """For LightGBM, where the recipe asks for it, target means and counts of categories beside their codes."""
    values = category_forms.values(schema, statistics, recipe)
    return [CandidateForm(category_forms.NAME, values, category_forms.FAMILY)] if values else []


def text_forms(schema: Schema, recipe: Recipe) -> list[CandidateForm]:
    """For linear models, texts on all their terms in place of a few leading axes."""
    stated = recipe.features.model_dump(mode="json")["columns"]
    texts = [column.name for column in schema.features if column.kind is Kind.TEXT and column.name not in stated]
    if not texts:
        return []
    values = {"features.columns": stated | {name: ["text", "terms"] for name in texts}}
    return [CandidateForm("all terms of texts", values, SPARSE)]


SPARSE = "linear"
"""Family that takes columns which are zero nearly everywhere without a cost for the zeros."""


def code_notes(ways: list[CandidateForm], stated: Mapping[str, Any]) -> list[str]:
    """Say which columns look like codes, and how the recipe settles it."""
    codes = [way.values["features.columns"] for way in ways if way.values and way.name != TREND]
    columns = list(dict.fromkeys(name for columns in codes for name in columns if name not in stated))
    if not columns:
        return []
    some = ", ".join(columns[:MAX_NAMED]) + (
        f" and {len(columns) - MAX_NAMED} more" if len(columns) > MAX_NAMED else ""
    )
    settled = f"features.columns: {{{columns[0]}: numeric}} or {{{columns[0]}: target}} settles it"
    return [f"whole numbers that may be codes: {some}; compared as amounts and by their target means ({settled})"]


MAX_NAMED = 6
"""Columns that a note names."""


def combined(first: list[CandidateForm], second: list[CandidateForm]) -> list[CandidateForm]:
    """Forms of features and of the target together, the usual one first, `MAX_FORMS` of them."""
    pairs = [(features, target) for features in first for target in second]
    names = ["; ".join(filter(None, (features.name, target.name))) for features, target in pairs]
    values = [{**features.values, **target.values} for features, target in pairs]
    families = [features.family or target.family for features, target in pairs]
    forms = [CandidateForm(*named) for named in zip(names, values, families, strict=True)]
    return sorted(forms, key=lambda form: form.name.count(";"))[:MAX_FORMS]


def of_family(name: str, features: list[CandidateForm], targets: list[CandidateForm]) -> list[CandidateForm]:
    """The forms in which a family is compared: one that looks at no feature has the usual one alone.

    Those that scale their features learn differences to one of them by themselves.
    """
    if models.family(name).encoding == "none":
        return [USUAL]
    able = [form for form in targets if form is not BALANCED or models.family(name).takes_weights]
    able = [form for form in able if form is not LOG_LINK or isinstance(models.family(name), BoostingFamily)]
    if models.family(name).encoding in ("dense", "pixels"):
        able = [form for form in able if form is not DIFFERENCE]
    return combined([form for form in features if form.family in (None, name)], able)


def tail_notes(recipe: Recipe, tail: Tail | None, metric: metrics.Metric) -> list[str]:
    """Say that a target has a heavy tail, what was done about it, and the line of the recipe that fixes it."""
    if tail is None or not tail.is_heavy:
        return []
    note = f"the target has a heavy tail: {tail.sentence()}"
    if recipe.selection.metric == "auto":
        return [f"{note}; compared by {metric.name}, which they do not decide (selection.metric: {metric.name})"]
    if metric.functional == "mean":
        return [f"{note}; {metric.name} is the recipe's metric and mostly says how well those are met"]
    return [note]


REPRESENTATIVE = "lightgbm"
"""Family by which forms are compared where time is limited: the fastest that takes all of them."""


def by_representative(candidates: Mapping[str, CandidateForm]) -> tuple[dict[str, CandidateForm], list[str]]:
    """Other families than `REPRESENTATIVE` in their usual form, and in those for them alone; and a note of that."""
    families = {name: name.partition(",")[0] for name in candidates}
    if REPRESENTATIVE not in families.values():
        return dict(candidates), []
    staying = {
        name: form
        for name, form in candidates.items()
        if families[name] == REPRESENTATIVE or not form.name or form.family == families[name]
    }
    left = len(candidates) - len(staying)
    return staying, [
        f"forms of columns and target are compared by {REPRESENTATIVE} alone, to save time"
    ] if left else []


def leading(chosen: str, entries: Sequence[LeaderboardEntry]) -> str:
    """The candidate whose form decides where `by_representative` left others out: of the representative, its best.

    It decides for families that take the same features as it does, and were compared in their usual form alone.
    """
    own = [entry for entry in entries if entry.family == REPRESENTATIVE]
    same = models.family(family_of(chosen)).encoding == models.family(REPRESENTATIVE).encoding
    if not own or not same or chosen != family_of(chosen):
        return chosen
    best = max(own, key=lambda entry: len(entry.scores))
    return best.name if best.form else chosen
