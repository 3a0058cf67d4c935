import functools
import os
import stat
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest
import ray

from mlsys import cluster, errors


def process_id(_=None):
    return os.getpid()


def refuse(column):
    raise errors.ContractError.build("collect: column", got=column, expected="a number", field=column)


def divide(by):
    return 1 / by


def num_threads():
    import numpy as np  # noqa: F401  (brings BLAS, whose threads are counted)
    from threadpoolctl import threadpool_info

    return {library["num_threads"] for library in threadpool_info()}


def test_a_call_runs_in_another_process_and_brings_its_result():
    assert cluster.call(process_id) != os.getpid()
    assert cluster.call(divmod, 7, 2) == (3, 1)


def test_a_call_has_the_threads_it_was_given():
    assert cluster.call(num_threads, threads=2) == {2}
    assert cluster.call(num_threads, threads=1) == {1}


def test_results_come_in_the_order_of_the_items_and_progress_as_they_end():
    ended = []
    results = cluster.map(abs, [-3, -1, -2], on_result=lambda *told: ended.append(told))
    assert results == [3, 1, 2]
    assert [(done, total) for _, done, total in ended] == [(1, 3), (2, 3), (3, 3)]
    assert sorted(result for result, _, _ in ended) == [1, 2, 3]


def test_a_state_is_made_once_a_worker_and_serves_all_its_items():
    made = cluster.map(lambda state, item: (*state, item), list(range(20)), state=lambda: (process_id(), os.urandom(8)))
    assert [item for _, _, item in made] == list(range(20))
    assert len({row[:2] for row in made}) <= 2
    assert os.getpid() not in {row[0] for row in made}


def test_an_error_in_the_making_of_a_state_arrives_as_itself():
    with pytest.raises(errors.ContractError, match="got:      age"):
        cluster.map(divmod, [1, 2], state=functools.partial(refuse, "age"))


def test_inside_a_task_calls_and_maps_run_in_it():
    assert len(cluster.call(process_ids)) == 1


def process_ids():
    return {os.getpid(), cluster.call(process_id), *cluster.map(process_id, [1, 2, 3])}


def test_a_shared_value_is_made_once_and_read_by_other_tasks(tmp_path):
    shared = cluster.share(noted, tmp_path)
    assert cluster.map(sum_of, [shared, shared, shared]) == [4, 4, 4]
    assert len(list(tmp_path.iterdir())) == 1


def test_workers_on_all_cpus_read_values_that_were_waited_for():
    shared = [cluster.share(slow, number) for number in range(6)]
    for each in shared:
        each.wait()
    state = functools.partial(totals, shared)
    assert cluster.map(added, [1, 2, 3], state=state) == [16, 17, 18]


def slow(number):
    time.sleep(0.5)
    return number


def totals(shared):
    return sum(each.get() for each in shared)


def added(total, item):
    return total + item


def test_an_error_in_the_making_of_a_shared_value_arrives_as_itself():
    with pytest.raises(errors.ContractError, match="got:      age"):
        cluster.map(sum_of, [cluster.share(refuse, "age")])


def noted(folder):
    (folder / uuid.uuid4().hex).touch()
    return divmod(7, 2)


def sum_of(shared):
    return sum(shared.get())


@pytest.mark.parametrize(
    "send", [lambda: cluster.call(refuse, "age"), lambda: cluster.map(refuse, ["age"])], ids=["call", "map"]
)
def test_an_error_raised_on_purpose_arrives_as_itself(send):
    with pytest.raises(errors.ContractError) as caught:
        send()
    assert str(caught.value) == "collect: column\n  got:      age\n  expected: a number"
    assert caught.value.field == "age"


def test_another_error_arrives_with_its_own_kind():
    with pytest.raises(ZeroDivisionError):
        cluster.call(divide, 0)


def test_the_cluster_has_the_cpus_it_was_given():
    assert cluster.num_cpus() == cluster.node_cpus() == 2


def test_the_cluster_that_is_up_is_joined_and_not_started_again(store):
    before = cluster.status(store)
    assert cluster.up(store, num_cpus=1) == before["address"]
    assert cluster.connect(store) == "running"
    assert cluster.status(store) == before


def test_workers_have_the_settings():
    wanted = {name: value for name, (value, _) in cluster.SETTINGS.items()}
    assert cluster.call(environment_of, list(wanted)) == wanted


def environment_of(names):
    return {name: os.environ.get(name) for name in names}


def test_the_token_is_readable_by_its_owner_alone(store):
    token = cluster.environment(store)["RAY_AUTH_TOKEN_PATH"]
    assert stat.S_IMODE(Path(token).stat().st_mode) == 0o600


def test_the_dashboard_listens_on_loopback_and_asks_for_the_token(store):
    dashboard = cluster.status(store)["dashboard"]
    port = int(dashboard.rpartition(":")[2])
    bound = {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert bound == {"127.0.0.1"}
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=20):
        pass
    assert caught.value.code == 401
    caught.value.close()


def test_ray_writes_no_token_into_the_home_of_its_user(store):
    assert os.environ["RAY_AUTH_TOKEN_PATH"].startswith(str(store.root))
    assert ray.is_initialized()
