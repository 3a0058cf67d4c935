"""One word a step: the same in package, job, recipe, command line, workflow and README."""

import importlib.util
import subprocess
import sys

import pytest
import typer

from mlsys import cli, recipe, workflow

NUMBERS = {
    "collect": 1,
    "explore": 2,
    "features": 3,
    "selection": 4,
    "train": 5,
    "evaluate": 6,
    "tune": 7,
    "deploy": 8,
    "monitor": 9,
}
ORDER = ["collect", "explore", "features", "selection", "tune", "train", "evaluate", "deploy", "monitor"]


@pytest.mark.parametrize("step", NUMBERS)
def test_a_step_is_a_module_of_the_package(step):
    assert importlib.util.find_spec(f"mlsys.{step}") is not None


@pytest.mark.parametrize("step", [*NUMBERS, "workflow"])
def test_a_step_is_a_job(step, root):
    text = (root / "jobs" / f"{step}.py").read_text()
    assert f'cli.job("{step}")' in text


@pytest.mark.parametrize("step", ["collect", "monitor", "workflow"])
def test_a_job_ends_as_its_verb_does(step, root, tmp_path):
    commands = [
        ["-c", "from mlsys.cli import main; main()", "run" if step == "workflow" else step, "nothing.yaml"],
        [str(root / "jobs" / f"{step}.py"), "--recipe", "nothing.yaml"],
    ]
    verb, job = [
        subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        for command in commands
    ]
    assert (verb.returncode, job.returncode) == (2, 2)
    assert verb.stderr == job.stderr
    assert "recipe: file 'nothing.yaml'" in verb.stderr


@pytest.mark.parametrize("step", NUMBERS)
def test_a_step_is_a_verb_of_the_command_line_with_its_number(step):
    command = typer.main.get_command(cli.app).commands[step]
    assert command.help.startswith(f"{NUMBERS[step]}: ")


@pytest.mark.parametrize("step", NUMBERS)
def test_a_step_is_a_section_of_the_recipe(step):
    section = {"collect": "data"}.get(step, step)  # what is collected is said under its own name
    assert section in recipe.Recipe.model_fields


def test_the_workflow_runs_the_steps_in_their_order():
    assert {name: step.number for name, step in workflow.STEPS.items()} == NUMBERS
    assert list(workflow.STEPS) == ORDER


@pytest.mark.parametrize("step", NUMBERS)
def test_a_step_has_a_command_in_the_readme(step, readme):
    assert f"mlsys {step} " in readme


def test_no_job_is_without_a_step(root):
    assert {path.stem for path in (root / "jobs").glob("*.py")} == {*NUMBERS, "workflow"}


def test_every_recipe_is_named_after_its_file_and_resolves(root):
    paths = sorted((root / "jobs" / "recipes").glob("*.yaml"))
    assert paths
    for path in paths:
        assert recipe.load(path).name == path.stem
