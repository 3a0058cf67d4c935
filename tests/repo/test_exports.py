import ast
import importlib
import pkgutil

import pytest

import mlsys

MODULES = ["mlsys", *sorted(module.name for module in pkgutil.walk_packages(mlsys.__path__, "mlsys."))]


def test_the_package_has_modules_in_every_folder(root):
    folders = {path.parent for path in (root / "mlsys").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("name", MODULES)
def test_a_list_of_exports_is_sorted_and_names_what_exists(name):
    """Only packages need such a list; elsewhere a name without an underscore is public."""
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert list(exported) == sorted(exported, key=isort_key)
    assert all(hasattr(module, item) for item in exported)


def isort_key(name):
    """Constants, then classes, then the rest, each in the order of the alphabet."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name):
    assert importlib.import_module(name).__doc__


def test_only_the_cluster_module_starts_or_joins_ray(root):
    callers = [
        path.relative_to(root).as_posix()
        for path in sorted((root / "mlsys").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"ray.init", "init_ray"}
    ]
    assert set(callers) == {"mlsys/cluster/head.py"}
