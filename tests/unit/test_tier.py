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
    squares = cluster.map(lambda x: x * x, [3, 1, 2], progress=lambda done, total: ended.append((done, total)))
    assert squares == [9, 1, 4]
    assert ended == [(1, 3), (2, 3), (3, 3)]
    assert cluster.call(divmod, 7, 2) == (3, 1)
