"""Say what a model was made of, for the provenance in its bundle."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from mlsys import cluster, models
from mlsys.models.class_balance import ClassBalance
from mlsys.models.families.ensemble import EnsembleParams
from mlsys.train import judging
from mlsys.train.training_job import BOTH, TrainingJob


def of_fit(
    job: TrainingJob, execution: cluster.ExecutionPlan, model: Any, validated: judging.ValidationResult
) -> dict[str, Any]:
    """Facts of a fit: rows, seed, plan, rounds, scores, scales, and versions of all libraries that it used."""
    members = [member.family for member in job.params.members] if isinstance(job.params, EnsembleParams) else []
    libraries = sorted({name for each in (job.family, *members) for name in models.family(each).libraries})
    return {
        "split": job.split.digest,
        "num_rows": dict(sorted(job.split.num_rows.items())),
        "seed": job.recipe.seed,
        "plan": f"{execution.kind}: {execution.reason}",
        "rounds": models.rounds(job.family, model),
        "fitted_on": list(BOTH if job.params_of_refit(model) is not None else BOTH[:1]),
        "validation": {"metric": validated.metric, "score": validated.score},
        **_target_facts(job),
        **_threshold_facts(job, validated),
        **_of_labels(model),
        **({} if validated.temperature is None else validated.temperature.model_dump()),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("mlsys", "numpy", *libraries)},
        },
    }


def _target_facts(job: TrainingJob) -> dict[str, Any]:
    """The scale of the target, or the balance of its classes, for the provenance of the model."""
    if isinstance(job.target, ClassBalance):
        return {"balance": job.target.to_json()}
    return {} if job.target is None else {"target_transform": job.target.kind}


def _threshold_facts(job: TrainingJob, validated: judging.ValidationResult) -> dict[str, Any]:
    """The rule by which a threshold was chosen, and the utility that it maximises."""
    if validated.threshold is None:
        return {}
    section = job.recipe.evaluate
    maximised = {"utility": section.utility} if section.threshold == "utility" else {}
    return {"threshold_rule": section.threshold, **maximised}


def _of_labels(model: Any) -> dict[str, Any]:
    """The labels whose rate is their answer."""
    own = models.label_models(model)
    return {} if own is None else {"constant_labels": own.constant}
