"""Importing does nothing and costs little. Counted in modules, since a clock depends on the machine."""

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest

HEAVY = ("ray", "pandas", "polars", "pyarrow", "numpy", "scipy", "sklearn", "xgboost", "mlflow", "optuna", "starlette")


def loaded_by(statement, cwd):
    """Top-level packages in memory after a statement, in a fresh Python that watches what the statement does."""
    program = dedent(f"""\
        import json, sys, os
        refused = ("os.mkdir", "os.rename", "os.remove", "subprocess.Popen", "socket.connect", "socket.bind", "os.fork")
        def watch(event, arguments):
            if event in refused and "__pycache__" not in str(arguments):
                raise RuntimeError(f"importing did {{event}} {{arguments}}")
            if event == "open" and arguments[1] and set(str(arguments[1])) & set("wax+"):
                if "__pycache__" not in str(arguments[0]):
                    raise RuntimeError(f"importing wrote {{arguments[0]}}")
        sys.addaudithook(watch)
        before = dict(os.environ)
        {statement}
        assert dict(os.environ) == before, "importing changed the environment"
        sys.stderr.write(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
        """)
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("module", ["mlsys", "mlsys.cli", "mlsys.errors"])
def test_importing_is_light_and_has_no_effect(module, tmp_path):
    assert loaded_by(f"import {module}", tmp_path).isdisjoint(HEAVY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["mlsys.recipe", "mlsys.store", "mlsys.cluster", "mlsys.workflow", "mlsys.reports"])
def test_importing_what_the_command_line_needs_first_does_not_load_ray_or_model_libraries(module, tmp_path):
    heavy = {"ray", "pandas", "sklearn", "xgboost", "mlflow", "optuna", "scipy"}
    assert loaded_by(f"import {module}", tmp_path).isdisjoint(heavy)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["mlsys.operate", "mlsys.deploy.batch_worker"])
def test_predicting_files_loads_neither_ray_nor_what_only_fits_and_alarms_need(module):
    program = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"ray", "fastapi", "pandas", "sklearn", "scipy.optimize", "scipy.stats"}
    assert heavy.isdisjoint(json.loads(done.stdout))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_asking_for_help_touches_nothing(arguments, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "MLSYS_STORE"}
    done = subprocess.run(
        [sys.executable, "-c", "from mlsys.cli import main; main()", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Usage:" in done.stdout
    assert list(tmp_path.iterdir()) == []
