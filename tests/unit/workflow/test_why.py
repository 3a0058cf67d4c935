"""Failed and odd runs are explained by what is recorded of them: real runs, each broken in one way."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mlsys
from mlsys import errors
from mlsys.cli import app
from mlsys.store import Store
from mlsys.workflow import run_record, why
from mlsys.workflow.run_record import RunRecord

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
ROWS = "x,colour,y\n" + "".join(f"{i},{'rgb'[i % 3]},{int((i > 90) != (i % 10 == 0))}\n" for i in range(200))


def run(folder, source, name="small", until="train", **settings):
    recipe = {"name": name, "target": "y", "data": {"source": str(source), "kinds": {"x": "numeric"}}}
    how = {"set": {**QUICK, **settings}, "store": folder / "store", "cluster": False, "quiet": True}
    return mlsys.run(recipe, until, **how)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store in which a run trained on a table with one bad row, and the next one was given no table."""
    folder = tmp_path_factory.mktemp("why")
    (folder / "rows.csv").write_text(ROWS + "many,r,1\n")
    run(folder, folder / "rows.csv")
    with pytest.raises(errors.SourceError):
        run(folder, folder / "rovs.csv")
    return folder


def records(folder, name="small"):
    return run_record.records(Store(folder / "store"), name)


def test_a_failed_step_is_named_with_its_error_what_it_read_and_what_to_change(place):
    done = why.explain(Store(place / "store"), "small")
    assert (done.status, done.step, done.until) == ("failed", "collect", "train")
    first, *others = done.statements
    assert (first.about, first.is_cause) == ("collect", True)
    assert first.words == (
        f"collect: source '{place}/rovs.csv': got nothing there; expected a file, a folder or a glob that matches"
    )
    assert first.change == ("did you mean 'rows.csv'?",)
    assert first.read[0] == f"data.source: {place}/rovs.csv"
    assert first.read[-1].startswith("recipe: target, task, positive, loss, ")
    assert first.more == f"mlsys why {done.run[:8]} --json"
    recipe = next(each for each in others if each.about == "recipe")
    assert f"data.source: {place}/rows.csv"[:40] in recipe.words
    assert " → " in recipe.words
    assert not recipe.is_cause


def test_a_run_is_explained_by_its_id_alone(place):
    finished, failed = records(place)
    store = Store(place / "store")
    assert why.explain(store, failed["id"]).run == failed["id"]
    done = why.explain(store, finished["id"][:8])
    assert (done.run, done.status, done.step) == (finished["id"], "finished", None)
    assert not any(statement.is_cause for statement in done.statements)


def test_rows_in_quarantine_are_counted_by_rule_with_the_command_that_prints_them(place):
    done = why.explain(Store(place / "store"), records(place)[0]["id"])
    (quarantine,) = (statement for statement in done.statements if statement.about == "quarantine")
    assert quarantine.words.startswith("1 row broke the rule: ")
    assert "'many' in 'rows.csv' row 200" in quarantine.words
    assert "polars.read_parquet(" in quarantine.more


def test_the_text_marks_causes_and_says_where_more_is(place):
    lines = why.explain(Store(place / "store"), "small").summary.splitlines()
    assert re.fullmatch(
        r"small: run [0-9a-f]{8} of 20\d\d-\d\d-\d\dT\d\d:\d\dZ until train failed in step collect after .+", lines[0]
    )
    assert lines[1].startswith("! collect  collect: source ")
    assert lines[2].strip().startswith("read:   data.source: ")
    assert any(line.strip() == "change: did you mean 'rows.csv'?" for line in lines)


def test_a_gate_that_failed_is_a_cause_with_the_advice_of_each_check(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "y": rng.integers(0, 2, 300)})
    frame.to_csv(tmp_path / "noise.csv", index=False)
    settings = {"train.family": "linear", "data.kinds": {}}
    finished = run(tmp_path, tmp_path / "noise.csv", "noise", "evaluate", **settings)
    assert finished.passed is False
    done = why.explain(Store(tmp_path / "store"), "noise")
    assert (done.status, done.step) == ("finished", None)
    gate = done.statements[0]
    assert (gate.about, gate.is_cause, gate.more) == ("gate", True, "mlsys open noise")
    assert gate.words.startswith("the model did not pass its gate: the gain over the dummy is ")
    assert gate.change[0].startswith("beats the dummy: ")


def begin(store):
    return RunRecord.begin(store.run_folder("late"), "name: late\ndata: {source: rows.csv}\n", "evaluate")


def test_a_process_that_ended_without_a_word_is_said_to_have_done_so(tmp_path):
    store = Store.open(tmp_path)
    program = textwrap.dedent(f"""\
        import os, signal
        from mlsys.store import Store
        from mlsys.workflow.run_record import RunRecord
        store = Store.open({str(tmp_path)!r})
        run = RunRecord.begin(store.run_folder("late"), "name: late\\ndata: {{source: rows.csv}}\\n", "evaluate")
        with run.recording(), run.step("collect", 1):
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    done = why.explain(store, "late")
    (killed,) = done.statements
    assert (done.status, done.step) == ("killed", "collect")
    assert killed.words == (
        "the process ended during step 1 collect (nobody holds its lock): a signal, or too little memory; "
        "the record cannot tell which"
    )
    assert killed.read[0] == "data.source: rows.csv"
    assert killed.more == "mlsys logs"
    begin(store)
    (first, *_) = records_of(store)
    assert why.explain(store, first["id"]).status == "killed"


def records_of(store):
    return run_record.records(store, "late")


def test_a_fault_of_ours_leads_to_its_traceback(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    with pytest.raises(KeyError), opened.recording(), opened.step("collect", 1):
        raise KeyError("missing")
    stamp = opened.value["ended"][:19].replace(":", "-")
    file = tmp_path / "faults" / f"{stamp}-{os.getpid()}.txt"
    file.parent.mkdir()
    file.write_text("Traceback …\nKeyError: 'missing'\n")
    (file.parent / "2001-01-01T00-00-00-1.txt").write_text("of another process")
    (fault,) = why.explain(store, "late").statements
    assert (fault.words, fault.more) == ("KeyError: 'missing'", f"cat {file}")
    assert fault.change == ("it is a fault of mlsys itself: its traceback says where",)


def test_a_check_that_fails_after_its_step_has_ended_is_told_with_that_step(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)

    def collect():
        with opened.recording():
            with opened.step("collect", 1):
                pass
            raise errors.ContractError.stale("at", "2026-01-01", "9 days", "1d")

    with pytest.raises(errors.ContractError):
        collect()
    done = why.explain(store, "late")
    (late,) = done.statements
    assert (done.status, done.step) == ("failed", None)
    assert (
        late.words
        == "collect: column 'at': got the newest value 2026-01-01, 9 days old; expected at most 1d (data.freshness)"
    )
    assert late.change == ("find out why the source is late, or raise data.freshness",)
    opened = begin(store)
    with pytest.raises(errors.StoreError), opened.recording():
        raise errors.StoreError("store: no space")
    (early,) = why.explain(store, "late").statements
    assert (early.about, early.words, early.is_cause) == ("run", "store: no space", True)


def test_a_process_that_was_told_to_end_is_said_to_have_been(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    with pytest.raises(SystemExit), opened.recording(), opened.step("evaluate", 6):
        raise SystemExit(15)
    (told,) = why.explain(store, "late").statements
    assert told.words == "the process was told to end while the step was at work (SystemExit: 15)"
    assert told.change == ("the same command goes on from there; finished steps are kept",)


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    with pytest.raises(KeyboardInterrupt), opened.recording(), opened.step("tune", 7):
        raise KeyboardInterrupt("the search has 3 trials")
    (stopped,) = why.explain(store, "late").statements
    assert (stopped.about, stopped.words) == ("tune", "interrupted: the search has 3 trials")
    assert stopped.change == ("the same command goes on from there; finished steps are kept",)


def test_a_search_that_its_time_cut_short_and_a_refused_champion_are_told(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    search = {"ended": "when its time was over", "num_trials": 4, "num_late": 1, "num_untried": 5}
    with opened.recording():
        with opened.step("tune", 7) as entry:
            entry |= {"search": {**search, "is_cut_short": True}}
        with opened.step("deploy", 8) as entry:
            entry |= {"notes": ["the gain is 0.001 and may be chance (version 1)"], "advice": ["900 test rows"]}
    champion, tuned = why.explain(store, "late").statements
    assert (champion.about, champion.is_cause, champion.change) == ("deploy", True, ("900 test rows",))
    assert tuned.words == (
        "the search ended when its time was over, after 4 trials, 1 of them ended by their time; "
        "5 points of the portfolios not tried"
    )


def test_the_facts_of_a_search_are_those_of_its_record():
    trial = {"finished": False}
    ended = "when its time was over"
    rows = [
        {"points": 3, "reason": f"the search ended before, {ended}"},
        {"points": 4, "reason": "no part of the search"},
    ]
    search = {"ended": ended, "seconds": 9.0, "untried": rows}
    kept = run_record._search({"search": search, "trials": [trial, {"finished": True}], "notes": ["n"]})
    assert kept == {
        "notes": ["n"],
        "search": {"ended": ended, "num_trials": 2, "num_late": 1, "num_untried": 3, "is_cut_short": True},
    }
    assert run_record._search({"search": {}, "trials": [], "notes": []}) == {"notes": []}


def test_a_run_without_anything_odd_says_so(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    with opened.recording(), opened.step("collect", 1):
        pass
    done = why.explain(store, "late")
    assert done.statements == ()
    assert done.summary.endswith("; nothing that is recorded is odd")


def test_trials_that_failed_during_the_run_are_counted_with_their_last_line(tmp_path):
    store = Store.open(tmp_path)
    opened = begin(store)
    file = store.root / "runs" / "late" / "tune" / "linear-1" / "failures.jsonl"
    file.parent.mkdir(parents=True)
    with opened.recording(), opened.step("tune", 7):
        line = json.dumps({"family": "linear", "traceback": "Traceback\n  …\nMemoryError: 8 GiB\n"})
        file.write_text(f"{line}\n{line}\n")
    (failed,) = why.explain(store, "late").statements
    assert (failed.words, failed.more) == ("2 trials failed; the last: MemoryError: 8 GiB", f"cat {file}")


def test_a_name_that_nobody_knows_is_refused_with_the_nearest(place):
    with pytest.raises(errors.RegistryError) as caught:
        why.explain(Store(place / "store"), "smal")
    assert str(caught.value) == (
        "why: 'smal'\n"
        "  got:      no run and no name\n"
        "  expected: the name of a recipe or model, or the id of a run, or its first 8 digits\n"
        "  hint:     did you mean 'small'?"
    )
    for text in ("..", "../small", "0" * 32):
        with pytest.raises(errors.RegistryError, match="no run and no name"):
            why.explain(Store(place / "store"), text)


def test_the_verb_prints_words_and_the_same_as_json(place):
    text = CliRunner().invoke(app, ["why", "small", "--store", str(place / "store")])
    assert text.exit_code == 0
    assert "! collect" in text.stdout
    done = CliRunner().invoke(app, ["why", "small", "--json", "--store", str(place / "store")])
    value = json.loads(done.stdout)
    assert value.keys() == {"name", "run", "status", "step", "until", "began", "ended", "statements"}
    assert value["statements"][0].keys() == {"about", "words", "more", "is_cause", "read", "change"}
