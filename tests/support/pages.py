"""The pages that people read (README, CONTRIBUTING, docs/, the list of examples), and the blocks of code in them.

The first line of a block says what the tests do with it::

    ```bash run                 each line is typed; it must end with exit code 0
    ```console run              lines after "$ " are typed, the others are what they answer
    ```bash needs=kubernetes    not run here, and why; still checked to parse and to name what exists
    ```python                   examples after ">>> " run and must print what stands below them
    ```yaml                     part of a recipe, which has to be one; `yaml contract` is part of a contract
    ```json                     has to parse
    ```text                     anything else

GitHub shows them like any other block.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
EXAMPLES = "jobs/examples/README.md"
SHELLS = ("bash", "console")
LANGUAGES = (*SHELLS, "python", "yaml", "json", "text")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    info: str
    text: str
    line: int
    page: str = "README.md"

    @property
    def is_shell(self) -> bool:
        return self.language in SHELLS

    @property
    def runs(self) -> bool:
        """Whether the tests type its commands."""
        return self.is_shell and self.info.split() == ["run"]

    @property
    def reason(self) -> str | None:
        """What it needs that a test does not have, if it says so."""
        match = re.fullmatch(r"needs=([\w-]+)", self.info.strip())
        return match[1] if match else None

    @property
    def script(self) -> str:
        """What is typed, as one script."""
        if self.language == "bash":
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line.startswith(("$ ", "> ")))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def paths() -> list[Path]:
    """All pages, in the order in which a newcomer reads them."""
    index = re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / "README.md").read_text())
    others = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
    return [ROOT / name for name in dict.fromkeys(["README.md", *index, *others, EXAMPLES, "CONTRIBUTING.md"])]


def all_blocks() -> list[Block]:
    """The blocks of all pages, in order."""
    return [
        block for path in paths() if path.is_file()
        for block in blocks(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]  # fmt: skip


def blocks(text: str, page: str = "README.md") -> list[Block]:
    """All fenced blocks of a Markdown text, in order."""
    return [
        Block(
            match["language"],
            match["info"].strip(),
            "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True)),
            text.count("\n", 0, match.start()) + 1,
            page,
        )
        for match in FENCE.finditer(text)
    ]


def tables(text: str) -> list[list[list[str]]]:
    """All tables of a Markdown text as rows of cells, without the line under the header."""
    texts = re.findall(r"(?:^\|.*\|[ \t]*\n)+", text, re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines()] for table in texts]
    return [[[cell.strip() for cell in row] for number, row in enumerate(table) if number != 1] for table in rows]


PLACE = re.compile(r"`((?:mlsys|tests|jobs)/[\w/]+\.py)`((?:(?:,| and)?\s+`[\w.]+`)+)")


def places(text: str) -> list[tuple[str, str]]:
    """Pairs of a file and a name that the text says is in it: a path and, after it, names, each in backticks."""
    return [(match[1], name) for match in PLACE.finditer(text) for name in re.findall(r"`([\w.]+)`", match[2])]


def names_in(path: Path) -> set[str]:
    """Names that a Python file defines: its own, and those of its classes as ``Class.name``."""
    return _defined(ast.parse(path.read_text(encoding="utf-8")).body, "")


def _defined(body: list[ast.stmt], prefix: str) -> set[str]:
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            names |= _defined(node.body, f"{prefix}{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return names
