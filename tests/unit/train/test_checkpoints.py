"""Checkpoints in the store: the newest alone, whole or not there."""

import json
import math

from mlsys.models.interface import Checkpoint
from mlsys.train import checkpoints
from mlsys.train.checkpoints import StoredCheckpoints

STOPPING = {"round": 50, "best_round": 48, "least": 0.1 + 0.2, "ended": False}


def saved(folder, *rounds):
    for number in rounds:
        StoredCheckpoints(folder, 0, writes=True).save(Checkpoint(number, b"\n\x00trees", STOPPING))


def test_the_newest_is_read_again_to_the_last_bit_and_is_the_only_one(tmp_path):
    saved(tmp_path, 25, 50)
    assert checkpoints.newest(tmp_path) == 50
    assert StoredCheckpoints(tmp_path, 50, writes=False).latest == Checkpoint(50, b"\n\x00trees", STOPPING)
    assert [path.name for path in tmp_path.iterdir()] == ["000050"]


def test_losses_that_are_not_finite_are_kept(tmp_path):
    StoredCheckpoints(tmp_path, 0, writes=True).save(Checkpoint(1, b"", {"least": math.inf}))
    assert checkpoints.read(tmp_path, 1).stopping == {"least": math.inf}


def test_only_one_worker_writes(tmp_path):
    StoredCheckpoints(tmp_path, 0, writes=False).save(Checkpoint(25, b"trees", STOPPING))
    assert list(tmp_path.iterdir()) == []


def test_damaged_bytes_are_no_checkpoint(tmp_path):
    saved(tmp_path, 25)
    file = tmp_path / "000025"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", json.dumps({"rounds": 25}).encode()):
        file.write_bytes(damaged)
        assert checkpoints.newest(tmp_path) == 0
        assert StoredCheckpoints(tmp_path, 25, writes=True).latest is None


def test_without_any_a_fit_begins_with_the_first_round(tmp_path):
    assert checkpoints.newest(tmp_path / "none") == 0
    assert StoredCheckpoints(tmp_path / "none", 0, writes=True).latest is None
