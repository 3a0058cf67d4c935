"""Step 7: parameters of one family or several, searched on the training rows and judged on rows beside them.

The defaults are tried first, then the families' portfolios, then what Optuna proposes, until the time is over
(`mlsys.tune.searching`, `mlsys.tune.trials`). The best trial is taken, or the mean of a few where that is better
beyond chance (`mlsys.tune.choosing`, `mlsys.tune.blending`).

Many rows are judged on the validation part alone. Few are judged out of fold, too: each fold by fits on the
others, so that a choice rests on all training and validation rows and not on a hundred.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlsys import errors, models
from mlsys.code_graph import code_digest
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features.operations import encoders
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics import TrainStatistics
from mlsys.store import Store, digest_json
from mlsys.train import training_job
from mlsys.tune import search_space, trials
from mlsys.tune.choosing import FinalChoice
from mlsys.tune.journal import Journal
from mlsys.tune.outcome import Tuned
from mlsys.tune.points import Searched

__all__ = ["Tuned", "replay", "search"]

OPEN = frozenset({"train", "validation"})
"""Parts that may be reachable while parameters are chosen."""


def search(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    *,
    folder: Path,
    contenders: Sequence[str] = (),
    seconds: float = math.inf,
    reserve: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Search the parameters of the family, and of those with a portfolio beside it, for so many `seconds`.

    Families with a portfolio stand beside one that takes the same features, and where another family that takes theirs
    is among the `contenders`, which selection found near the best. A family that selection preferred for its simplicity
    stays unless the search finds something better by more than the margin of the recipe.

    A mean of several trials has to be fitted within the seconds that are the `reserve` of the final fit. Where the
    recipe names a number of trials there is no clock. The journal lies in ``<folder>/tune``, one for each set of
    inputs: a search that was killed, or has more time now, goes on where it was.

    Raises
    ------
    RecipeError
        The family or a parameter is not known, or the family cannot do such a task.
    SealedError
        `split` opens more than the training and validation rows.
    ClusterError
        There is no Ray to run trials on, or every trial failed.
    KeyboardInterrupt
        Somebody pressed Ctrl-C during the trials: what ended is in the journal, and the message says what it is.
    """
    # 1. What is searched: names and parameters are checked before the first fit.
    beyond = sorted(split.parts - OPEN)
    if beyond:
        where = f"tune: part '{beyond[-1]}' is open"
        got = ", ".join(sorted(split.parts))
        hint = 'split.only("train", "validation"): test rows are opened once, by evaluate'
        raise errors.SealedError.build(where, got=got, expected="the parts train and validation alone", hint=hint)
    models.for_task(family, task, **training_job.demands(recipe))
    families = search_space.families(split, recipe, family, task, contenders)
    metric = metrics.find(recipe.selection.metric, task.kind, metrics.usual(task))
    default = training_job.params_of(recipe, family).model_dump(mode="json")
    reason = search_space.nothing_to_do(split, recipe, families[family].space)
    if reason:
        return Tuned(family, default, metric.name, None, None, "default", (), (reason,))
    # 2. The trials.
    journal = Journal(folder / "tune" / f"{family}-{_key(store, split, recipe, task, families)}" / "journal.jsonl")
    limits = _limits(recipe, seconds, reserve)
    searching = FinalChoice(store, split, statistics, recipe, task, families, metric, *limits, progress)
    notes = searching.run(journal)
    # 3. What is made of them.
    return searching.choose(journal, default, (*searching.notes(), *notes), searching.dummy())


def replay(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    former: Tuned,
    *,
    contenders: Sequence[str] = (),
    seconds: float = math.inf,
    reserve: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Fit the trials of a `former` search again, without a clock, and choose among them as it did.

    What a clock decided is taken from its record: which points were tried, the rounds of each fit, and the seconds by
    which a mean has to fit into the `reserve` of the final fit.

    Raises
    ------
    StoreError
        The record is of a version that did not keep the rounds of each fit.
    """
    families = search_space.families(split, recipe, family, task, contenders)
    metric = metrics.find(recipe.selection.metric, task.kind, metrics.usual(task))
    limits = _limits(recipe, seconds, reserve)
    searching = FinalChoice(store, split, statistics, recipe, task, families, metric, *limits, progress)
    default = training_job.params_of(recipe, family).model_dump(mode="json")
    with store.staging() as folder:
        journal = Journal(folder / "journal.jsonl")
        trials.again(searching.shared(journal, math.inf), former.trials, journal, progress)
        return searching.choose(journal, default, tuple(searching.notes()), searching.dummy())


def _limits(recipe: Recipe, seconds: float, reserve: float) -> tuple[float, float]:
    """The time of the search and of the final fit: without a clock no choice depends on seconds.

    The search has its own limit, none where the recipe names a number of trials, else what is given.
    """
    if recipe.tune.minutes is not None:
        return 60 * recipe.tune.minutes, reserve
    return (seconds, reserve) if recipe.tune.trials == "auto" and math.isfinite(seconds) else (math.inf, math.inf)


def _key(store: Store, split: Split, recipe: Recipe, task: Task, families: Mapping[str, Searched]) -> str:
    """Digest all that a trial's score depends on; neither the number of trials nor their time is part of it."""
    return digest_json({
        "split": split.digest,
        "task": task.model_dump(mode="json"),
        "timezone": recipe.data.timezone,
        "encoders": encoders.encoder_digests(recipe.features),
        "features": recipe.features.model_dump(mode="json", exclude={"joins"}),
        "train": recipe.train.model_dump(mode="json", exclude={"device", "plan", "workers", "refit"}),
        "max_rows": recipe.tune.max_rows,
        "metric": recipe.selection.metric,
        "measures_bytes": recipe.selection.max_bytes is not None,
        "families": {name: dataclasses.asdict(family) for name, family in families.items()},
        "seed": recipe.seed,
        "code": code_digest(store, "mlsys.tune"),
    })[:16]  # fmt: skip
