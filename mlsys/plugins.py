"""Tables of named parts that grow from outside: model families, metrics, readers.

A part is registered by a call, which holds in this process, or by an installed package that names it
under an entry-point group, which every process of that environment sees: Ray workers, endpoints, the
next command. In the package's ``pyproject.toml``::

    [project.entry-points."mlsys.families"]
    toy = "toy_package:TOY"
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

from mlsys import errors

T = TypeVar("T")

GROUPS = tuple(f"mlsys.{kind}" for kind in ("families", "metrics", "readers"))
"""Entry-point groups in which other packages name their parts."""

_registered: dict[str, list[str]] = {}
"""Files of the parts that were registered by a call in this process, by group and name."""


class Plugins(Mapping[str, T]):
    """Parts by name: those of mlsys, then those registered, then those of entry points.

    `parts` of mlsys are at hand; each of the `loaders` gives another one when it is first used. The entry-point
    group is read once, when a name is asked for that is not known yet, or all names.
    """

    def __init__(
        self, group: str, parts: Mapping[str, T], loaders: Mapping[str, Callable[[], T]], kind: type[Any] = object
    ) -> None:
        self.group, self.kind = group, kind
        self.built_in = (*parts, *loaders)
        self._parts: dict[str, T] = dict(parts)
        self._loaders: dict[str, Callable[[], T]] = dict(loaders)
        self._names = dict.fromkeys(self.built_in)  # a set that keeps its order
        self._is_complete = False

    def register(self, name: str | None, part: T) -> None:
        """Add a part, in place of an earlier one of that name from outside.

        Raises
        ------
        TypeError
            The part is not of the kind of this table, or has no name.
        ValueError
            It is the name of a part of mlsys.
        """
        if not isinstance(part, self.kind) or not name:
            raise TypeError(f"{self.group}: got {part!r}, expected an instance of {self.kind.__name__} with a name")
        if name in self.built_in:
            raise ValueError(f"{self.group}: '{name}' is the name of a part of mlsys; take another one")
        self._parts[name] = part
        self._names[name] = None
        record(self.group, name, part)

    def unregister(self, name: str) -> None:
        """Take back what `register` did."""
        del self._parts[name], self._names[name]
        _registered.pop(f"{self.group}: {name}", None)

    def __getitem__(self, name: str) -> T:
        if name not in self._parts:
            if name not in self._loaders:
                self._read_entry_points()
            self._parts[name] = self._loaders[name]()
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a part of that name, without loading it."""
        if name not in self._names:
            self._read_entry_points()
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        self._read_entry_points()
        return iter(tuple(self._names))

    def __len__(self) -> int:
        self._read_entry_points()
        return len(self._names)

    def _read_entry_points(self) -> None:
        if not self._is_complete:
            self._is_complete = True
            for point in importlib.metadata.entry_points(group=self.group):
                if point.name not in self._names:
                    self._loaders[point.name] = functools.partial(self._load, point)
                    self._names[point.name] = None

    def _load(self, point: importlib.metadata.EntryPoint) -> T:
        """Load the part of an entry point; whatever is wrong with it is the fault of its package."""
        try:
            part = point.load()
        except Exception as error:
            raise self._refused(point, f"{type(error).__name__}: {error}") from error
        if not isinstance(part, self.kind):
            raise self._refused(point, repr(part))
        name = getattr(part, "name", getattr(part, "format", point.name))  # readers have a format, boosters both
        if name != point.name:
            raise self._refused(point, f"one that calls itself '{name}'")
        return part  # type: ignore[no-any-return]

    def _refused(self, point: importlib.metadata.EntryPoint, got: str) -> errors.RecipeError:
        where = f"{self.group}: entry point '{point.name} = {point.value}'"
        expected = f"an instance of {self.kind.__name__} of that name"
        hint = "correct the package that names it, or uninstall it"
        return errors.RecipeError.build(where, got=got, expected=expected, hint=hint)


def modules(pattern: str, attribute: str) -> dict[str, Callable[[], Any]]:
    """Find the modules of a package, each of which holds a part as `attribute`; none is imported before its call.

    The `pattern` is the package's name with ``.*`` at its end: so `mlsys.code_graph` counts its modules as imported.

    >>> sorted(modules("mlsys.models.families.*", "FAMILY"))
    ['catboost', 'convolution', 'decision_tree', ..., 'network', 'xgboost']
    """
    package = pattern.removesuffix(".*")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None

    def load(name: str) -> Any:
        return getattr(importlib.import_module(f"{package}.{name}"), attribute)

    return {module.name: functools.partial(load, module.name) for module in pkgutil.iter_modules(folders)}


def record(group: str, name: str, part: Any) -> None:
    """Note the files of a part that is being registered by a call, so that `outside_code` counts them.

    They are the file of its class, and that of the module whose code registers it.
    """
    frame = inspect.currentframe()
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    files = [frame.f_code.co_filename] if frame is not None else []
    if not _is_ours(type(part).__module__):
        try:
            files += _with_package(inspect.getfile(type(part)))
        except (OSError, TypeError):  # typed into an interpreter or a notebook
            contents = json.dumps(_contents(type(part), set()))
            files.append(TYPED + hashlib.sha256(contents.encode()).hexdigest())
    _registered[f"{group}: {name}"] = files


TYPED = "typed:"
"""Prefix of what stands for a file where there is none."""


def _contents(value: Any, seen: set[int]) -> Any:
    """The code and constants of a typed class or function and of all others that it names, without lines and files."""
    if id(value) in seen:
        return None
    if inspect.isfunction(value):
        seen.add(id(value))
        names = [name for name in _names(value.__code__) if name in value.__globals__]
        return [_instructions(value.__code__), {name: _contents(value.__globals__[name], seen) for name in names}]
    if inspect.isclass(value) and value.__module__ not in sys.stdlib_module_names and not _has_file(value):
        seen.add(id(value))
        own = {name: each for name, each in sorted(vars(value).items()) if not name.startswith("_")}
        return [
            {name: _contents(each, seen) for name, each in own.items()},
            repr(vars(value).get("__pydantic_fields__")),
        ]
    text = repr(value)
    return None if " at 0x" in text else text


def _has_file(kind: type) -> bool:
    try:
        return bool(inspect.getfile(kind))
    except (OSError, TypeError):
        return False


def _names(code: CodeType) -> list[str]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return sorted({*code.co_names, *(name for each in inner for name in _names(each))})


def _instructions(code: CodeType) -> list[Any]:
    constants = [_instructions(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _with_package(file: str) -> list[str]:
    """The file of a module, and all others of its package, which it may import."""
    folder = Path(file).parent
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    beside = sorted(map(str, folder.rglob("*.py"))) if (folder / "__init__.py").is_file() else []
    return [file, *beside]


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "mlsys"


def outside_code() -> dict[str, list[str]]:
    """Digests of the files of each part from outside: steps run again when one of them changes."""
    files = dict(_registered)
    for point in (point for group in GROUPS for point in importlib.metadata.entry_points(group=group)):
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        source = _with_package(spec.origin) if spec and spec.origin else []
        files.setdefault(f"{point.group}: {point.name}", [TYPED + point.value, *source])
    there = {name for names in files.values() for name in names if name.startswith(TYPED) or Path(name).is_file()}
    return {key: [_digest(name) for name in dict.fromkeys(files[key]) if name in there] for key in sorted(files)}


def _digest(name: str) -> str:
    return name if name.startswith(TYPED) else hashlib.sha256(Path(name).read_bytes()).hexdigest()
