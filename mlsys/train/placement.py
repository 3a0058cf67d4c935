"""Workers of a fit: how many, and how much of a machine each of them asks for.

What is asked for is what the rows need, measured before, and never more than machines have free: Ray would wait for
the rest. A shape depends on the free CPUs of each machine, not on their sum, for a worker lies on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlsys.cluster import Resources
from mlsys.features.executors import BLOCK_ROWS
from mlsys.store import read_json, write_json

WORKER_BYTES = 512 << 20
"""Memory of a worker without rows: Python, Ray and the libraries, and some row groups on their way into the matrix."""

CELL_BYTES = 6
"""Bytes of a value while a booster is fitted: four in the matrix, and one or two as the number of its bin."""

STREAMED_BYTES = 2
"""Bytes of a value of rows that are streamed: the number of its bin alone."""

ROW_BYTES = 48
"""Bytes of a row beside its values: target, predictions, gradients, and the leaf in which it is."""

WHOLE_BYTES = 20
"""Bytes of a value while a linear model is fitted on all rows at once: four in the matrix, eight centred and scaled,
and eight in the solver."""

MOST_WHOLE = 2 << 30
"""Bytes of rows from which on those that a family can fit block by block are: what a small machine has to spare."""

BLOCK_BYTES = 44
"""Bytes of a value of the block in memory: four in the matrix, and some products of its rows."""

FILE = "placement.json"
"""File of a shape among the checkpoints that depend on it."""

SMALLEST = 16
"""Workers that share a CPU at most: some machines have fewer CPUs than a recipe has workers."""


@dataclass(frozen=True)
class Placement:
    """Workers, and the CPUs, bytes of memory and GPUs of each of them."""

    workers: int
    cpus: float
    memory: int
    gpus: int = 0

    @property
    def threads(self) -> int:
        """Threads of a worker."""
        return max(1, int(self.cpus))

    def fits(self, machines: Sequence[Resources]) -> bool:
        """True if all of the workers find room on these machines at once."""
        return sum(_slots(node, self) for node in machines) >= self.workers

    def write(self, folder: Path) -> None:
        """Leave the shape in a folder."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Placement | None:
        """Read the shape that a folder holds, if it does."""
        file = folder / FILE
        return cls(**read_json(file)) if file.is_file() else None

    def __str__(self) -> str:
        gpu = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.workers} workers with {self.cpus:g} CPUs and {self.memory / 1e9:.1f} GB{gpu} each"


def place(
    machines: Sequence[Resources],
    num_rows: int,
    width: int,
    workers: int | None = None,
    *,
    rows_of_all: int = 0,
    gpus: int = 0,
) -> Placement:
    """Choose the shape of workers: one on each machine with a free CPU by default, each with all that it can have.

    `num_rows` are divided between them, `rows_of_all` are in each of them. Where nothing fits, each asks for one CPU,
    for which Ray waits a while. With `gpus` a worker asks for so many, and by default there is one for each of them
    that is free.

    Examples
    --------
    >>> place([Resources(8, 64e9), Resources(16, 64e9)], 1_000_000, 100)
    Placement(workers=2, cpus=8.0, memory=860870912, gpus=0)
    >>> place([Resources(2, 8e9)], 1_000_000, 100, workers=4).cpus
    0.5
    """
    slots = sum(int(node.gpus / gpus) if gpus else node.cpus >= 1 for node in machines)
    count = min(max(1, num_rows), workers or max(1, slots))
    memory = fit_bytes(-(-num_rows // count) + rows_of_all, width)
    most = int(max((node.cpus for node in machines), default=0))
    shapes = [*(float(cpus) for cpus in range(most, 0, -1)), *(int(1e4 / k) / 1e4 for k in range(2, SMALLEST + 1))]
    made = (Placement(count, cpus, memory, gpus) for cpus in shapes)
    return next((shape for shape in made if shape.fits(machines)), Placement(count, 1.0, memory, gpus))


def fit_bytes(num_rows: int, width: int, *, streamed: bool = False) -> int:
    """Memory of a process that fits on so many rows, and features."""
    return WORKER_BYTES + num_rows * (width * (STREAMED_BYTES if streamed else CELL_BYTES) + ROW_BYTES)


def whole_bytes(num_rows: int, width: int) -> int:
    """Memory of so many rows that are fitted at once by a solver in double precision."""
    return num_rows * width * WHOLE_BYTES


def blocks_bytes(num_rows: int, width: int) -> int:
    """Memory of a process that fits so many rows block by block: of the block, and of the targets of all rows."""
    return WORKER_BYTES + min(num_rows, BLOCK_ROWS) * width * BLOCK_BYTES + num_rows * ROW_BYTES // 2


def _slots(node: Resources, shape: Placement) -> int:
    """Workers of a shape that fit on a machine."""
    slots = min(int(node.cpus / shape.cpus), int(node.memory / shape.memory))
    return min(slots, int(node.gpus / shape.gpus)) if shape.gpus else slots
