"""How a command ends: its exit code, one sentence, and never a traceback."""

from __future__ import annotations

import pytest

from mlsys import errors
from mlsys.cli import endings, recipe_verbs, watch_verbs
from mlsys.workflow import STEPS
from mlsys.workflow.results import MonitorResult


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The store of the command."""
    monkeypatch.setenv("MLSYS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(endings, "_stores", [])
    return tmp_path / "store"


def leave(error):
    with pytest.raises(SystemExit) as left, endings.exit_codes():
        raise error
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GateError("deploy: model 'm'"), 1),
        (errors.RecipeError("recipe: 'name'"), 2),
        (errors.StoreError("store: file"), 2),
        (KeyboardInterrupt(), 130),
        (KeyError("x"), 70),
        (ZeroDivisionError("division by zero"), 70),
    ],
)
def test_an_error_is_an_exit_code(home, error, code):
    assert leave(error) == code


def test_an_error_of_ours_is_its_message(home, capsys):
    leave(errors.GateError("deploy: model 'm'\n  got:      a failed check"))
    assert capsys.readouterr().err == "\nerror: deploy: model 'm'\n  got:      a failed check\n"
    assert not home.exists()


def test_a_fault_is_one_sentence_and_its_traceback_is_in_the_store(home, capsys):
    leave(KeyError("missing"))
    said = capsys.readouterr().err
    (file,) = (home / "faults").iterdir()
    assert said == (
        f"\nfault: mlsys failed with KeyError, which is its own mistake and not yours; the traceback is in {file}\n"
    )
    kept = file.read_text()
    assert kept.startswith("Traceback")
    assert kept.endswith("KeyError: 'missing'\n")


def test_a_fault_in_another_store_is_kept_there(home, tmp_path):
    endings.open_store(tmp_path / "other")
    leave(KeyError("missing"))
    assert len(list((tmp_path / "other" / "faults").iterdir())) == 1


def test_a_fault_without_a_store_to_write_to_shows_its_traceback(home, capsys):
    home.write_text("a file")
    leave(KeyError("missing"))
    assert "KeyError: 'missing'" in capsys.readouterr().err


@pytest.mark.parametrize(("decision", "code"), [("keep", 0), ("watch", 3), ("retrain", 4)])
def test_the_decision_of_the_monitor_is_the_exit_code_of_its_verb_and_job_alone(decision, code):
    results = {"monitor": MonitorResult(decision, code, [], "")}
    assert recipe_verbs.exit_code("monitor", results) == code
    for step in {*STEPS, "workflow"} - {"monitor"}:
        assert recipe_verbs.exit_code(step, results) == 0


def test_two_windows_that_are_compared_are_a_line_a_column():
    shift = {"column": "a", "js_distance": 0.3, "low": 0.25, "high": 0.35, "alarmed": True, "detail": "mean 0 → 1"}
    quiet = {**shift, "column": "b", "low": None, "high": None, "alarmed": False, "adjusted": 0.5, "detail": "nulls"}
    comparison = {"windows": ["2024-01-01", "2024-01-08"], "columns": [shift, quiet]}
    assert watch_verbs.compared_lines(comparison) == [
        "2024-01-08 compared with 2024-01-01, Jensen-Shannon distance:",
        "  a 0.300 (0.250 to 0.350), alarm: mean 0 → 1",
        "  b 0.300, p 0.5: nulls",
    ]
    assert watch_verbs.compared_lines(None) == []
