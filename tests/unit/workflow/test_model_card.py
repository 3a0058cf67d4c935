"""The card of a version holds what its bundle and its evaluation say, and stays as it was registered."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import bundles
from mlsys import errors, evaluate, operate, recipe, registry
from mlsys.cli import app
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.schema import ROW, TaskKind
from mlsys.store import Store
from mlsys.workflow import model_card


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a registered version that has a card, a second one without, and the evaluation of both."""
    folder = tmp_path_factory.mktemp("cards")
    store = Store.open(folder / "store")
    first = bundles.fit(store, TaskKind.BINARY, "linear", num_rows=800)
    second = bundles.fit(store, TaskKind.BINARY, "linear", num_rows=700)
    rows = bundles.rows(400, 5)
    rows = rows.append_column(ROW, pa.array(range(400)))

    def write(to):
        for part, table in {"train": rows, "test": rows}.items():
            (to / part).mkdir()
            pq.write_table(table, to / part / "part-0.parquet")
        schema = bundles.schema().model_dump(mode="json")
        return {"schema": schema, "num_rows": {"train": 400, "test": 400}, "num_folds": 1, "forward": False}

    split = Split.open(store, store.put("split", write))
    section = {
        "bootstrap": 20,
        "min_slice_rows": 50,
        "fairness": {"columns": ["carrier"]},
        "behaviours": {"farther": {"change": {"distance": "distance + 100"}, "expect": "decrease"}},
    }
    asked = recipe.Recipe(
        name="flights", target="y", data=recipe.DataSection(source="x.csv"), evaluate=recipe.EvaluateSection(**section)
    )
    evaluation = evaluate.score(store, first, split, asked)
    noted = store.put_json("evaluation", evaluation)
    card = store.put_json("card", model_card.build(first, evaluation))
    registry.register(store, "flights", first, facts={"evaluation": noted, "card": card})
    registry.register(store, "flights", second)
    return store, first, second, evaluation


def test_a_card_holds_what_the_evaluation_says(made):
    store, first, _, evaluation = made
    card = model_card.of_version(store, "flights@1")
    assert card.values["model"]["bundle"] == first.digest
    assert card.values["version"] == 1
    found = card.values["evaluation"]
    assert found["metrics"]["roc_auc"]["value"] == evaluation["metrics"]["roc_auc"]["value"]
    assert found["verdict"] == evaluation["verdict"]
    assert json.loads(json.dumps(card.values, allow_nan=False)) == card.values


def test_its_text_has_a_part_for_each_thing_that_is_known(made):
    text = model_card.of_version(made[0], "flights@1").text
    for part in ("# flights, version 1", "## Model", "## Data", "## Evaluation", "**ROC AUC**", "## Fairness",
                 "## Behaviours", "with distance = distance + 100 the output does not increase", "**failed**",
                 "## Columns it goes by"):  # fmt: skip
        assert part in text
    assert "| distance | double | numeric |" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head(made):
    lines = model_card.of_version(made[0], "flights@1").text.splitlines()
    width = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in (None, cells), line
        width = cells


def test_a_version_without_an_evaluation_has_a_card_that_says_so(made):
    store, _, second, _ = made
    card = model_card.of_version(store, f"flights@{second.digest[:12]}")
    assert "evaluation" not in card.values
    assert "None is in the store." in card.text


def test_a_version_from_before_cards_has_one_made_from_its_evaluation(made, tmp_path):
    store, first, _, evaluation = made
    noted = store.put_json("evaluation", evaluation)
    registry.register(store, "older", first, facts={"evaluation": noted})
    assert model_card.of_version(store, "older@1").values["evaluation"]["num_rows"] == 400
    written = operate.card("older@1", tmp_path / "card.md", store=store.root)
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == written.text


def test_the_command_prints_it_or_its_values(made):
    store = made[0]
    done = CliRunner().invoke(app, ["card", "flights@1", "--store", str(store.root)])
    assert done.exit_code == 0
    assert done.output.startswith("# flights, version 1\n")
    done = CliRunner().invoke(app, ["card", "flights@1", "--json", "--store", str(store.root)])
    assert json.loads(done.output)["version"] == 1


def test_there_is_no_card_of_what_is_not_there(made):
    with pytest.raises(errors.RegistryError, match="an alias, a version or a digest"):
        model_card.of_version(made[0], "flights@7")


def test_behavioural_tests_are_put_to_a_version_on_request(tmp_path):
    store = Store.open(tmp_path / "store")
    rows = bundles.rows(300, 5).append_column(ROW, pa.array(range(300)))

    def write(to):
        (to / "test").mkdir()
        pq.write_table(rows, to / "test" / "part-0.parquet")
        schema = bundles.schema().model_dump(mode="json")
        return {"schema": schema, "num_rows": {"test": 300}, "num_folds": 1, "forward": False}

    split = store.put("split", write)
    made = bundles.fit(store, TaskKind.BINARY, "linear", num_rows=800, provenance={"split": split})
    registry.register(store, "flights", made)
    change = "change: {distance: distance + 9}, where: distance > 0"
    text = f"name: flights\ntarget: y\ndata: {{source: x.csv}}\nevaluate: {{behaviours: {{far: {{{change}, "
    for expect, code in {"increase": 0, "decrease": 1}.items():
        (tmp_path / "r.yaml").write_text(f"{text}expect: {expect}}}}}}}\n")
        words = ["behaviours", "flights@1", "--recipe", str(tmp_path / "r.yaml"), "--store", str(store.root)]
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, "FAILED" in done.output) == (code, bool(code))
    reasons = [
        opening.reason for opening in access_log.read(store, access_log.digest_of_rows(Split.open(store, split)))
    ]
    assert reasons == ["behavioural tests"] * 2
    with pytest.raises(errors.RecipeError, match="no behaviours"):
        operate.behaviours("flights@1", store=store.root)
