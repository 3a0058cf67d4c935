"""The section of maintenance: when a registered model is trained again by itself, and when it is not."""

from __future__ import annotations

from pydantic import Field

from mlsys.recipe.columns import LongSpan
from mlsys.recipe.reading import Section, Source


class MaintainSection(Section):
    """`mlsys maintain`: labels, monitor, and a new model where the monitor asks for one and the rows are sound."""

    labels: Source | None = Field(
        None, description="labels by id that are taken in first, a source as data.source; beside those that were sent"
    )
    min_new_rows: int = Field(
        200, ge=1, description="rows with a label, newer than those that the champion was made with, for a new model"
    )
    cooldown: LongSpan = Field("7d", description="time after a retraining begins in which no other one does")
    budget: int = Field(4, ge=0, description="retrainings that may begin within maintain.per; 0 begins none")
    per: LongSpan = Field("30d", description="time in which retrainings are counted for maintain.budget")
