from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors, recipe
from mlsys.features import plan, program
from mlsys.features.operations.encoders import ENVIRONMENT, encoder_digests
from mlsys.features.program import FeatureProgram
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from pictures import encoded, noise

TASK = Task(kind=TaskKind.REGRESSION, target="y")
SCHEMA = Schema(
    columns=(
        Column(name="photo", type="binary", kind=Kind.IMAGE),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)
PHOTOS = [encoded(noise(9 + n, 7, "RGB", seed=n)) for n in range(5)]
CODE = '''
import numpy as np

calls = []


def project(pixels):
    """Mean colour through a fixed matrix, and the size: a network in small."""
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    return np.append(pixels.mean(axis=(0, 1), dtype=np.float32) @ weights, pixels.shape[:2]).astype(np.float32)


def restless(pixels):
    calls.append(1)
    return np.array([len(calls)])


def of_size(pixels):
    return pixels[:, 0, 0]


def words(pixels):
    return np.array(["a"])


def nothing(pixels):
    return np.array([np.nan])


constant = 7
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of encoders on the path, as a user's own file would be."""
    name = f"encoders_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def allow(monkeypatch):
    return lambda *names: monkeypatch.setenv(ENVIRONMENT, ", ".join(names))


def table(data):
    return pa.table({"photo": pa.array(data, pa.binary()), "y": np.arange(len(data), dtype=float)})


def fitted(encoder, data=PHOTOS, encoding="codes"):
    statistics = TableStatistics.empty(SCHEMA, TASK)
    statistics.update(table(data))
    line = recipe.FeaturesSection.model_validate({"columns": {"photo": {"operation": "image", "encoder": encoder}}})
    return program.fit(plan.choose(SCHEMA, statistics, line, encoding), statistics)


def test_an_encoder_gives_the_features_of_a_picture(module, allow):
    allow("other:encode", f"{module}:project")
    made = fitted(f"{module}:project", [None, *PHOTOS], "dense")
    assert made.names == [*(f"photo: encoded {at}" for at in range(6)), "photo is missing"]
    X = made.transform(table([*PHOTOS, None]))
    for row, seed in zip(X, range(5), strict=False):
        levels = np.asarray(noise(9 + seed, 7, "RGB", seed)).astype(np.float64)
        expected = levels.mean(axis=(0, 1)) @ np.arange(12).reshape(3, 4)
        assert row[:4] == pytest.approx(expected, rel=1e-5)
        assert row[4:].tolist() == [7, 9 + seed, 0]
    assert X[-1].tolist() == [0, 0, 0, 0, 0, 0, 1]
    row = made.row()
    assert [row({"photo": data}).tobytes() for data in [*PHOTOS, None]] == [one.tobytes() for one in X]


def test_a_program_names_its_encoder_and_the_digest_of_its_file_and_no_code(module, allow):
    allow(f"{module}:project")
    made = fitted(f"{module}:project")
    told = json.loads(json.dumps(made.to_json()))
    operation = told["operations"][0]
    assert (operation["encoder"], operation["width"]) == (f"{module}:project", 6)
    assert operation["source"] == hashlib.sha256(CODE.encode()).hexdigest()
    back = FeatureProgram.from_json(told)
    assert back.transform(table(PHOTOS)).tobytes() == made.transform(table(PHOTOS)).tobytes()


def test_what_a_fit_depends_on_holds_the_digest_of_the_file(module, allow):
    allow(f"{module}:project")
    line = {"photo": {"operation": "image", "encoder": f"{module}:project"}, "other": "numeric"}
    assert encoder_digests(recipe.FeaturesSection.model_validate({"columns": line})) == {
        f"{module}:project": hashlib.sha256(CODE.encode()).hexdigest()
    }


def test_an_encoder_that_the_environment_does_not_list_is_never_imported(module, allow, monkeypatch):
    allow(f"{module}:project")
    told = fitted(f"{module}:project").to_json()
    sys.modules.pop(module)
    for listed, got in (("", f"no {ENVIRONMENT} in the environment"), ("a:b", f"{ENVIRONMENT}=a:b")):
        monkeypatch.setenv(ENVIRONMENT, listed)
        for refused in (lambda: FeatureProgram.from_json(told).row(), lambda: fitted(f"{module}:project")):
            with pytest.raises(errors.FeatureError) as caught:
                refused()
            assert str(caught.value).splitlines()[:2] == [
                f"features: encoder {module}:project",
                f"  got:      {got}",
            ]
    assert module not in sys.modules


def test_a_model_whose_encoder_has_changed_is_refused_when_it_is_loaded(module, allow, tmp_path):
    allow(f"{module}:project")
    told = fitted(f"{module}:project").to_json()
    (tmp_path / f"{module}.py").write_text(CODE.replace("np.arange(12", "np.arange(1, 13"))
    sys.modules.pop(module)
    with pytest.raises(errors.BundleError, match=f"encoder {module}:project\n  got:      a file with SHA-256"):
        FeatureProgram.from_json(told).row()


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("restless", "two vectors for one picture"),
        ("words", "an array of <U1"),
        ("nothing", "NaN, or a number beyond float32"),
        ("constant", "no function 'constant'"),
        ("projekt", "no function 'projekt'"),
    ],
)
def test_a_function_that_is_no_encoder_is_refused_at_the_fit(module, allow, name, got):
    allow(f"{module}:{name}")
    with pytest.raises(errors.FeatureError, match=f"  got:      {got}"):
        fitted(f"{module}:{name}")


def test_a_module_that_is_not_there_is_refused(allow):
    allow("no_such_module:encode")
    with pytest.raises(errors.FeatureError, match="No module named 'no_such_module'"):
        fitted("no_such_module:encode")


def test_vectors_of_different_length_are_refused(module, allow):
    allow(f"{module}:of_size")
    made = fitted(f"{module}:of_size")
    with pytest.raises(errors.FeatureError, match=r"a vector of shape \(7,\) for a picture of 9 × 7"):
        made.transform(table(PHOTOS[:1]))


def test_the_recipe_refuses_what_is_no_name_and_options_without_effect():
    for line in ({"encoder": "os.system"}, {"encoder": "a:b", "size": 32}):
        with pytest.raises(ValueError, match="encoder"):
            recipe.FeaturesSection.model_validate({"columns": {"photo": {"operation": "image", **line}}})
