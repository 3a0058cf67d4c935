"""The section of a recipe for the fit of the model, step 5."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mlsys.recipe.reading import Section

Sampled = Annotated[dict[Literal["sample"], Annotated[float, Field(ge=1, le=1e9)]], Field(min_length=1)]
"""A balance by sampling: rows that are kept for each one of the rarest class."""


class TrainSection(Section):
    """Step 5, train: the model that is fitted on all training rows."""

    family: str = Field("auto", description="family of the model; auto takes the one that selection preferred")
    params: dict[str, Any] = Field({}, description="parameters of the family that are fixed instead of searched")
    target_transform: Literal["auto", "none", "log", "winsor", "log_link", "difference"] = Field(
        "auto",
        description="scale on which a number is fitted: log (of both signs, by the inverse hyperbolic sine), winsor "
        "(values far out moved to where far out begins), log_link (boosters fit the logarithm of the mean of values "
        "that are never negative), difference (from the naive forecast, for trees), or none; auto takes the one with "
        "the best score where the target has a heavy or a long tail, or is forecast",
    )
    calibration: Literal["auto", "none"] = Field(
        "auto",
        description="auto scales probabilities by one temperature where that lowers the log loss of rows that were not "
        "fitted on beyond chance; none takes them as the model gives them",
    )
    weight: str | None = Field(
        None, description="column of how much a row counts, in every fit and in the metrics of steps 4 to 7; 0 for not"
    )
    balance: Literal["none", "auto", "weights"] | Sampled = Field(
        "none",
        description="rare classes in every fit: weights lets all classes count alike, {sample: R} keeps at most R rows "
        "for each of the rarest class, none takes rows as they are; probabilities are corrected to the true shares; "
        "auto takes weights where a class is rare and the metric of the comparison is better with them",
    )
    exposure: str | None = Field(
        None,
        description="column of what the expected value goes with, such as years or area, for loss: poisson, tweedie or "
        "gamma; requests carry it, and are answered for it",
    )
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field(
        {}, description="for a column of numbers, the direction that predictions of boosted trees keep along it"
    )
    rounds: int = Field(600, ge=1, description="boosting rounds at most")
    early_stopping: int = Field(30, ge=1, description="boosting stops after so many rounds without gain on validation")
    refit: bool = Field(
        True,
        description="fit once more on training and validation rows together, with the rounds and the threshold that "
        "the validation rows chose",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="device of the final fit: cuda asks Ray for a GPU and is refused where there is none; auto takes "
        "one where the cluster has it and the library of the family can use it",
    )
    plan: Literal["auto", "task", "cluster", "stream"] = Field(
        "auto",
        description="one task with all threads of a node, or Ray Train, or a task of XGBoost or of a linear model "
        "that reads the rows again and again; auto takes the task below a gigabyte, and streams what no machine holds, "
        "for a linear model from 2 GiB of doubles on",
    )
    workers: int | None = Field(None, ge=1, description="Ray Train workers of the cluster plan; by default one a node")
