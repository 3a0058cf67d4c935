from __future__ import annotations

import json
import uuid

import pytest

from mlsys import errors
from mlsys.collect import snapshot, task
from mlsys.recipe import DataSection, Recipe
from mlsys.schema import TargetLoss, Task, TaskKind
from mlsys.store import Store


@pytest.fixture
def decide(tmp_path):
    def run(values, **keys):
        file = tmp_path / "a.csv"
        file.write_text("x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
        recipe = Recipe(name="t", target="y", data=DataSection(source=str(file)), **keys)
        folder = tmp_path / uuid.uuid4().hex  # each is a recipe of its own: nothing to compare the columns with
        taken = snapshot.take(Store.open(tmp_path / "store"), recipe.data, target="y", folder=folder)
        return task.decide(taken.snapshot, recipe)

    return run


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["true", "false", "false"], TaskKind.BINARY, (False, True)),
        (["0", "1", "1", "1"], TaskKind.BINARY, (0, 1)),
        (["0.0", "1.0", "1.0", ""], TaskKind.BINARY, (0, 1)),
        (["yes", "no", "no"], TaskKind.BINARY, ("no", "yes")),
        (["YES", "NO", "YES"], TaskKind.BINARY, ("NO", "YES")),
        (["a", "b", "a"], TaskKind.BINARY, ("a", "b")),
        (["a", "b", "b"], TaskKind.BINARY, ("b", "a")),
        (["c", "a", "b"], TaskKind.MULTICLASS, ("a", "b", "c")),
        ([str(i % 3) for i in range(30)], TaskKind.MULTICLASS, (0, 1, 2)),
        ([str(i % 3) for i in range(29)], TaskKind.REGRESSION, ()),
        ([str(i % 21) for i in range(300)], TaskKind.REGRESSION, ()),
        (["0.5", "1.5", "2.5"], TaskKind.REGRESSION, ()),
    ],
)
def test_the_target_decides_the_task(decide, values, kind, classes):
    found = decide(values)
    assert (found.kind, found.classes) == (kind, classes)


def test_the_recipe_overrides_the_task_and_the_positive_class(decide):
    assert decide(["1", "2", "3"], task="multiclass").classes == (1, 2, 3)
    assert decide(["0", "1", "1"], task="regression").kind is TaskKind.REGRESSION
    assert decide(["0", "1", "1"], positive=0).classes == (1, 0)
    assert decide(["yes", "no", "no"], positive=False).classes == ("yes", "no")


@pytest.mark.parametrize(
    ("values", "keys", "error", "message"),
    [
        (["a", "b", "c"], {"task": "regression"}, errors.TargetError, "numbers, for regression"),
        (["a", "b", "c"], {"task": "binary"}, errors.TargetError, "task: multiclass"),
        (["0.5", "1.5", "2.5"], {"task": "multiclass"}, errors.TargetError, "CAST"),
        (["left", "right", "left"], {"positive": "rigth"}, errors.RecipeError, "did you mean 'right'"),
        ([f"name{i}" for i in range(1002)], {}, errors.TargetError, "more than 1000 classes"),
    ],
)
def test_a_target_that_cannot_be_learned_as_asked_is_refused(decide, values, keys, error, message):
    with pytest.raises(error, match=message):
        decide(values, **keys)


def test_classes_that_differ_by_blanks_case_or_punctuation_are_named_with_the_line_that_makes_them_one(take, write):
    labels = ["<=50K", ">50K", "<=50K.", " >50k", "it's"]
    text = "x,income\n" + "".join(f"{i},{labels[i % 5 if i % 3 else i % 2]}\n" for i in range(90))
    source = write("a.csv", text)
    tree = Recipe(name="t", target="income", data=DataSection(source=str(source)))
    taken = take(source, target="income").snapshot
    (message,) = task.messages(taken, tree, task.decide(taken, tree))
    assert message.startswith(
        "target 'income': classes that differ by blanks, case or punctuation only: "
        "'<=50K', '<=50K.'; '>50K', ' >50k'; if each is one class, data.derive: {"
    )
    derive = json.loads(message.partition("data.derive: ")[2])
    mended = take(source, target="income", derive=derive).snapshot
    assert task.decide(mended, tree).classes == ("<=50K", ">50K", "it's")


@pytest.mark.parametrize("classes", [("A+", "A-", "A"), ("-", "+", "="), ("x1", "x 1"), ("Ja", "Nein"), ("1-2", "12")])
def test_classes_that_punctuation_tells_apart_are_not_called_one(take, write, classes):
    source = write("a.csv", "x,y\n" + "".join(f"{i},{classes[i % len(classes)]}\n" for i in range(30)))
    tree = Recipe(name="t", target="y", data=DataSection(source=str(source)))
    taken = take(source).snapshot
    assert task.messages(taken, tree, task.decide(taken, tree)) == []


def test_whole_numbers_that_are_taken_for_classes_are_told_until_the_recipe_says_so(take, write):
    source = write("a.csv", "x,y\n" + "".join(f"{i},{i % 3 + 1}\n" for i in range(90)))
    taken = take(source).snapshot
    tree = Recipe(name="t", target="y", data=DataSection(source=str(source)))
    assert task.messages(taken, tree, task.decide(taken, tree)) == [
        "target 'y': 3 different whole numbers are taken for classes; task: regression predicts them as amounts"
    ]
    tree = tree.model_copy(update={"task": "multiclass"})
    assert task.messages(taken, tree, task.decide(taken, tree)) == []


@pytest.mark.parametrize("wrong", ["inf", "-inf", "1e39", "-1e300"])
def test_a_target_that_no_model_can_be_fitted_to_is_no_label_and_is_told(take, write, wrong):
    rows = [f"{n},{n / 2}" for n in range(20)]
    rows[3], rows[8] = f"3,{wrong}", f"8,{wrong}"
    taken = take(write("a.csv", "x,y\n" + "\n".join(rows) + "\n"))
    assert taken.snapshot.table()["y"].to_pylist()[3] is None
    assert (taken.report["num_unlabelled"], taken.report["num_quarantined"]) == (2, 0)
    beyond = "infinite, or beyond 3.4e+38 of either sign, in 2 rows"
    assert taken.report["warnings"] == [f"target 'y': {beyond}: no label, for no model can be fitted to that"]


@pytest.mark.parametrize("word", ["Total", "GRAND TOTAL", "Sum:", "Summe", "Insgesamt"])
def test_a_last_row_that_may_be_the_sum_is_told_and_kept(take, write, word):
    rows = [f"{'ns'[n % 2]},{n},{n / 2}" for n in range(30)]
    taken = take(write("a.csv", "region,x,y\n" + "\n".join(rows) + f"\n{word},,217.5\n"))
    (told,) = taken.report["warnings"]
    assert told == (
        f"'a.csv': the last row begins with {word!r} and may be the sum of the others: it is kept;"
        f" a rule of data.contract sets it aside: region <> '{word}'"
    )
    assert taken.snapshot.num_rows == 31


def test_a_category_that_is_called_total_is_none(take, write):
    rows = [f"{'ns'[n % 2] if n % 3 else 'Total'},{n},{n / 2}" for n in range(31)]
    assert take(write("a.csv", "region,x,y\n" + "\n".join(rows) + "\n")).report["warnings"] == []


def test_a_sum_that_stands_in_a_column_of_numbers_is_told_without_a_rule(take, write):
    rows = [f"{n},{'ns'[n % 2]},{n / 2}" for n in range(150)]
    told = take(write("a.csv", "x,region,y\n" + "\n".join(rows) + "\nTotal,,217.5\n")).report["warnings"][0]
    assert told.endswith("may be the sum of the others: it is kept; take it out of the source if so")


@pytest.mark.parametrize(
    ("loss", "values"),
    [("poisson", ["0", "1", "3"]), ({"tweedie": 1.2}, ["0", "2.5", "0"]), ("gamma", ["1", "2.5", "4"])],
)
def test_a_loss_makes_it_a_regression_whatever_the_values_look_like(decide, loss, values):
    decided = decide(values, loss=loss)
    assert (decided.kind, decided.loss) == (TaskKind.REGRESSION, TargetLoss.of(loss))


def test_a_quantile_takes_any_number(decide):
    assert decide(["-1", "0"], loss={"quantile": 0.1}).loss == TargetLoss(name="quantile", parameter=0.1)


NEGATIVE = """\
collect: target 'y'
  got:      -2 in 2 of 4 rows with a label
  expected: numbers of 0 and above, for loss: poisson
  hint:     data.derive can correct the rows, or make them null; loss: auto takes any number"""
NOT_ABOVE_ZERO = """\
collect: target 'y'
  got:      0 in 3 of 4 rows with a label
  expected: numbers above 0, for loss: gamma
  hint:     loss: tweedie takes zeros, too; data.derive can correct the rows, or make them null; loss: auto takes all"""


@pytest.mark.parametrize(("loss", "message"), [("poisson", NEGATIVE), ("gamma", NOT_ABOVE_ZERO)])
def test_values_that_a_loss_does_not_take_are_refused_with_their_number(decide, loss, message):
    with pytest.raises(errors.TargetError) as refused:
        decide(["0", "-2", "", "-1.5", "3"], loss=loss)
    assert str(refused.value) == message.replace("auto takes all", "auto takes any number")


def test_a_loss_of_classes_is_refused(decide):
    with pytest.raises(errors.RecipeError) as refused:
        decide(["0", "1", "1"], loss="poisson", task="binary")
    assert str(refused.value) == (
        "recipe: loss: poisson\n"
        "  got:      task: binary\n"
        "  expected: task: regression, or auto\n"
        "  hint:     leave one of them out: a loss is one of numbers, classes are compared by selection.metric"
    )


def test_texts_are_no_numbers_for_a_loss(decide):
    with pytest.raises(errors.TargetError, match="numbers, for regression"):
        decide(["a", "b", "c"], loss="poisson")


def test_a_task_without_a_loss_says_nothing_of_it():
    assert Task(kind="regression", target="y").model_dump(mode="json") == {
        "kind": "regression",
        "target": "y",
        "classes": [],
    }
