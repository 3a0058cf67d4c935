import pytest
import ray

from mlsys import cluster
from mlsys.store import Store


def test_ray_cannot_be_started_by_a_unit_test():
    with pytest.raises(RuntimeError, match="tests/cluster"):
        ray.init(num_cpus=1)


def test_ray_does_not_start_itself_when_a_task_is_sent():
    with pytest.raises(RuntimeError, match="tests/cluster"):
        ray.remote(int).remote()


def test_no_cluster_can_be_started_for_a_store(tmp_path):
    with pytest.raises(RuntimeError, match="tests/cluster"):
        cluster.up(Store.open(tmp_path))
    with pytest.raises(RuntimeError, match="tests/cluster"):
        cluster.connect(Store.open(tmp_path))


def test_work_sent_without_a_cluster_runs_here_in_order():
    ended = []
    squares = cluster.map(lambda x: x * x, [3, 1, 2], on_result=lambda *result: ended.append(result))
    assert squares == [9, 1, 4]
    assert ended == [(9, 1, 3), (1, 2, 3), (4, 3, 3)]
    assert cluster.call(divmod, 7, 2) == (3, 1)


def test_without_a_cluster_a_state_is_made_once_and_only_for_items():
    made = []
    assert cluster.map(lambda state, x: (*state, x), [3, 1], state=lambda: made.append(1) or (7,)) == [(7, 3), (7, 1)]
    assert cluster.map(divmod, [], state=lambda: made.append(2)) == []
    assert made == [1]
