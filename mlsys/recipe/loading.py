"""Read recipes from YAML, with overrides, and write them back; a value that does not fit becomes a `RecipeError`."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mlsys import errors
from mlsys.recipe import columns, secrets
from mlsys.recipe.reading import Section
from mlsys.recipe.sections import Recipe

SectionT = typing.TypeVar("SectionT", bound=Section)

WORDS = {
    "string_type": "text",
    "tuple_type": "a list, e.g. [a, b]",
    "dict_type": "keys and values, e.g. {a: b}",
    "model_type": "a section: keys and values",
    "bool_type": "true or false",
}
"""The expected value in words of YAML, by pydantic's type of the fault."""

FORMS = {
    "name": "a small letter, then small letters, digits, - and _, at most 63 in all",
    "delimiter": "one ASCII character, e.g. ';' or \"\\t\"",
    "lookup": "sqlite, none, or an address of Redis, e.g. redis://127.0.0.1:6379/0",
    "encoder": "module:function",
}
"""The expected text where it has to match a pattern, by key."""

TRIED = re.compile(r"[\[(]|^(str|int|float|bool|constrained-\w+)$")


def explain(error: ValidationError, model: type[BaseModel]) -> errors.RecipeError:
    """Turn the first fault into a message; unknown keys come first, as they often explain the rest."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault: Any = faults[0]
    path = _path(fault)
    dotted = ".".join(path)
    if path[:2] == ["features", "columns"] and len(path) > 2:
        return _explain_column(faults, path[2])
    if fault["type"] == "extra_forbidden":
        return errors.RecipeError.unknown_key(dotted, path[-1], _keys_at(path[:-1], model))
    if fault["type"] == "missing":
        return errors.RecipeError.build(f"recipe: '{dotted}' is missing", expected="a value", hint=f"add '{dotted}: …'")
    expected = dict.fromkeys(_expected(each) for each in faults if _path(each) == path)
    got = _hidden(fault["input"]) if path[:2] == ["monitor", "alerts"] else secrets.shown(repr(fault["input"]))
    return errors.RecipeError.build(f"recipe: '{dotted}'", got=got, expected=" or ".join(expected))


def _hidden(value: Any) -> str:
    """A value that may be a secret as a whole, such as the address of a webhook, by its keys or its type alone."""
    if isinstance(value, Mapping):
        return f"the keys {', '.join(map(str, value))}" if value else "no keys"
    return f"another {type(value).__name__}, which is not shown"


def _path(fault: Any) -> list[str]:
    """The keys down to the fault, without the types that pydantic tried there."""
    steps = [str(step) for step in fault["loc"]]
    while len(steps) > 1 and TRIED.search(steps[-1]):
        steps.pop()
    return steps


def _expected(fault: Any) -> str:
    if fault["type"] in WORDS:
        return WORDS[fault["type"]]
    if fault["type"] == "string_pattern_mismatch":
        return FORMS[str(fault["loc"][-1])]
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return str(text[0].lower() + text[1:])


def _explain_column(faults: list[typing.Any], column: str) -> errors.RecipeError:
    fault, where = faults[0], f"recipe: features.columns '{column}'"
    steps = [str(step) for step in fault["loc"][3:]]
    operation = next((step for step in steps if step in columns.OPERATIONS), None)
    if operation is None:
        word = str(fault.get("ctx", {}).get("tag") or repr(fault["input"]))
        hint = errors.did_you_mean(word, columns.OPERATIONS)
        return errors.RecipeError.build(where, got=word, expected="an operation", hint=hint, field=column)
    if fault["type"] == "extra_forbidden":
        return errors.RecipeError.no_effect(column, operation, steps[-1], columns.options_of(operation))
    if fault["type"] == "missing":
        hint = f"{column}: {{operation: {operation}, {steps[-1]}: …}}"
        return errors.RecipeError.build(
            where, got=operation, expected=f"'{steps[-1]}' with it", hint=hint, field=column
        )
    option = next((step for step in steps if step in columns.options_of(operation)), None)
    if option is None:
        return errors.RecipeError.build(
            where, got=repr(fault["input"]), expected=str(fault["ctx"]["error"]), field=column
        )
    expected = [_expected(each) for each in faults if option in each["loc"]]
    return errors.RecipeError.build(
        f"{where}, {option}", got=repr(fault["input"]), expected=" or ".join(expected), field=column
    )


def _keys_at(path: list[str], model: type[BaseModel]) -> list[str]:
    for step in path:
        field = model.model_fields.get(step)
        inner = _section_of(field.annotation) if field else None
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_of, typing.get_args(annotation))), None)


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
        hint = errors.did_you_mean(file.name, near) if near else "`mlsys init TABLE --target COLUMN` writes one"
        raise errors.RecipeError.build(
            f"recipe: file '{path}'", got="nothing there", expected="a YAML file", hint=hint
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.RecipeError.build(
            f"recipe: file '{path}'", got=str(error), expected="a readable YAML file in UTF-8"
        ) from None
    return parse(text, settings, where=str(path))


def parse(text: str, settings: Iterable[str] = (), where: str = "recipe") -> Recipe:
    """Read a recipe from its YAML text; `where` names the text in messages."""
    tree = _read_yaml(text, f"recipe: {where}")
    if not isinstance(tree, dict):
        raise errors.RecipeError.build(
            f"recipe: {where}", got=type(tree).__name__, expected="keys and values, e.g. name: demo"
        )
    tree = {key: value for key, value in tree.items() if value is not None}  # an empty section is its defaults
    return _validated(Recipe, tree, settings)


def override(section: SectionT, settings: Iterable[str]) -> SectionT:
    """Copy a section with other values, such as ``reading.delimiter=;``.

    Raises
    ------
    RecipeError
        A key is unknown, or a value does not fit.
    """
    return _validated(type(section), section.model_dump(mode="json"), settings)


def set_values(values: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """Write values by dotted key as settings of the command line; such settings stay what they are.

    >>> set_values({"train.rounds": 200, "reading.delimiter": ";"}), set_values(["seed=7"])
    (['train.rounds=200', 'reading.delimiter=";"'], ['seed=7'])
    """
    if isinstance(values, Mapping):
        return [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
    return list(values)


def _validated(model: type[SectionT], tree: dict[str, Any], settings: Iterable[str]) -> SectionT:
    for setting in settings:
        _override(tree, setting)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise explain(error, model) from None


def dump(recipe: Recipe) -> str:
    """Write the resolved recipe as YAML, every default filled in; a password in an address is masked."""
    tree = recipe.model_dump(mode="json")
    tree["deploy"]["lookup"] = secrets.shown(tree["deploy"]["lookup"])
    sources = [(section, "source") for section in (tree["data"], *tree["features"]["joins"].values())]
    for section, key in [*sources, (tree["maintain"], "labels")]:
        source = section[key]
        if source is not None:
            section[key] = secrets.shown(source) if isinstance(source, str) else [*map(secrets.shown, source)]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def json_schema(
    families: Iterable[str] = (),
    metrics: Iterable[str] = (),
    formats: Iterable[str] = (),
    of_gates: Iterable[str] = (),
) -> str:
    """Write the JSON schema of a recipe, for editors, with the names of known families, metrics and formats.

    `of_gates` are metrics that a gate may bound beside those that models are compared by.
    """
    schema = Recipe.model_json_schema()
    sections = {name: section["properties"] for name, section in schema["$defs"].items() if "properties" in section}
    if families := list(families):
        sections["SelectionSection"]["families"]["anyOf"][0]["items"]["enum"] = families
        sections["TrainSection"]["family"]["enum"] = ["auto", *families]
    if metrics := list(metrics):
        sections["SelectionSection"]["metric"]["enum"] = ["auto", *metrics]
        sections["EvaluateSection"]["gate"]["propertyNames"] = {"enum": [*metrics, *of_gates]}
    if formats := list(formats):
        sections["Reading"]["format"]["enum"] = ["auto", *formats]
    return json.dumps(schema, indent=2) + "\n"


class KeysOnce:
    """A base of YAML loaders that refuses a key which stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (PyYAML's signature)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc,no-any-return]


class _RecipeLoader(KeysOnce, yaml.SafeLoader):
    """A YAML loader that leaves dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML declares it so)
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_yaml(text: str, where: str, hint: str | None = None) -> Any:
    try:
        return yaml.load(text, _RecipeLoader)  # noqa: S506  (a safe loader with fewer types)
    except yaml.YAMLError as error:
        got = secrets.shown(" ".join(str(error).split()))  # it cites the line
        raise errors.RecipeError.build(where, got=got, expected="YAML", hint=hint) from None


def _override(tree: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    where = f"recipe: --set {secrets.shown(setting)}"
    if not equals or not path:
        got = secrets.shown(setting)
        raise errors.RecipeError.build(where, got=got, expected="key=value, e.g. train.rounds=200")
    *parents, last = path.split(".")
    section = tree
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise errors.RecipeError.build(where, got=f"'{parent}' is a value", expected="a section")
    hint = f"quote it twice, for the shell and for YAML: --set '{path}=\"{secrets.shown(value)}\"'"
    section[last] = _read_yaml(value, where, hint)
