"""The section of step 6: what is measured on the test rows, and what a model has to keep there."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlsys.recipe.reading import Section

FairnessName = Literal["statistical_parity", "equal_opportunity", "predictive_parity", "predictive_equality"]


class Threshold(Section):
    """A bound on a test metric."""

    min: float | None = Field(None, description="least value of the metric")
    max: float | None = Field(None, description="largest value of the metric")
    strict: bool = Field(False, description="compare the worse end of the confidence interval instead of the value")


class FairnessSection(Section):
    """Groups of rows that the decisions of a model of two classes are compared between."""

    columns: tuple[str, ...] = Field(
        (), description="columns whose groups are compared, e.g. [sex, age]; the model need not read them"
    )
    min_rows: int = Field(
        50, ge=10, description="a rate is judged in groups with at least so many rows that it is a rate of"
    )
    max_difference: dict[FairnessName, Annotated[float, Field(ge=0, le=1)]] = Field(
        {},
        description="for a rate the greatest difference between two groups that passes the gate: statistical_parity is "
        "of what is called positive, equal_opportunity of the positive rows found, predictive_parity of what is called "
        "positive and is, predictive_equality of the negative rows called positive",
    )
    strict: bool = Field(
        False, description="compare the far end of the interval of the difference instead of the difference"
    )


class Behaviour(Section):
    """A sentence about what the model does: of a changed row, or of rows whose answer is known."""

    where: str | None = Field(None, description="condition in SQL on the test rows that the sentence is about")
    rows: tuple[dict[str, Any], ...] = Field(
        (), description="rows of your own, {column: value}, in place of test rows; columns left out are null"
    )
    change: dict[str, str] = Field(
        {}, description="new values of columns as SQL over the row, e.g. {origin: \"'JFK'\", delay: delay + 30}"
    )
    expect: str = Field(
        description="same, increase or decrease, of the output after the change; or a condition in SQL over the "
        "columns, prediction and, of two classes, probability"
    )
    of: str | None = Field(
        None, description="class or label whose probability is meant; by default the positive one, or for same all"
    )
    tolerance: float = Field(1e-6, ge=0, description="distance up to which an output counts as unchanged")
    max_fraction: float = Field(
        0.0, ge=0, le=1, description="part of the rows that may break the sentence without failing the gate"
    )


class EvaluateSection(Section):
    """Step 6, evaluate: the test rows, opened once: metrics with intervals, slices and the gate."""

    slices: tuple[str, ...] = Field(
        (), description="columns whose values are evaluated one by one; by default slices are found automatically"
    )
    min_slice_rows: int = Field(200, ge=10, description="slices with fewer rows are not evaluated")
    bootstrap: int = Field(200, ge=0, le=10_000, description="bootstrap resamples for the confidence intervals")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence level of the intervals")
    threshold: Literal["f1", "cost", "utility", "half"] = Field(
        "f1",
        description="decision threshold: best F1, least cost or greatest mean utility on validation, or one half",
    )
    cost: dict[Literal["false_positive", "false_negative"], float] = Field(
        {"false_positive": 1.0, "false_negative": 1.0}, description="cost of each mistake, for threshold: cost"
    )
    gate: dict[str, Threshold] = Field({}, description="bounds on test metrics; the model must also beat the dummy")
    utility: str | None = Field(
        None,
        description="worth of a prediction as SQL over the columns of a row, target, prediction and, of two classes, "
        "probability; its mean is the metric utility, which the gate may bound, and which threshold: utility maximises",
    )
    fairness: FairnessSection = FairnessSection()
    behaviours: dict[str, Behaviour] = Field(
        {}, description="sentences about what the model does, each under a name of your choice; the gate asks for them"
    )

    @model_validator(mode="after")
    def _threshold_has_its_utility(self) -> Self:
        if self.threshold == "utility" and self.utility is None:
            raise ValueError("utility: SQL for the worth of a prediction, with threshold: utility")
        return self
