"""Records of runs arrive in a real MLflow database once, with steps below runs and tries below steps."""

import hashlib
import shutil

import pytest

from mlsys.registry import mlflow_runs

BEGAN, ENDED = "2026-03-01T10:00:00+00:00", "2026-03-01T10:05:00+00:00"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty MLflow database; making one takes seconds."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def client(database, tmp_path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{shutil.copy(database, tmp_path / 'mlflow.db')}")


@pytest.fixture
def experiment(client, tmp_path):
    return client.create_experiment("penguins", artifact_location=(tmp_path / "artifacts").as_uri())


@pytest.fixture
def record(tmp_path):
    page = tmp_path / "evaluate.html"
    page.write_text("<p>well</p>")
    families = [{"name": "linear", "metrics": {"accuracy": [0.9, 0.7], "accuracy_mean": 0.8}}]
    stopped = {"name": "trial 1", "params": {"l2": 0.5}, "metrics": {"score": 0.1}, "problem": "stopped as hopeless"}
    done = {"began": BEGAN, "ended": ENDED, "status": "finished"}
    steps = [
        {"name": "selection", "number": 4, "summary": "1 family", "tries": families, **done},
        {"name": "tune", "number": 7, "params": {"l2": 1.0}, "tries": [stopped], **done},
        {"name": "evaluate", "number": 6, "metrics": {"accuracy": 0.81}, "problem": "gate failed: accuracy", **done,
         "reports": {str(page): hashlib.sha256(page.read_bytes()).hexdigest()}},
    ]  # fmt: skip
    facts = {"id": "a" * 32, "name": "penguins", "by": "me@here", "until": "evaluate", "recipe": "name: penguins\n"}
    return {**facts, **done, "message": None, "steps": steps}


def tree(client, experiment):
    """Names of runs with the names of their parents."""
    runs = {run.info.run_id: run for run in client.search_runs([experiment])}
    parents = {key: runs.get(run.data.tags.get("mlflow.parentRunId")) for key, run in runs.items()}
    return {(parents[key] and parents[key].info.run_name, run.info.run_name): run for key, run in runs.items()}


def test_steps_are_nested_in_their_run_and_tries_in_their_step(client, experiment, record):
    mlflow_runs.copy(client, experiment, record)
    runs, top = tree(client, experiment), "penguins 2026-03-01T10:00:00"
    assert set(runs) == {
        (None, top), (top, "4 selection"), (top, "7 tune"), (top, "6 evaluate"),
        ("4 selection", "linear"), ("7 tune", "trial 1"),
    }  # fmt: skip
    assert runs[None, top].data.metrics == {"accuracy": 0.81}
    assert runs[None, top].data.params == {"l2": "1.0"}
    assert runs[None, top].info.end_time - runs[None, top].info.start_time == 5 * 60 * 1000
    assert runs["7 tune", "trial 1"].data.params == {"l2": "0.5"}


def test_the_score_of_each_fold_is_a_step_of_its_metric(client, experiment, record):
    mlflow_runs.copy(client, experiment, record)
    family = tree(client, experiment)["4 selection", "linear"].info.run_id
    assert [(point.step, point.value) for point in client.get_metric_history(family, "accuracy")] == [
        (0, 0.9),
        (1, 0.7),
    ]


def test_a_failed_gate_is_a_failed_step_with_its_reason(client, experiment, record):
    top = client.get_run(mlflow_runs.copy(client, experiment, record)).info
    step = tree(client, experiment)[top.run_name, "6 evaluate"]
    assert (step.info.status, step.data.tags["mlsys.problem"]) == ("FAILED", "gate failed: accuracy")
    assert top.status == "FINISHED"


def test_a_report_is_copied_unless_another_run_has_written_its_own_there(client, experiment, record, tmp_path):
    mlflow_runs.copy(client, experiment, record)
    mended = {**record, "id": "b" * 32, "name": "again"}
    (tmp_path / "evaluate.html").write_text("<p>another run</p>")
    mlflow_runs.copy(client, experiment, mended)
    copied = {parent: [file.path for file in client.list_artifacts(run.info.run_id)]
              for (parent, name), run in tree(client, experiment).items() if name == "6 evaluate"}  # fmt: skip
    assert copied == {"penguins 2026-03-01T10:00:00": ["evaluate.html"], "again 2026-03-01T10:00:00": []}


def test_copying_twice_changes_nothing_and_a_copy_that_was_cut_off_is_made_anew(client, experiment, record):
    first = mlflow_runs.copy(client, experiment, record)
    before = set(tree(client, experiment))
    assert mlflow_runs.copy(client, experiment, record) == first
    client.delete_tag(first, "mlsys.copied")
    assert mlflow_runs.copy(client, experiment, record) == first
    assert set(tree(client, experiment)) == before
    assert len(client.search_runs([experiment])) == 6


def test_names_and_values_that_mlflow_refuses_are_made_to_fit(client, experiment, record):
    odd = {"name": "train", "number": 5, "began": BEGAN, "ended": ENDED, "status": "failed", "message": "x" * 9000,
           "params": {"größe (m²)": "y" * 9000, "list": [1, 2]}, "metrics": {"precision@10%": 0.5}}  # fmt: skip
    run = mlflow_runs.copy(client, experiment, {**record, "steps": [odd], "status": "killed"})
    step = tree(client, experiment)[client.get_run(run).info.run_name, "5 train"]
    assert step.data.params == {"gr__e _m__": "y" * 5000, "list": "[1, 2]"}
    assert step.data.metrics == {"precision_10_": 0.5}
    assert step.info.status == "FAILED"
    assert client.get_run(run).info.status == "KILLED"
