"""Recipes to and from YAML: a file with overrides becomes a recipe, a recipe the file that reproduces it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mlsys import errors
from mlsys.recipe import faults
from mlsys.recipe.sections import Recipe

__all__ = ["KeysOnce", "dump", "json_schema", "load", "parse"]


def load(path: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe file; `settings` are overrides such as ``train.rounds=200``.

    Raises
    ------
    RecipeError
        The file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.name for p in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise errors.RecipeError.build(
            f"recipe: file '{path}'",
            got="nothing there",
            expected="a YAML file",
            hint=errors.did_you_mean(file.name, near),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.RecipeError.build(
            f"recipe: file '{path}'", got=str(error), expected="a readable YAML file in UTF-8"
        ) from None
    return parse(text, settings, where=str(path))


def parse(text: str, settings: Iterable[str] = (), where: str = "recipe") -> Recipe:
    """A recipe of its YAML text."""
    tree = _read_yaml(text, f"recipe: {where}")
    if not isinstance(tree, dict):
        raise errors.RecipeError.build(
            f"recipe: {where}", got=type(tree).__name__, expected="keys and values, e.g. name: demo"
        )
    tree = {key: value for key, value in tree.items() if value is not None}  # an empty section is its defaults
    for setting in settings:
        _override(tree, setting)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise faults.explain(error) from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default filled in."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=2) + "\n"


class KeysOnce:
    """What a YAML loader begins with: a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (PyYAML's signature)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc,no-any-return]


class _Loader(KeysOnce, yaml.SafeLoader):
    """YAML as people mean it: dates stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML declares it so)
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (a safe loader with fewer types)
    except yaml.YAMLError as error:
        raise errors.RecipeError.build(where, got=" ".join(str(error).split()), expected="YAML") from None


def _override(tree: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise errors.RecipeError.build(
            f"recipe: --set {setting}", got=setting, expected="key=value, e.g. train.rounds=200"
        )
    *parents, last = path.split(".")
    at = tree
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
        if not isinstance(at, dict):
            raise errors.RecipeError.build(
                f"recipe: --set {setting}", got=f"'{parent}' is a value", expected="a section"
            )
    at[last] = _read_yaml(value, f"recipe: --set {setting}")
