"""A Ctrl-C that somebody swallows still ends the run."""

import contextlib
import dataclasses
import io
import os
import signal
import sys
import threading

import pytest

from mlsys import interruption
from mlsys.console import Console
from mlsys.recipe import parse
from mlsys.store import Store
from mlsys.workflow import COLLECT, EXPLORE, STEPS, Run, run_record


def press():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(5)


def swallow():
    with contextlib.suppress(KeyboardInterrupt):
        press()


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_one_that_is_swallowed_is_raised_again():
    with interruption.noted():
        interruption.heed()  # nobody has asked
        swallow()
        with pytest.raises(KeyboardInterrupt):
            interruption.heed()
    interruption.heed()  # the next run has not been asked to end


def test_one_that_is_not_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), interruption.noted():
        press()


def test_another_handler_stays_in_place():
    def own(*_):
        raise RuntimeError("own")

    before = signal.signal(signal.SIGINT, own)
    try:
        with pytest.raises(RuntimeError, match="own"), interruption.noted():
            press()
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def take(run, steps):
    for step in steps:
        run.step(step)


def test_a_run_ends_at_the_step_after_the_one_that_swallowed_it(tmp_path, monkeypatch):
    def work(run, step, _):
        swallow()
        run.records[step.name] = {}
        return None, True

    monkeypatch.setattr(Run, "_recall", work)
    monkeypatch.setattr(sys.modules[Run.__module__], "step_facts", lambda *_: {})
    steps = [dataclasses.replace(step, summary=str, check=lambda *_: None) for step in (COLLECT, EXPLORE)]
    store = Store.open(tmp_path / "store")
    run = Run(parse("name: late\ntarget: y\ndata: {source: rows.csv}"), store, Console(io.StringIO()))
    with pytest.raises(KeyboardInterrupt), run.ending_after("explore", STEPS):
        take(run, steps)
    (record,) = run_record.records(store, "late")
    assert [step["status"] for step in record["steps"]] == ["finished", "interrupted"]
    assert record["status"] == "interrupted"
