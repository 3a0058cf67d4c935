"""What is done about a worker that died: others go on as long as there is a new checkpoint each time."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from mlsys import errors
from mlsys.cluster.replacement import OnProgress, is_death, trainer_of
from mlsys.models.interface import Checkpoint
from mlsys.store import read_json
from mlsys.train.checkpoints import StoredCheckpoints

DEAD = WorkerHealthCheckFailedError("a worker", failure=ActorDiedError())
AWAY = WorkerHealthCheckFailedError("a worker", failure=ActorUnavailableError("no answer", None))
OURS = errors.TargetError.build("train: target 'y'", got="null", expected="a number")
LOST = WorkerGroupError("lost", {1: DEAD})


def leave(folder, rounds):
    StoredCheckpoints(folder, 0, writes=True).save(Checkpoint(rounds, b"trees", {}))


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({1: DEAD}, True),
        ({0: ValueError("gone"), 1: DEAD}, True),
        ({0: OURS, 1: DEAD}, False),
        ({1: AWAY}, False),
        ({0: ValueError("a bug")}, False),
    ],
)
def test_a_dead_process_is_told_from_an_error_and_from_a_machine_that_does_not_answer(failures, expected):
    assert is_death(WorkerGroupError("lost", failures)) is expected


def test_a_run_goes_on_from_one_checkpoint_to_the_next(tmp_path):
    note = tmp_path / "replaced.json"
    leave(tmp_path / "left", 25)
    policy = OnProgress(tmp_path / "left", note)
    assert policy.make_decision(LOST) is FailureDecision.RAISE  # nothing was done since it began
    leave(tmp_path / "left", 50)
    assert policy.make_decision(LOST) is FailureDecision.RETRY
    assert policy.make_decision(LOST) is FailureDecision.RAISE
    leave(tmp_path / "left", 75)
    assert policy.make_decision(LOST) is FailureDecision.RETRY
    assert read_json(note) == {"round": 75}


def test_no_other_failure_is_tried_again(tmp_path):
    policy = OnProgress(tmp_path, tmp_path / "replaced.json")
    leave(tmp_path, 25)
    for error in (ControllerError(RuntimeError("no room")), WorkerGroupError("lost", {0: OURS})):
        assert policy.make_decision(error) is FailureDecision.RAISE


def test_the_policy_takes_the_place_of_the_trainers_own(tmp_path):
    class Base:
        def _initialize_and_run_controller(self, **settings):
            return settings

    policy = OnProgress(tmp_path, tmp_path / "replaced.json")
    settings = trainer_of(Base, policy)()._initialize_and_run_controller(failure_policy=None, callbacks=[])
    assert settings == {"failure_policy": policy, "callbacks": []}
