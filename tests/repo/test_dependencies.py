import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pages import tables

PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def locked(root):
    return [Requirement(line) for line in (root / "requirements.lock").read_text().splitlines()]


@pytest.fixture(scope="module")
def asked(project):
    """Every requirement that pyproject.toml states, in whichever list, but for torch, which has a lock of its own."""
    extras = project["project"].get("optional-dependencies", {})
    lists = [project["project"]["dependencies"], *extras.values(), *project["dependency-groups"].values()]
    return [each for names in lists for line in names if (each := Requirement(line)).name != "torch"]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_what_is_asked_for(asked, locked, python):
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins = {
        canonicalize_name(line.name): next(iter(line.specifier)).version
        for line in locked
        if line.marker is None or line.marker.evaluate(environment)
    }
    for requirement in asked:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_lock_of_torch_pins_it_and_what_it_stands_on(root, project, locked):
    pinned = [Requirement(line) for line in (root / "requirements-torch.lock").read_text().splitlines()]
    (extra,) = map(Requirement, project["project"]["optional-dependencies"]["torch"])
    assert {each.name for each in pinned} & {each.name for each in locked} == set()
    assert all(re.fullmatch(r"==[\w.+!]+", str(each.specifier)) and each.url is None for each in pinned)
    assert next(iter(pinned[0].specifier)).version in extra.specifier
    needed = {Requirement(line).name for line in metadata.requires("torch") if "extra" not in line}
    assert needed <= {each.name for each in (*pinned, *locked)}


def test_the_lock_holds_exact_versions_and_nothing_of_where_they_came_from(root, locked):
    assert all(re.fullmatch(r"==[\w.+!]+", str(line.specifier)) and line.url is None for line in locked)
    assert not re.search(r"://|--|\s@\s", (root / "requirements.lock").read_text())


def test_the_pythons_of_the_lock_are_those_of_the_project(project):
    supported = SpecifierSet(project["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in supported] == list(PYTHONS)


def test_every_dependency_says_in_the_docs_what_it_is_for(project, root):
    page = (root / "docs" / "operating.md").read_text()
    table = next((table for table in tables(page) if table[0][0].lower() == "dependency"), [])
    said = {canonicalize_name(name) for row in table[1:] for name in re.findall(r"[\w.-]+", row[0])}
    assert all(all(row) for row in table)
    extras = project["project"].get("optional-dependencies", {})
    wanted = [project["project"]["dependencies"], *extras.values()]
    missing = {canonicalize_name(Requirement(line).name) for names in wanted for line in names} - said
    assert missing == set()
