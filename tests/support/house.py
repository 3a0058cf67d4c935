"""Figures of the source tree: files, lines, lengths of functions, and circles of imports.

``python tests/support/house.py`` prints them (``make size``); `tests/repo/test_house.py` holds them to their bounds.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    """One source file of the package, parsed."""

    name: str
    path: Path
    tree: ast.Module
    num_lines: int

    @cached_property
    def functions(self) -> list[tuple[str, int]]:
        """Name and number of lines of each function, the nested ones too."""
        return [
            (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    def imports(self, names: frozenset[str]) -> set[str]:
        """Modules of `names` that are imported anywhere in the file, for type checking too."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        return {name for name in found & names if not _contains(name, self.name)}


def _contains(package: str, module: str) -> bool:
    """Whether an import of `package` is one that `module` cannot avoid: itself, or a package around it."""
    return package == module or module.startswith(f"{package}.")


def modules(package: str = "mlsys", root: Path = ROOT) -> list[Module]:
    """All source files of a package, by name."""
    found = []
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        text = path.read_text()
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(text), len(text.splitlines())))
    return found


def circles(of: list[Module]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others; none in a tidy house."""
    names = frozenset(module.name for module in of)
    arrows = {module.name: module.imports(names) for module in of}
    return sorted(sorted(group) for group in _components(arrows) if len(group) > 1)


def _components(arrows: dict[str, set[str]]) -> Iterator[list[str]]:
    """Strongly connected components of a graph (Tarjan 1972, doi:10.1137/0201010)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(arrows[node]):
            if target not in index:
                yield from visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            yield stack[at:]
            del stack[at:]

    for node in sorted(arrows):
        if node not in index:
            yield from visit(node)


@dataclass(frozen=True)
class Size:
    """The figures that are held to bounds."""

    num_files: int
    num_lines: int
    median_lines: float
    longest: tuple[str, int]
    p95_function: int
    circles: list[list[str]]


def measure(root: Path = ROOT) -> Size:
    """The figures of the package as it stands."""
    found = modules(root=root)
    lengths = sorted(length for module in found for _, length in module.functions)
    longest = max(found, key=lambda module: module.num_lines)
    return Size(
        len(found),
        sum(module.num_lines for module in found),
        statistics.median(module.num_lines for module in found),
        (longest.name, longest.num_lines),
        lengths[int(0.95 * len(lengths))],
        circles(found),
    )


def main() -> None:
    """Print one figure a line."""
    size = measure()
    print(f"files               {size.num_files}")
    print(f"lines               {size.num_lines:,}")
    print(f"median of a file    {size.median_lines:g}")
    print(f"longest file        {size.longest[1]} ({size.longest[0]})")
    print(f"p95 of a function   {size.p95_function}")
    print(f"circles of imports  {len(size.circles)}")
    for circle in size.circles:
        print(f"    {' ↔ '.join(circle)}")


if __name__ == "__main__":
    sys.exit(main())
