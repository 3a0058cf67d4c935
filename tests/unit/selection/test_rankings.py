"""A ranking from collection to the gate: groups stay whole, NDCG is scikit-learn's, rows without order are refused."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import ndcg_score

from mlsys import errors
from mlsys.evaluate import champion, report
from mlsys.predict import Predictor
from mlsys.schema import Task
from mlsys.statistics.hashing import hash_exactly
from mlsys.train import fold, judging, plans, samples
from mlsys.workflow import modelling
from modelled import collected

RANKING = {"task": "ranking", "split": {"folds": 3}, "train": {"rounds": 40, "early_stopping": 5}}
FAMILIES = {"families": ["linear", "lightgbm", "xgboost"]}


def results(num_queries=150, seed=1):
    """Results of queries: two features of the result, the length of the query, and a device that is one a query."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 15, num_queries)
    query = np.repeat(np.arange(num_queries), sizes)
    match, age = rng.normal(size=len(query)), rng.uniform(0, 10, len(query))
    long = np.repeat(rng.normal(size=num_queries), sizes)
    signal = match - 0.3 * np.abs(age - 4) + long + 0.5 * rng.normal(size=len(query))
    device = np.repeat(rng.choice(["phone", "desk"], num_queries), sizes)
    columns = {"query": [f"q{k}" for k in query], "match": match, "age": age, "long": long, "device": device}
    return pa.table({**columns, "y": np.digitize(signal, [-0.5, 0.5, 1.5])})


def rows(tmp_path, table=None, **sections):
    data = {"group": "query", **sections.pop("data", {})}
    return collected(tmp_path, results() if table is None else table, data=data, **{**RANKING, **sections})


def test_a_ranking_goes_from_rows_to_the_gate(tmp_path):
    data = rows(tmp_path, selection=FAMILIES)
    assert (data.task.kind, data.task.group, data.task.classes) == ("ranking", "query", ())
    ranking = data.ranking()
    assert ranking.metric == "ndcg@10"
    assert ranking.beats_dummy
    made = data.fit(ranking)
    evaluation, test = data.evaluation(made), data.parts.table("test")
    score = Predictor(made).table(test.select(["match", "age", "long", "device"])).score
    names, y = np.asarray(test["query"]), np.asarray(test["y"], np.float64)
    of_queries = [
        ndcg_score([2 ** y[names == name] - 1], [score[names == name]], k=10)
        for name in np.unique(names)
        if y[names == name].any() and (names == name).sum() > 1
    ]
    measured = evaluation["metrics"]["ndcg@10"]
    assert measured["value"] == pytest.approx(np.mean(of_queries), rel=1e-12)
    assert set(evaluation["metrics"]) == {"ndcg@10", "ndcg", "mrr"}
    assert evaluation["resampling"]["unit"] == "groups of 'query'"
    assert measured["low"] < measured["value"] < measured["high"]
    assert measured["dummy"] < measured["low"]
    assert evaluation["verdict"]["passed"]
    assert evaluation["ranking"]["num_groups"] == len(np.unique(names))
    page = report.page(evaluation)
    assert "NDCG@10" in page
    assert "NDCG by rank" in page


def test_no_group_is_divided_between_parts_and_folds(tmp_path):
    parts = rows(tmp_path).parts
    places = {}
    for part in ("train", "validation", "test"):
        table = parts.table(part)
        for name, number in zip(table["query"].to_pylist(), table["__fold"].to_pylist(), strict=True):
            places.setdefault(name, set()).add((part, number))
    assert {len(place) for place in places.values()} == {1}


def test_samples_and_stopping_rows_are_whole_groups(tmp_path):
    data = rows(tmp_path)
    train, folds = data.parts.only("train"), {"fit_folds": [0, 1], "judge": 2}
    how = (train, data.statistics, data.settings, data.task, "lightgbm")
    prepared = fold.prepare(*how, **folds, max_rows=200)
    whole = train.table("train", ["query"])["query"].to_pylist()
    sizes = {int(h): whole.count(name) for name, h in zip(whole, hash_exactly(pa.array(whole)).tolist(), strict=True)}
    for matrix in (prepared.train, prepared.stopping, prepared.judged):
        names, counts = np.unique(matrix.groups, return_counts=True)
        assert counts.tolist() == [sizes[int(name)] for name in names]
    assert 150 < prepared.train.num_rows + prepared.stopping.num_rows <= 200
    assert not set(prepared.train.groups) & set(prepared.stopping.groups)


def test_a_sample_of_groups_is_at_most_so_large_and_part_of_a_larger_one():
    groups = np.repeat(np.arange(50, dtype=np.uint64), np.random.default_rng(0).integers(1, 9, 50))
    before = np.zeros(len(groups), bool)
    for most in (1, 5, 20, 60, 120, len(groups) - 1):
        drawn = samples.drawn_groups(groups, most, 7)
        assert 0 < drawn.sum() <= max(most, 8)
        assert not set(groups[drawn]) & set(groups[~drawn])
        assert drawn[before].all()
        before = drawn


def test_the_latest_groups_stop_boosting_whole_where_time_divides_the_rows(tmp_path):
    table = results()
    seen = np.unique(table["query"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    times = pa.array(1_600_000_000_000_000 + 86_400_000_000 * seen, pa.timestamp("us", "UTC"))
    data = rows(tmp_path, table.append_column("at", times), data={"time": "at"}, split={"by": "time", "folds": 3})
    columns = ["__row", "query", "at"]
    train = data.parts.table("train", columns)
    out = samples.held_out(train, data.parts.schema, forward=True, seed=0, are_ranked=True)
    names = train["query"].to_numpy(zero_copy_only=False)
    assert 0 < out.sum() < 0.2 * len(out)
    assert not set(names[out]) & set(names[~out])


def test_a_time_that_divides_a_group_is_refused(tmp_path):
    table = results()
    times = pa.array(1_600_000_000_000_000 + 1_000_000 * np.random.default_rng(0).permutation(table.num_rows))
    table = table.append_column("at", times.cast(pa.timestamp("us", "UTC")))
    with pytest.raises(errors.TargetError) as refused:
        rows(tmp_path, table, data={"time": "at"}, split={"by": "time", "folds": 3})
    assert "collect: split by time\n" in str(refused.value)
    assert "expected: whole groups, which a ranking orders\n" in str(refused.value)
    assert "or a data.time that is one for the whole group" in str(refused.value)


QUERIES = ["a", "a", "b", "b", "c", "c"]
REFUSED = [
    (["a", "a", "b", "b", "c", "c"], [0, -1, 1, 2, 0, 1], """\
collect: target 'y'
  got:      values such as -1
  expected: grades, for a ranking: whole numbers from 0, the worst, to 30
  hint:     data.derive makes grades of it, such as CASE WHEN y > 10 THEN 2 WHEN y > 0 THEN 1 END"""),
    (QUERIES, [0.0, 0.5, 1.0, 2.0, 0.0, 1.0], """\
collect: target 'y'
  got:      values such as 0.5
  expected: grades, for a ranking: whole numbers from 0, the worst, to 30
  hint:     data.derive makes grades of it, such as CASE WHEN y > 10 THEN 2 WHEN y > 0 THEN 1 END"""),
    (QUERIES, [0, 31, 1, 2, 0, 99], """\
collect: target 'y'
  got:      values such as 31, 99
  expected: grades, for a ranking: whole numbers from 0, the worst, to 30
  hint:     data.derive makes grades of it, such as CASE WHEN y > 10 THEN 2 WHEN y > 0 THEN 1 END"""),
    (QUERIES, ["good", "bad", "good", "bad", "good", "bad"], """\
collect: target 'y'
  got:      values such as 'bad', 'good'
  expected: grades, for a ranking: whole numbers from 0, the worst, to 30
  hint:     data.derive makes grades of it, such as CASE WHEN y > 10 THEN 2 WHEN y > 0 THEN 1 END"""),
    (["a", "b", "c", "d", "e", "f"], [0, 1, 0, 1, 0, 1], """\
collect: data.group: column 'query'
  got:      6 groups of one row, all of them
  expected: groups with different grades: else there is nothing to rank
  hint:     name the column of the query in data.group"""),
    (QUERIES, [0, 0, 1, 1, 2, 2], """\
collect: data.group: column 'query'
  got:      3 groups whose rows have one grade, all of them
  expected: groups with different grades: else there is nothing to rank
  hint:     name the column of the query in data.group"""),
    (["a", "a", None, "b", "c", None], [0, 1, 1, 2, 0, 1], """\
collect: data.group: column 'query'
  got:      no value in 2 rows with a grade
  expected: the group of each
  hint:     data.derive names one, or makes their grade null"""),
]  # fmt: skip


@pytest.mark.parametrize(("queries", "grades", "message"), REFUSED)
def test_rows_that_cannot_be_ranked_are_refused(tmp_path, queries, grades, message):
    table = pa.table({"query": queries, "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "y": grades})
    with pytest.raises(errors.TargetError) as refused:
        rows(tmp_path, table)
    assert str(refused.value) == message


def test_a_group_that_is_too_large_is_refused(tmp_path):
    grades = np.arange(10_001) % 3
    table = pa.table({"query": ["a"] * 10_001, "x": np.arange(10_001) / 7, "y": grades})
    with pytest.raises(errors.TargetError, match="a group of 10,001 rows\n  expected: groups of at most 10,000 rows"):
        rows(tmp_path, table)


def test_true_and_false_are_the_grades_1_and_0(tmp_path):
    table = results()
    table = table.set_column(table.column_names.index("y"), "y", pa.array(table["y"].to_numpy() > 1))
    data = rows(tmp_path, table, selection={"families": ["lightgbm"]})
    evaluation = data.evaluation(data.fit(data.ranking()))
    assert evaluation["metrics"]["ndcg@10"]["value"] > evaluation["metrics"]["ndcg@10"]["dummy"]


def test_one_grade_in_all_rows_is_refused(tmp_path):
    table = pa.table({"query": QUERIES, "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "y": [1] * 6})
    with pytest.raises(errors.TargetError, match="one class only: 1 in all 6 rows"):
        rows(tmp_path, table)


def test_weights_that_differ_in_a_group_are_refused_and_those_of_groups_count(tmp_path):
    table, rng = results(), np.random.default_rng(0)
    uneven = table.append_column("w", pa.array(rng.integers(1, 4, table.num_rows)))
    with pytest.raises(errors.TargetError, match="one weight a group: a ranking counts groups"):
        rows(tmp_path / "uneven", uneven, train={"weight": "w"})
    number = np.unique(table["query"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    weight = rng.integers(0, 3, number.max() + 1)[number]
    data = rows(tmp_path / "even", table.append_column("w", pa.array(weight)), train={"weight": "w", "rounds": 20})
    made = data.fit(data.ranking(), "lightgbm")
    evaluation, test = data.evaluation(made), data.parts.table("test")
    score = Predictor(made).table(test.select(["match", "age", "long", "device"])).score
    names, y, own = np.asarray(test["query"]), np.asarray(test["y"], np.float64), np.asarray(test["w"], np.float64)
    values, weights = [], []
    for name in np.unique(names):
        is_own = names == name
        if y[is_own].any():
            values.append(ndcg_score([2 ** y[is_own] - 1], [score[is_own]], k=10))
            weights.append(own[is_own][0])
    assert evaluation["metrics"]["ndcg@10"]["value"] == pytest.approx(np.average(values, weights=weights), rel=1e-12)


def test_the_recipe_has_to_name_groups_and_cannot_spread_them(tmp_path):
    with pytest.raises(errors.RecipeError, match=r"recipe: task: ranking\n  got:      no 'data.group'"):
        collected(tmp_path / "none", results(), **RANKING)
    spread = rows(tmp_path / "spread", train={"plan": "cluster"}).settings
    with pytest.raises(errors.RecipeError, match=r"'train.plan'\n  got:      cluster for task: ranking"):
        modelling.check_names(spread)
    with pytest.raises(errors.RecipeError, match=r"loss: poisson\n  got:      task: ranking"):
        rows(tmp_path / "loss", loss="poisson")


def test_what_does_not_go_with_a_ranking_is_refused_before_the_first_fit(tmp_path):
    for key, value, message in [
        ("selection", {"metric": "rmse"}, "got:      rmse\n  expected: a metric of a ranking task"),
        ("selection", {"families": ["ensemble"]}, "family 'ensemble'\n  got:      a ranking task"),
        ("train", {"target_transform": "log"}, "got:      log for a ranking task\n  expected: none: a grade"),
    ]:
        data = rows(tmp_path / f"{key}-{next(iter(value))}", **{key: value})
        with pytest.raises(errors.RecipeError, match=message):
            data.ranking()


def test_one_task_fits_a_ranking_whatever_its_size(tmp_path):
    data = rows(tmp_path)
    plan = plans.plan(data.parts, data.settings.having({"train.plan": "cluster"}), "xgboost", 10**9, data.task)
    assert plan.kind == "task"
    assert "the rows of a group are ranked together" in plan.reason


def test_slices_are_of_whole_groups(tmp_path):
    data = rows(tmp_path, selection=FAMILIES, evaluate={"min_slice_rows": 20, "bootstrap": 50})
    made = data.fit(data.ranking(), "linear")
    evaluation = data.evaluation(made)
    assert {row["column"] for row in evaluation["slices"]["rows"]} == {"device", "long"}
    assert {"match", "age"} <= set(evaluation["slices"]["columns_left_out"])
    data.settings.__dict__["evaluate"] = data.settings.evaluate.model_copy(update={"slices": ("match",)})
    with pytest.raises(errors.RecipeError, match="'match', which has several values in one 'query'"):
        data.evaluation(made)


def test_a_champion_is_compared_by_the_groups_that_it_has_not_seen(tmp_path):
    data = rows(tmp_path, selection=FAMILIES)
    ranking = data.ranking()
    better, worse = data.fit(ranking, "lightgbm"), data.fit(ranking, "dummy")
    compared = champion.compare(data.store, better, worse, data.parts, data.settings)
    assert compared.outcome == "better"
    assert compared.resampling["unit"] == "groups of 'query'"
    assert compared.metric == "ndcg@10"


def test_a_score_needs_no_group_and_a_request_may_carry_it(tmp_path):
    data = rows(tmp_path)
    predictor = Predictor(data.fit(_NoDecision(), "lightgbm"))
    assert predictor.bundle.example.keys() == {"query", "match", "age", "long", "device"}
    record = {"match": 0.3, "age": 4.0, "long": 0.0, "device": "desk"}
    alone, grouped = predictor.rows([record]), predictor.rows([{**record, "query": "q7"}])
    assert alone.prediction.tobytes() == grouped.prediction.tobytes() == alone.score.tobytes()
    assert alone.probabilities is None
    table = predictor.table(pa.table({name: [value] for name, value in record.items()}))
    assert table.prediction.tobytes() == alone.prediction.tobytes()


def test_rows_that_a_search_judged_keep_their_groups(tmp_path):
    task = Task(kind="ranking", target="y", group="query")
    groups = np.array([2**63 + 1, 2**63 + 1, 5], np.uint64)
    judging.JudgedRows(np.array([1.0, 0.0, 2.0]), np.array([0.1, 0.2, 0.3]), None, groups, np.arange(3)).write(tmp_path)
    again = judging.JudgedRows.read(tmp_path, task)
    assert (again.groups.tolist(), again.numbers.tolist()) == (groups.tolist(), [0, 1, 2])
    assert again.weight is None


class _NoDecision:
    """In place of a ranking of families: nothing was decided."""

    decided: dict = {}  # noqa: RUF012
