"""The code that a step's result depends on, found from imports, and its digest.

A step names its function. What counts as its code is that function, the definitions of its module that it
uses, and every module of mlsys that these import, directly or through others. Modules are digested as syntax
trees without docstrings, so comments, docstrings and formatting never invalidate a stored result. Imports
for type checkers do not run and do not count. A text that is the full name of a module counts as an import
of it, and ``package.*`` as one of every module in it: that is how registries name modules that they import later.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.metadata
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.store import Store, digest_json

WITHOUT_EFFECT = {
    "mlsys": "importing the package does nothing",
    "mlsys.cluster": "it says where work runs; the result is the same everywhere",
    "mlsys.code_graph": "it only decides what runs again",
    "mlsys.console": "it prints",
    "mlsys.errors": "messages are no results",
    "mlsys.recipe": "what is read from a recipe is in the key, value by value",
    "mlsys.recipe.loading": "the same",
    "mlsys.recipe.sections": "the same",
    "mlsys.store": "it keeps bytes as they are",
}
"""Modules that change no result, with the reason: they and what only they import are left out."""

LIBRARIES = {
    "PIL": "pillow",
    "numpy": "numpy",
    "optuna": "optuna",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
}
"""Libraries that compute, and the distributions whose versions count where they are imported."""


@dataclass(frozen=True)
class Module:
    """A module's digest, and what it imports: modules of the package, and libraries."""

    digest: str
    imports: frozenset[str]


@dataclass(frozen=True)
class CodeParts:
    """The digest of an entry itself, those of the modules that it imports, and the versions of the libraries."""

    own: str
    modules: dict[str, str]
    libraries: dict[str, str]


@dataclass(frozen=True)
class CodeGraph:
    """The modules of the package in the folder `root`, and their imports."""

    root: Path
    modules: dict[str, Module]

    @classmethod
    def parse(cls, root: Path) -> CodeGraph:
        """Parse every file of the package."""
        return cls(root, _parse_all(root, _version(root)))

    @classmethod
    def load(cls, store: Store, root: Path) -> CodeGraph:
        """The graph that the store keeps; it is parsed only if a file has changed since."""
        version = _version(root)
        if record := store.recall("code", version):
            return cls(root, {name: Module(digest, frozenset(names)) for name, (digest, names) in record.items()})
        modules = _parse_all(root, version)
        store.remember("code", version, {name: [m.digest, sorted(m.imports)] for name, m in modules.items()})
        return cls(root, modules)

    def digest(self, entry: str) -> str:
        """Digest of an entry, ``package.module`` or ``package.module:function``, and of all that it imports.

        Raises
        ------
        StoreError
            The package has no such module or function.
        """
        parts = self.parts(entry)
        return digest_json([parts.own, parts.modules, parts.libraries])

    def parts(self, entry: str) -> CodeParts:
        """The parts of which `digest` is one.

        Raises
        ------
        StoreError
            As `digest`.
        """
        module, _, function = entry.partition(":")
        if module not in self.modules:
            raise errors.StoreError.build(f"store: module '{module}'", got="no source file", expected="a module")
        start = self._function(module, function) if function else self.modules[module]
        reached = self.reached(start.imports)
        libraries = {name: importlib.metadata.version(LIBRARIES[name]) for name in reached if name in LIBRARIES}
        digests = {name: self.modules[name].digest for name in reached if name in self.modules}
        return CodeParts(start.digest, digests, libraries)

    def reached(self, imports: Iterable[str]) -> set[str]:
        """Modules and libraries that `imports` lead to, without those that change no result."""
        reached: set[str] = set()
        waiting = list(imports)
        while waiting:
            name = waiting.pop()
            if name not in reached and name not in WITHOUT_EFFECT:
                reached.add(name)
                waiting += self.modules[name].imports if name in self.modules else ()
        return reached

    def _function(self, module: str, function: str) -> Module:
        """A function with the definitions of its module that it uses, as if they were a module of their own."""
        files = _files(self.root)
        defined = _definitions(ast.parse(files[module].read_bytes()))
        used: dict[str, ast.stmt] = {}
        waiting = [function]
        while waiting:
            name = waiting.pop()
            if name in defined and name not in used:
                used[name] = defined[name]
                waiting += _names(defined[name])
        if function not in used:
            raise errors.StoreError.build(f"store: module '{module}'", got=f"no '{function}'", expected="a function")
        return _scan([used[name] for name in sorted(used)], files)


@functools.lru_cache(maxsize=64)
def code_digest(store: Store, entry: str) -> str:
    """Digest of a module or function of mlsys with all code that it imports, and the versions of libraries."""
    return _graph(store).digest(entry)


def code_parts(store: Store, entry: str) -> CodeParts:
    """The parts of `code_digest`, by which somebody tells what has changed."""
    return _graph(store).parts(entry)


@functools.lru_cache(maxsize=1)
def _graph(store: Store) -> CodeGraph:
    return CodeGraph.load(store, Path(__file__).parent)


def _files(root: Path) -> dict[str, Path]:
    """Source file of each module, by its full name."""
    files = {file: [root.name, *file.relative_to(root).with_suffix("").parts] for file in sorted(root.rglob("*.py"))}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): file for file, parts in files.items()}


def _version(root: Path) -> str:
    """Digest of all files of a package, of this one, and of the Python that parses them."""
    files = [path for path in sorted(root.rglob("*.*")) if path.is_file() and path.suffix != ".pyc"]
    return digest_json([sys.version, *(_sha256(path) for path in [Path(__file__), *files])])


@functools.lru_cache(maxsize=2)
def _parse_all(root: Path, version: str) -> dict[str, Module]:  # noqa: ARG001  (the version is the cache's key)
    files = _files(root)
    collecting = gc.isenabled()
    gc.disable()  # a hundred thousand new nodes and no garbage: three times as fast
    try:
        return {name: _parse(file, files) for name, file in files.items()}
    finally:
        if collecting:
            gc.enable()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _parse(file: Path, known: Collection[str]) -> Module:
    source = file.read_bytes()
    module = _scan(ast.parse(source).body, known)
    if b"importlib import resources" not in source:
        return module
    beside = [_sha256(path) for path in sorted(file.parent.iterdir()) if path.is_file() and path.suffix != ".py"]
    return Module(digest_json([module.digest, *beside]), module.imports)  # it reads the files beside it


_SHAPES = {
    kind: (name, [field for field in kind._fields if field not in ("ctx", "kind", "type_comment")])
    for name, kind in vars(ast).items()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""Name and fields of each kind of node, without those that follow from where it stands."""


def _scan(statements: list[ast.stmt], known: Collection[str]) -> Module:
    """Digest of syntax trees, without positions and what does not run, and what the trees import."""
    parts: list[Any] = []
    imports: set[str] = set()
    waiting: list[Any] = [statements]
    while waiting:
        node = waiting.pop()
        kind = node.__class__
        if kind is list:
            children = [child for child in node if child.__class__ not in (ast.Expr, ast.If) or not _is_idle(child)]
            parts.append(len(children))
            waiting += children
        elif kind is ast.Import or kind is ast.ImportFrom:
            names = _imported(node, known)
            parts.append((names, [alias.asname for alias in node.names]))
            imports.update(names)
        elif kind in _SHAPES:
            name, fields = _SHAPES[kind]
            parts.append(name)
            values = node.__dict__
            waiting += [values.get(field) for field in fields]
        else:
            parts.append(node)
            if kind is str:
                imports.update(_named(node, known))
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return Module(digest, frozenset(name for name in imports if name in known or name in LIBRARIES))


def _named(text: str, known: Collection[str]) -> list[str]:
    """Modules that a registry names by a text: one, or with ``.*`` at its end all those of a package."""
    if text.endswith(".*"):
        return [name for name in known if name.startswith(text[:-1])]
    return [text] if text in known else []


def _is_idle(node: Any) -> bool:
    """Tell whether a statement does nothing when it runs: a docstring, or imports for type checkers."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported(node: ast.Import | ast.ImportFrom, known: Collection[str]) -> list[str]:
    """Full names of modules of the package, top-level names of others."""
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        inner = [f"{node.module}.{name}" for name in names]
        names = [name if name in known else str(node.module) for name in inner]
    return [name if name in known else name.partition(".")[0] for name in names]


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """Top-level statement that binds each name of a module."""
    bound: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound[node.name] = node
        else:
            targets = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
            bound |= {name.id: node for name in targets if isinstance(name.ctx, ast.Store)}
    return bound


def _names(node: ast.AST) -> Iterator[str]:
    """Names that a definition reads when it runs; annotations of functions do not run."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, ast.Name):
            yield inner.id
        if isinstance(inner, ast.FunctionDef):
            waiting += [*inner.body, *inner.decorator_list, *inner.args.defaults, *filter(None, inner.args.kw_defaults)]
        elif isinstance(inner, ast.AnnAssign):
            waiting += [inner.value] if inner.value else []
        else:
            waiting += ast.iter_child_nodes(inner)
