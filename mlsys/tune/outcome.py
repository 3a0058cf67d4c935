"""The outcome of a search: its trials, and the family and parameters that are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlsys.evaluate import metrics
from mlsys.reports.formats import count
from mlsys.tune.journal import Trial


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search: a family with its parameters, those of the best trial or of a mean of some.

    The scores are the metric on the judged rows, None where nothing was judged; `score_tuned` is that of what is kept,
    or of the best trial beside the defaults where those are kept. `trials` are in the order in which they ended.
    `judged` is the digest of the judged rows with the predictions of what is kept (`train.JudgedRows`), where the final
    fit needs no other rows to know its rounds and its threshold; `max_rows` are those that it has time for, if not all.
    `search` are facts for readers (`mlsys.tune.evidence`): nothing depends on them.
    """

    family: str
    params: dict[str, Any]
    metric: str
    score_default: float | None
    score_tuned: float | None
    choice: Literal["tuned", "default", "mean"]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]
    judged: str | None = None
    max_rows: int | None = None
    search: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        value["kept"] = value.pop("choice")
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tuned:
        fields = {name: stored for name, stored in value.items() if name != "kept"}
        trials = tuple(map(Trial.from_json, value["trials"]))
        return cls(**{**fields, "choice": value["kept"], "trials": trials, "notes": tuple(value["notes"])})

    def summary(self) -> str:
        """Say in one line how many trials there were, the scores, and what is kept."""
        if not self.trials:
            return f"{self.family}: default parameters kept; {'; '.join(self.notes)}"
        late = sum(not trial.finished for trial in self.trials)
        tuned = "none beside it" if self.score_tuned is None else f"{self.choice_named} {self.score_tuned:.4f}"
        notes = "".join(f"; {note}" for note in self.notes)
        default = "not fitted" if self.score_default is None else f"{self.score_default:.4f}"
        ended = f", {late} ended by their time" if late else ""
        return (
            f"{self.family}: {len(self.trials)} trials{ended}; {self.metric} "
            f"default {default}, {tuned}: {self.choice} kept{notes}"
        )

    @property
    def choice_named(self) -> str:
        """The name of what the second score is of."""
        return "best" if self.choice == "default" else self.choice


def default_trial(family: str, trials: Iterable[Trial]) -> Trial | None:
    """The trial of the family's defaults: of its own trials the first with the fewest parameters of its own."""
    own = (trial for trial in trials if trial.family == family)
    return min(own, key=lambda trial: (len(trial.params), trial.number), default=None)


def best_trial(family: str, metric: metrics.Metric, trials: Sequence[Trial], dummy: float) -> Trial | None:
    """The best trial; the default's where no other is better, and none where the dummy is better than all."""
    default = default_trial(family, trials)
    order = sorted(trials, key=lambda trial: (-metric.sign * trial.score, trial is not default, trial.number))
    best = next(iter(order), None)
    return None if best is None or metric.sign * (best.score - dummy) <= 0 else best


def tuned(
    family: str,
    default: dict[str, Any],
    metric: metrics.Metric,
    trials: Sequence[Trial],
    best: Trial | None,
    notes: tuple[str, ...],
    dummy: float,
) -> Tuned:
    """The outcome of the trials, with the family's default parameters."""
    first = default_trial(family, trials)
    others = [metric.sign * trial.score for trial in trials if trial is not first]
    if best is None:
        notes = (*notes, f"no parameters beat the dummy's {metric.name} of {dummy:.4f} on the validation rows")
    choice: Literal["default", "tuned"] = "default" if best is None or best is first else "tuned"
    scores = None if first is None else first.score, metric.sign * max(others) if others else None
    return Tuned(family, default, metric.name, *scores, choice, tuple(trials), notes)


def so_far(family: str, metric: metrics.Metric, trials: Sequence[Trial]) -> str:
    """Say what a search has that somebody ended, how it goes on, and how to take what there is.

    A recipe with as many trials beside the defaults as there are takes the best of them and tries no other.
    """
    if not trials:
        return "the search had no trial yet; finished steps are kept, and the same command goes on from there"
    best = max(trials, key=lambda trial: metric.sign * trial.score)
    default = default_trial(family, trials)
    beside = "" if default is None or default is best else f" (defaults {default.score:.4f})"
    return (
        f"the search has {count(len(trials), 'trial')}, the best is trial {best.number}, {best.family}: "
        f"{metric.name} {best.score:.4f}{beside}; the same command goes on from there, and with "
        f"--set tune.trials={len(trials) - 1} it takes the best so far"
    )
