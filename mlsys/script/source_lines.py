"""Python source from values, formatted as ruff does with lines of 120 characters."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mlsys.script import blocks

WIDTH = 120
"""Characters of a line at most."""

INDENT = "    "


def inline(value: Any) -> str:
    """Source of a value in one line: a JSON value of which no number is infinite or NaN.

    >>> print(inline({"rounds": 3, "names": ["a", 'say "b"'], "rate": 1e30}))
    {"rounds": 3, "names": ["a", 'say "b"'], "rate": 1e30}
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inline(key)}: {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, str):
        return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)
    return repr(value).replace("e+", "e") if isinstance(value, float) else repr(value)


def assigned(target: str, value: Any, indent: int = 0) -> list[str]:
    """Lines of an assignment; a value that is too long for one line has a line for each of its elements.

    >>> assigned("x", [1, 2])
    ['x = [1, 2]']
    """
    return _lines(f"{target} = ", value, "", indent)


def called(start: str, arguments: Sequence[str], indent: int = 1, end: str = ")") -> list[str]:
    """Lines of a call, whose arguments are source; `start` ends with its bracket.

    >>> called("x = f(", ["a", "b=1"])
    ['    x = f(a, b=1)']
    """
    pad = INDENT * indent
    line = f"{pad}{start}{', '.join(arguments)}{end}"
    if len(line) <= WIDTH:
        return [line]
    inner = f"{pad}{INDENT}{', '.join(arguments)}"
    if len(inner) <= WIDTH:
        return [f"{pad}{start}", inner, f"{pad}{end}"]
    return [f"{pad}{start}", *(f"{pad}{INDENT}{argument}," for argument in arguments), f"{pad}{end}"]


def _lines(before: str, value: Any, after: str, indent: int) -> list[str]:
    pad = INDENT * indent
    line = f"{pad}{before}{inline(value)}{after}"
    if len(line) <= WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return [line]
    if isinstance(value, Mapping):
        pairs, (opening, closing) = [(f"{inline(key)}: ", each) for key, each in value.items()], "{}"
    else:
        pairs, (opening, closing) = [("", each) for each in value], "[]"
    inner = [line for key, each in pairs for line in _lines(key, each, ",", indent + 1)]
    return [f"{pad}{before}{opening}", *inner, f"{pad}{closing}{after}"]


def functions(names: Iterable[str]) -> list[str]:
    """Source of functions of `blocks` with all that they use, in the order of that file."""
    needed, open_names = set[str](), set(names)
    while open_names:
        name = open_names.pop()
        needed.add(name)
        open_names |= _used(name) - needed
    made = [each for each in _all() if each.__name__ in needed]
    source = "\n".join(map(inspect.getsource, made))
    bounds = {name: value for name, value in vars(blocks).items() if name.isupper()}
    constants = [f"{name} = {inline(bounds[name])}" for name in sorted(bounds) if re.search(rf"\b{name}\b", source)]
    copied = [*constants, *(f"\n\n{inspect.getsource(each).rstrip()}" for each in made)]
    return "\n".join(copied).lstrip("\n").splitlines()


def modules(names: Iterable[str]) -> set[str]:
    """Modules that functions of `blocks` need beside NumPy and Polars."""
    source = "\n".join(functions(names))
    return {module for module, word in {"math": "math.", "scipy": "expit("}.items() if word in source}


def _all() -> list[Callable[..., Any]]:
    return [each for each in vars(blocks).values() if inspect.isfunction(each) and each.__module__ == blocks.__name__]


def _used(name: str) -> set[str]:
    source = inspect.getsource(getattr(blocks, name))
    return {each.__name__ for each in _all() if re.search(rf"\b{each.__name__}\(", source)} - {name}
