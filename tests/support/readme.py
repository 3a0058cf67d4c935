"""The shell blocks of README.md.

A block says in its first line whether the tests run it::

    ```bash run                 each line is typed; it must end with exit code 0
    ```console run              lines after "$ " are typed, the others are what they answer
    ```bash needs=kubernetes    not run here, and why; still checked to parse and to name what exists

GitHub shows all three like any other block.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>bash|console)(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block of shell commands."""

    language: str
    info: str
    text: str
    line: int

    @property
    def runs(self) -> bool:
        """Whether the tests run it."""
        return self.info.split() == ["run"]

    @property
    def reason(self) -> str | None:
        """What it needs that a test does not have, if it says so."""
        found = re.fullmatch(r"needs=([\w-]+)", self.info.strip())
        return found[1] if found else None

    @property
    def script(self) -> str:
        """What is typed, as one script."""
        if self.language == "bash":
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line.startswith(("$ ", "> ")))

    def __str__(self) -> str:
        return f"README.md:{self.line}"


def blocks(text: str) -> list[Block]:
    """All shell blocks of a Markdown text, in order."""
    return [
        Block(
            found["language"],
            found["info"].strip(),
            "".join(line.removeprefix(found["indent"]) for line in found["text"].splitlines(keepends=True)),
            text.count("\n", 0, found.start()) + 1,
        )
        for found in FENCE.finditer(text)
    ]


def tables(text: str) -> list[list[list[str]]]:
    """All tables of a Markdown text as rows of cells, without the line under the header."""
    found = re.findall(r"(?:^\|.*\|[ \t]*\n)+", text, re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for number, row in enumerate(table) if number != 1] for table in rows]
