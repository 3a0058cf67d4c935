"""Checkpoints of a fit in the store: one file, whole at any moment, of the rounds that are done.

``checkpoints/<key>/<rounds>`` holds a line of JSON and the bytes of the trees. The key is the digest of all that the
model depends on, so that a run whose driver was killed finds what it left, and no other run does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mlsys.models.interface import Checkpoint
from mlsys.store import write_atomic

EVERY = 25
"""Rounds between two checkpoints. A model depends on it, for what a library draws begins anew at each."""


@dataclass(frozen=True)
class StoredCheckpoints:
    """Checkpoints of one fit, as one of its workers sees them: it goes on from `rounds`, and one worker `writes`."""

    folder: Path
    rounds: int
    writes: bool
    every: int = EVERY

    @property
    def latest(self) -> Checkpoint | None:
        return read(self.folder, self.rounds) if self.rounds else None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and remove those before it; the other workers have the same and write nothing."""
        if not self.writes:
            return
        facts = {
            "rounds": checkpoint.rounds,
            "stopping": dict(checkpoint.stopping),
            "sha256": hashlib.sha256(checkpoint.model).hexdigest(),
        }
        write_atomic(_file(self.folder, checkpoint.rounds), json.dumps(facts).encode() + b"\n" + checkpoint.model)
        for path in self.folder.glob("[0-9]*"):
            if int(path.name) < checkpoint.rounds:
                path.unlink(missing_ok=True)


def newest(folder: Path) -> int:
    """Rounds of the newest checkpoint in a folder that can be read; 0 if there is none."""
    names = (int(path.name) for path in folder.glob("[0-9]*"))
    return next((rounds for rounds in sorted(names, reverse=True) if read(folder, rounds)), 0)


def read(folder: Path, rounds: int) -> Checkpoint | None:
    """Read the checkpoint of so many rounds; None if it is not there or its bytes changed."""
    try:
        first, _, model = _file(folder, rounds).read_bytes().partition(b"\n")
        facts = json.loads(first)
        is_whole = hashlib.sha256(model).hexdigest() == facts["sha256"]
        return Checkpoint(facts["rounds"], model, facts["stopping"]) if is_whole else None
    except (FileNotFoundError, ValueError, KeyError):  # removed by a newer one, or bytes that are not ours
        return None


def _file(folder: Path, rounds: int) -> Path:
    return folder / f"{rounds:06d}"
