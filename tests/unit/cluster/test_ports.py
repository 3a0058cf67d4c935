import contextlib
import socket

import pytest

from mlsys import errors
from mlsys.cluster import ports


def all_of(chosen):
    serving = [int(value) for value in chosen.serving.values()]
    return [chosen.gcs, chosen.dashboard, chosen.agent, chosen.client, *chosen.haproxy, *serving]


def test_what_listens_for_a_cluster_has_ports_of_its_own_in_the_block(tmp_path):
    with ports.choose(tmp_path) as chosen:
        numbers = all_of(chosen)
    assert numbers == [*range(chosen.gcs, chosen.gcs + 9), chosen.gcs + ports.SIZE - 1]
    assert ports.FIRST <= chosen.gcs < numbers[-1] <= ports.LAST


@pytest.mark.parametrize("is_bound", [False, True], ids=["while it starts", "while its head listens"])
def test_two_clusters_never_share_a_block(tmp_path, monkeypatch, is_bound):
    monkeypatch.setattr(ports, "LAST", ports.FIRST + 2 * ports.SIZE - 1)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(ports.choose(tmp_path))
        if is_bound:
            stack.enter_context(socket.create_server(("", one.gcs)))
        with ports.choose(tmp_path / "other" if is_bound else tmp_path) as other:
            assert not set(all_of(one)) & set(all_of(other))


def test_a_block_with_one_port_in_use_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "LAST", ports.FIRST + 2 * ports.SIZE - 1)
    with socket.create_server(("127.0.0.1", ports.FIRST + 50)), ports.choose(tmp_path) as chosen:
        assert chosen.gcs == ports.FIRST + ports.SIZE


def test_no_free_block_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "LAST", ports.FIRST + ports.SIZE - 1)
    held, refused = socket.create_server(("127.0.0.1", ports.FIRST + 50)), pytest.raises(errors.ClusterError)
    with held, refused as raised, ports.choose(tmp_path):
        pass
    assert "100 free ports between 20000 and" in str(raised.value)
