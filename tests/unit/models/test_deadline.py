"""Fits that end by their time, with clocks that tests turn: what a fit takes of rows, trees and steps."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mlsys import models
from mlsys.models import deadline, trees
from mlsys.models.boosting import Stopping
from mlsys.models.deadline import SMALL_ROWS, Deadline, affordable_rows
from mlsys.models.families import kernel, linear
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
BINARY = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))


class Clock:
    """A clock that goes on by so many seconds whenever it is looked at, and when it is turned."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(deadline, "monotonic", clock)
    return clock


def numbers(num_rows, width=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, width)).astype(np.float32)
    return Matrix(X, X[:, 0] - X[:, 1] + 0.1 * rng.normal(size=num_rows), ("x",) * width, ("q",) * width)


def test_the_time_that_is_left_goes_below_zero(clock):
    limit = Deadline(5.0)
    clock.now = 4.0
    assert (limit.left, limit.is_over) == (1.0, False)
    clock.now = 7.0
    assert (limit.left, limit.is_over) == (-2.0, True)
    assert not Deadline(None).is_over


def test_libraries_are_imported_before_the_clock_runs(clock, monkeypatch):
    def slow(name):
        clock.now += 5.0

    monkeypatch.setattr(deadline, "import_module", slow)
    assert Deadline(3.0, "a", "b").left == 3.0
    assert clock.now == 10.0


def test_boosting_ends_with_the_round_that_passes_its_time(clock):
    stopping = Stopping(patience=0, seconds=5.0)
    ends = []
    for _ in range(3):
        clock.now += 2
        ends.append(stopping.ends(None))
    assert ends == [False, False, True]


@pytest.mark.parametrize(("seconds", "rows"), [(None, 64_000), (1e6, 64_000), (110.0, 37_088), (0.0, SMALL_ROWS)])
def test_rows_are_those_that_sorting_has_time_for(clock, seconds, rows):
    # By hand: 2,000 rows take 2 s, 64,000 of them 64 · ln 64,000 / ln 2,000 = 93.18 s for one fit, 186.362 s for two;
    # 108 s are left after the probe: 64,000 · 108 / 186.362 = 37,088.7.
    def fit(num_rows):
        clock.now += num_rows / 1_000

    assert affordable_rows(fit, 64_000, Deadline(seconds), times=2) == rows


def test_few_rows_are_not_probed(clock):
    def fit(num_rows):
        raise AssertionError

    assert affordable_rows(fit, SMALL_ROWS, Deadline(0.0)) == SMALL_ROWS


class Grower:
    """A forest each of whose trees takes a second of a clock."""

    def __init__(self, clock):
        self.clock, self.groups, self.trees = clock, [], 0

    def set_params(self, warm_start=None, n_estimators=0):
        self.trees = n_estimators
        return self

    def fit(self, X, y):
        self.clock.now += self.trees - sum(self.groups)
        self.groups.append(self.trees - sum(self.groups))
        return self


@pytest.mark.parametrize(
    ("seconds", "groups"),
    [
        (None, [100]),
        (0.0, [2]),  # the first group whatever it takes
        (10.5, [2, 2, 4, 2]),
        (1e3, [2, 2, 4, 8, 16, 32, 36]),
    ],
)
def test_a_forest_grows_in_groups_while_the_next_one_fits(clock, seconds, groups):
    grower = Grower(clock)
    trees._grow(grower, None, None, 100, 2, Deadline(seconds))
    assert grower.groups == groups


def test_a_forest_that_has_no_time_for_a_few_trees_grows_them_on_fewer_rows(clock):
    clock.step = 1.0
    rows, forest = numbers(10_000), models.family("forest")
    model = forest.fit(rows, None, NUMBER, forest.params(trees=20), seed=0, threads=2, seconds=4.0)
    # By hand: the deadline is at 5, a probe takes 1 s, five groups of the whole 5 · 5 · ln 10,000 / ln 2,000 = 30.3 s,
    # and 1 s is left: 10,000 / 30.3 = 330 rows, which is fewer than a probe has.
    assert forest.cut(model) == {"trees": 2, "rows_a_tree": SMALL_ROWS}


def test_a_tree_is_grown_on_the_rows_that_there_is_time_for(clock):
    clock.step = 1.0
    rows, tree = numbers(10_000), models.family("decision_tree")
    model = tree.fit(rows, None, NUMBER, tree.params(), seed=0, threads=1, seconds=6.0)
    # By hand: the deadline is at 7, the probe takes 1 s, and 3 s are left when the clock is looked at again; all rows
    # would take 5 · ln 10,000 / ln 2,000 = 6.06 s.
    assert tree.cut(model) == {"rows": 4_951}
    again = tree.fit(rows, None, NUMBER, tree.params(rows=4_951), seed=0, threads=1)
    assert again.text == model.text


STEPS = [  # absolute errors, classes, steps that there is time for, steps that are taken
    (False, 2, 49, 49),  # a step a step
    (False, 0, 49, 500),  # 320 features at once are 20 steps
    (False, 0, 12, 12),  # conjugate gradients
    (True, 0, 49, 7),  # seven reweightings of seven steps
    (True, 0, 600, 500),  # thirty of twenty
    (False, 2, 0, 10),  # the fewest
]


@pytest.mark.parametrize(("is_absolute", "classes", "steps", "taken"), STEPS)
def test_the_linear_family_takes_as_many_steps_as_there_is_time_for(clock, is_absolute, classes, steps, taken):
    clock.step = 1.0
    params = linear.LinearParams(loss="absolute" if is_absolute else "squared")
    # By hand: the deadline is at 1 + s, a product takes 1 s and a step 2 s, and the fourth look at the clock says what
    # is left: 1 + s - 4.
    limit = Deadline(2.0 * steps + 3)
    assert linear._affordable(np.zeros((400, 320)), params, classes, limit).iterations == taken


def test_conjugate_gradients_reach_the_solution_in_a_few_steps_or_say_that_they_have_not():
    rows = numbers(300, width=40)
    X, params = rows.X.astype(np.float64), linear.LinearParams(l2=2.0, iterations=2)
    exact = Ridge(alpha=2.0).fit(X, rows.y)
    early, is_solved = linear._least_squares(X, rows.y, params)
    assert not is_solved
    assert np.abs(early.coef_ - exact.coef_).max() < 0.1
    params = params.model_copy(update={"iterations": 40})
    solved, is_solved = linear._least_squares(np.pad(X, ((0, 0), (0, 680))), rows.y, params)  # 720 / 16 = 45 steps
    assert is_solved
    np.testing.assert_allclose(solved.coef_[:40], exact.coef_, atol=1e-3)


def test_the_kernel_machine_is_the_last_of_growing_ones_that_there_is_time_for(clock):
    clock.step = 1.0
    rows, family = numbers(4_000), kernel.FAMILY
    # By hand: the deadline is at 1 + s, and each fit takes 1 s, beginning with the look at 2. Of 3 s one
    # is left. Of 5 s three are, the cube root of which is 1.442: 0.18 of the rows; and then one is left.
    cuts = {3.0: {"rows": 500, "landmarks": 125}, 5.0: {"rows": 721, "landmarks": 180}, 1e3: {}}
    for seconds, cut in cuts.items():
        clock.now = 0.0
        model = family.fit(rows, None, NUMBER, family.params(landmarks=1_000), seed=0, threads=1, seconds=seconds)
        assert family.cut(model) == cut
