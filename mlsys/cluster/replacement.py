"""Ray Train replaces a worker that died at once, without starting the process that looks after the workers again.

Ray counts failures of every kind. Here a fit goes on as long as there is a new checkpoint from one death to the next,
and an error of ours, which would come back whoever fits, ends it at once. What is not decided here ends the run of Ray
Train; `mlsys.train.distributed` then starts another, as it does where that process itself was lost.

This is read in the process that looks after the workers, which begins before they do: it imports as little as it can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.exceptions import ActorDiedError
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2.api.config import FailureConfig

from mlsys import errors
from mlsys.store import write_json

FAILURES = FailureConfig(max_failures=0, controller_failure_limit=0)
"""Nothing is tried again, but for what `OnProgress` decides."""


class OnProgress(FailurePolicy):
    """Workers that died are replaced if a checkpoint was left since the fit began, or since the last time.

    `note` is a file for the rounds of the checkpoint from which workers went on.
    """

    def __init__(self, left: Path, note: Path) -> None:
        super().__init__(FAILURES)
        self.left = left
        self.note = note
        self.begin = self.reached

    @property
    def reached(self) -> int:
        """Rounds of the newest checkpoint: its file has their number as its name."""
        return max((int(path.name) for path in self.left.glob("[0-9]*")), default=0)

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """Decide whether the run goes on, in the process that looks after the workers."""
        reached = self.reached
        if reached <= self.begin or not is_death(training_failed_error):
            return FailureDecision.RAISE
        self.begin = reached
        write_json(self.note, {"round": reached})
        return FailureDecision.RETRY


def is_death(error: Exception) -> bool:
    """True where the process of a worker is known to be dead, and no worker raised an error of ours."""
    failures = getattr(error, "worker_failures", {}).values()
    deaths = [each for each in failures if isinstance(getattr(each, "health_check_failure", None), ActorDiedError)]
    return bool(deaths) and not any(isinstance(each, errors.MlsysError) for each in failures)


def trainer_of(base: type[Any], policy: FailurePolicy) -> type[Any]:
    """A trainer of Ray Train with its own policy of what is done about failures."""

    class Trainer(base):  # type: ignore[misc]  # a class that is named by a family
        def _initialize_and_run_controller(self, **settings: Any) -> Any:
            return super()._initialize_and_run_controller(**{**settings, "failure_policy": policy})

    return Trainer
