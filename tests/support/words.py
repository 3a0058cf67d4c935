"""Words of the source tree: docstrings that stand alone, names that mean one thing, the field's terms.

``python tests/support/words.py [PATH …]`` lists what breaks a rule, a line each.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from house import Module, modules

PROTOCOL_MODULES = {
    "__init__": "every package has one",
    "report": "a page of each step: explore, features, evaluate, monitor",
}
"""Module names that several packages may have, with the reason."""

SHARED_CLASSES: dict[str, str] = {}
"""Class names that may stand twice, with the reason."""

BAD_STARTS = ("Of", "As", "What", "How", "Which", "Whether", "Where", "When", "It", "They")
"""First words that make a fragment of a sentence, which means nothing in the hover of an editor."""

PRIVATE_WORDS = {
    "aside": "quarantine",
    "told": "messages",
    "looks": "image measures",
    "oddities": "column alerts",
    "pilot": "bin sample",
    "press": "ridge leave-one-out",
    "probing": "readiness",
    "sweep": "window aggregates",
    "sweeps": "window aggregates",
    "twins": "duplicate rows",
    "winnow": "drop duplicates",
    "wording": "text statistics",
    "found": "the thing that was found: violations, files, matches",
    "wanted": "the thing that was asked for: requested_columns",
    "kept": "the thing that is kept: retained_rows",
    "one": "the thing: row, column, source",
    "said": "the thing: message, description",
}
"""Names that say nothing to somebody of the field → what to say."""


def violations(paths: Iterable[Path] = ()) -> list[str]:
    """Everything that breaks a rule, as ``place: sentence``, of files below `paths` or of all."""
    every = modules()
    roots = [path.resolve() for path in paths]
    chosen = [m for m in every if not roots or any(m.path == root or root in m.path.parents for root in roots)]
    breaks = [text for module in chosen for check in (_docstrings, _names) for text in check(module)]
    names = {module.name for module in chosen}
    breaks += [text for module, text in _classes(every) if module in names]
    breaks += [text for module, text in _modules(every) if module in names]
    return sorted(breaks)


def _docstrings(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        first = text.splitlines()[0]
        place = f"{module.name}:{getattr(node, 'lineno', 1)}"
        if first.split(" ")[0].rstrip(",:") in BAD_STARTS:
            yield f"{place}: a docstring that begins with {first.split(' ')[0]!r}: {first}"
        elif not re.match(r"[A-Z`0-9\"':*]", first) or not first.endswith((".", ":", "?", "::")):
            yield f"{place}: a first line that is no sentence: {first}"
        elif len(first.split()) < 3:
            yield f"{place}: a first line of fewer than three words: {first}"


def _names(module: Module) -> Iterator[str]:
    for node, name in _bound(module.tree):
        words = set(name.lower().replace("one_hot", "onehot").strip("_").split("_"))  # a term of the field
        for word in sorted(words & PRIVATE_WORDS.keys()):
            yield f"{module.name}:{node.lineno}: {name!r}: instead of {word!r}, {PRIVATE_WORDS[word]}"


def _bound(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr | ast.arg, str]]:
    """Names that a file gives: of classes, functions, arguments, variables and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node, node.name
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node, node.id


def _classes(every: list[Module]) -> Iterator[tuple[str, str]]:
    """Pairs of a module and its break of the rule that a class name means one thing."""
    places = defaultdict(list)
    for module in every:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append((module.name, node.lineno))
    for name, at in sorted(places.items()):
        if len(at) > 1 and name not in SHARED_CLASSES:
            others = ", ".join(place for place, _ in at)
            yield from ((place, f"{place}:{line}: class {name} stands in {others}") for place, line in at)


def _modules(every: list[Module]) -> Iterator[tuple[str, str]]:
    places = defaultdict(list)
    for module in every:
        if module.path.stem not in PROTOCOL_MODULES:
            places[module.path.stem].append(module.name)
    for stem, names in sorted(places.items()):
        if len(names) > 1:
            yield from ((name, f"{name}:1: module name {stem} stands in {', '.join(names)}") for name in names)


def main() -> int:
    """Print every violation and how many there are."""
    breaks = violations(map(Path, sys.argv[1:]))
    print("\n".join([*breaks, f"{len(breaks)} to mend"]))
    return bool(breaks)


if __name__ == "__main__":
    sys.exit(main())
