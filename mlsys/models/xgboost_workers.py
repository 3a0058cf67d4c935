"""XGBoost on Ray Train, whose other workers begin again at once when one of them is lost.

The coordinator of XGBoost's workers ends once all of them have. As a group of workers ends, Ray waits for it, for five
seconds at most: after a fit it has ended by then, and after the death of a worker it never does. It is a daemon thread
of the process that looks after the group, and ends with that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.train.xgboost import XGBoostConfig, XGBoostTrainer

Backend: Any = XGBoostConfig().backend_cls
"""Ray's way to start the coordinator, which depends on the release of XGBoost."""


class PromptBackend(Backend):  # type: ignore[misc]  # a class that Ray chooses when it is imported
    """The coordinator as Ray starts it; its end is not waited for."""

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Do nothing: the coordinator ends with its process."""


@dataclass
class PromptConfig(XGBoostConfig):
    """Settings of `XGBoostTrainer` with that backend."""

    @property
    def backend_cls(self) -> Any:
        return PromptBackend


class PromptTrainer(XGBoostTrainer):
    """A trainer with those settings; its arguments are those of `XGBoostTrainer`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, xgboost_config=PromptConfig(), **settings)
