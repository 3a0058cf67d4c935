import io
import signal
import subprocess
import sys
import textwrap

import pytest

from mlsys import errors
from mlsys.console import Console
from mlsys.recipe import parse
from mlsys.registry import mlflow_mirror
from mlsys.store import Store
from mlsys.workflow import STEPS, Run, run_record
from mlsys.workflow.run_record import RunRecord


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def begin(store, name="penguins"):
    return RunRecord.begin(store.run_folder(name), "name: penguins\n", "evaluate")


def test_a_run_and_its_steps_are_recorded_with_what_they_produced(store):
    run = begin(store)
    with run.recording(), run.step("collect", 1) as entry:
        entry |= {"summary": "344 rows", "metrics": {"rows_train": 240}}
    (record,) = run_record.records(store, "penguins")
    assert record["status"] == "finished"
    assert record["recipe"] == "name: penguins\n"
    assert record["began"] <= record["steps"][0]["began"] <= record["steps"][0]["ended"] <= record["ended"]
    assert record["steps"][0].items() >= {
        "name": "collect", "number": 1, "status": "finished", "summary": "344 rows", "metrics": {"rows_train": 240},
    }.items()  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status"), [(errors.SourceError("collect: no file"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_run_that_stops_says_in_which_step_and_why(store, error, status):
    run = begin(store)
    with pytest.raises(type(error)), run.recording(), run.step("collect", 1):
        raise error
    (record,) = run_record.records(store, "penguins")
    assert (record["status"], record["steps"][0]["status"]) == (status, status)
    assert record["steps"][0]["message"] == str(error) or status == "interrupted"


def test_a_run_that_was_killed_is_told_by_the_next_one(store):
    program = textwrap.dedent(f"""\
        import os, signal
        from mlsys.store import Store
        from mlsys.workflow.run_record import RunRecord
        run = RunRecord.begin(Store.open({str(store.root)!r}).run_folder("penguins"), "", "evaluate")
        with run.recording():
            with run.step("collect", 1):
                pass
            with run.step("explore", 2):
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    (before,) = run_record.records(store, "penguins")
    begin(store)
    killed, running = run_record.records(store, "penguins")
    assert before["steps"][1]["status"] == "running"
    assert [killed["status"], running["status"]] == ["killed", "running"]
    assert [step["status"] for step in killed["steps"]] == ["finished", "killed"]


@pytest.mark.parametrize(
    ("error", "is_told"), [(KeyboardInterrupt(), False), (SystemExit(1), False), (errors.SourceError("no file"), True)]
)
def test_whoever_ends_a_run_does_not_wait_for_mlflow(store, monkeypatch, error, is_told):
    told = []
    monkeypatch.setattr(mlflow_mirror, "mirror", lambda _, name: told.append(name))
    run = Run(parse("name: late\ntarget: y\ndata: {source: rows.csv}"), store, Console(io.StringIO()), mirrors=True)
    with pytest.raises(type(error)), run.ending_after("deploy", STEPS):
        raise error
    assert told == ["late"] * is_told
    assert run_record.records(store, "late")[0]["status"] != "running"
