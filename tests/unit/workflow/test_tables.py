"""Feature tables of a run for its endpoint, without Ray: tables published in this process."""

import pytest

import joined
from mlsys import errors
from mlsys.recipe import Recipe
from mlsys.store import Store
from mlsys.workflow import tables


def recipe(**joins):
    settings = {"name": "joined", "target": "y", "data": {"source": "rows.csv"}, "features": {"joins": joins}}
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return {view.name: view for view in joined.fit(Store.open(tmp_path_factory.mktemp("model"))).views}


def test_the_definitions_of_the_served_model_are_accepted(views):
    tables._check(recipe(**joined.JOINS), views)


def test_a_file_is_no_store_for_several_machines():
    tables.check_machines("sqlite", 1)
    tables.check_machines("redis://cache:6379/0", 3)
    with pytest.raises(errors.RecipeError, match=r"(?s)sqlite on a cluster of 3 nodes.*redis://host:6379/0"):
        tables.check_machines("sqlite", 3)


def test_other_definitions_would_reach_nobody_and_are_refused(views):
    changed = {**joined.JOINS, "weather": joined.JOINS["weather"].model_copy(update={"lookback": "3h"})}
    for joins in (changed, {"planes": joined.JOINS["planes"]}):
        with pytest.raises(errors.RecipeError) as caught:
            tables._check(recipe(**joins), views)
        assert str(caught.value) == (
            "materialize: 'features.joins'\n"
            "  got:      other definitions of weather\n"
            "  expected: the feature tables of the served model\n"
            "  hint:     `mlsys deploy` with this recipe serves a model that knows them"
        )
    with pytest.raises(errors.RecipeError, match="no feature tables"):
        tables._check(recipe(), {})
