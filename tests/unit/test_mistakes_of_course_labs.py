"""Mistakes that well-known course labs on the penguins make: here each is impossible or refused.

The labs are Microsoft's DS-03 to DS-08 for Azure Databricks, all on the table of the Palmer
penguins. Each test names the lab and what is wrong in it.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlsys import errors, recipe, selection, train, tune
from mlsys.collect import snapshot, split, task
from mlsys.evaluate import access_log, scoring
from mlsys.explore import leakage, scan
from mlsys.features import plan, program
from mlsys.store import Store

SOURCE = "package://palmerpenguins/data/penguins.csv"
RECIPE = """
name: penguins
target: species
data: {{source: "{source}", ignore: [year]}}
split: {{by: stratified, folds: 3}}
tune: {{trials: 0}}
"""


def prepared(store, folder, source=SOURCE):
    settings = recipe.parse(RECIPE.format(source=source))
    taken = snapshot.take(store, settings.data, target="species", folder=folder)
    what = task.decide(taken.snapshot, settings)
    return settings, what, split.divide(store, taken.snapshot, settings, what)


@pytest.fixture(scope="module")
def penguins(tmp_path_factory):
    root = tmp_path_factory.mktemp("labs")
    store = Store.open(root / "store")
    settings, what, parts = prepared(store, root)
    return store, settings, what, parts, scan.profile(parts.only("train"), what).statistics


def test_ds03_nothing_can_be_fitted_on_test_rows(penguins):
    """The lab refits indexer and scaler on the test rows before it scores them."""
    _, _, _, parts, statistics = penguins
    fitted = program.fit(plan.choose(parts.schema, statistics.whole()), statistics.whole())
    before = fitted.digest
    shifted = parts.table("test").to_pandas().assign(body_mass_g=lambda rows: rows.body_mass_g * 1_000)
    fitted.transform(parts.table("test").from_pandas(shifted, schema=parts.table("test").schema))
    assert fitted.digest == before
    with pytest.raises(errors.SealedError, match="part 'test' is sealed here"):
        parts.only("train").table("test")


def test_ds03_a_linear_model_gets_no_order_among_islands(penguins):
    """The lab gives logistic regression the island as the numbers 0, 1 and 2."""
    _, _, _, parts, statistics = penguins
    dense = program.fit(plan.choose(parts.schema, statistics.whole(), encoding="dense"), statistics.whole())
    islands = [name for name in dense.names if name.startswith("island")]
    columns = dense.transform(parts.table("train"))[:, [dense.names.index(name) for name in islands]]
    assert len(islands) >= 3
    assert set(np.unique(columns)) == {0.0, 1.0}
    assert (columns.sum(axis=1) == 1).all()


def test_ds03_the_split_is_the_same_whenever_it_is_asked_for(penguins, tmp_path):
    """The lab draws its split without a seed, anew in each session."""
    parts = penguins[3]
    again = prepared(Store.open(tmp_path / "elsewhere"), tmp_path)[2]
    assert again.digest == parts.digest


def test_ds04_looking_at_the_test_rows_again_is_counted(penguins):
    """The lab reports the same test rows for each try, and nobody knows how often they were looked at."""
    store, settings, what, parts, statistics = penguins
    rows = parts.only("train", "validation")
    looks = []
    for penalty in (0.1, 10.0):
        made = train.fit(store, rows, statistics, settings, what, "linear", {"l2": penalty})
        looks.append(scoring.score(store, made, parts, settings)["openings"])
    assert [look["earlier"] for look in looks] == [0, 1]
    assert looks[1]["other_bundles"] == 1
    assert len(access_log.read(store, access_log.digest_of_rows(parts))) == 2


def test_ds05_the_leaderboard_is_made_without_test_rows(penguins):
    """The lab's AutoML shows test metrics for every trial, and the best is picked by looking at them."""
    _, settings, what, parts, statistics = penguins
    only = settings.model_copy(update={"selection": recipe.SelectionSection(families=("linear",))})
    ranking = selection.rank(parts.only("train"), statistics, only, what)
    assert sum(fold["num_judged"] for fold in ranking.rounds) == parts.num_rows["train"]


def test_ds06_a_search_that_can_reach_the_test_rows_is_refused(penguins, tmp_path):
    """The lab's objective is the accuracy on the test rows."""
    store, settings, what, parts, statistics = penguins
    with pytest.raises(errors.SealedError, match="test rows are opened once, by evaluate"):
        tune.search(store, parts, statistics, settings, what, "linear", folder=tmp_path)


def test_ds07_a_source_that_is_not_there_is_named_with_what_is_near(tmp_path):
    """The lab writes one path and reads another: it fails as written, three cells later."""
    (tmp_path / "penguins.csv").write_text("species\nAdelie\n")
    settings = recipe.parse(RECIPE.format(source=tmp_path / "penguin.csv"))
    with pytest.raises(errors.SourceError, match=r"did you mean 'penguins\.csv'"):
        snapshot.take(Store.open(tmp_path / "store"), settings.data, target="species", folder=tmp_path)


def test_ds08_copies_of_rows_are_told_and_never_on_both_sides_of_the_split(tmp_path):
    """The lab appends the table to itself before it splits: most test rows have a twin in training."""
    folder = Path(importlib.util.find_spec("palmerpenguins").submodule_search_locations[0])
    table = pd.read_csv(folder / "data" / "penguins.csv")
    pd.concat([table] * 4).to_csv(tmp_path / "copies.csv", index=False)
    store = Store.open(tmp_path / "store")
    _, what, parts = prepared(store, tmp_path, tmp_path / "copies.csv")
    profile = scan.profile(parts.only("train"), what)
    assert not [finding for finding in leakage.scan(parts, what, profile, (), 0.0) if finding.kind == "twins"]
    assert "every row is there 4 times: the table looks copied" in " ".join(split.messages(parts, "species"))
