"""Of each key one request is compared, in bounded memory, and what a killed replica wrote is still read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.deploy import first_requests
from mlsys.deploy.first_requests import ANSWERED, CANARY, FAILED, STABLE, KeySample, Observation, RecordFile

KEYS = st.integers(0, 2**64 - 1)


@given(st.lists(KEYS), st.integers(2, 20))
def test_no_key_is_new_twice_and_no_more_are_remembered_than_may(keys, most):
    sample = KeySample(most)
    new = [key for key in keys if sample.is_new(key)]
    assert len(new) == len(set(new))
    assert len(sample) <= most
    assert len(set(keys)) >= most or set(new) == set(keys)


def test_of_many_keys_a_share_that_says_nothing_of_their_order_stays_and_late_ones_still_count():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 40_000, dtype=np.uint64).tolist()
    sample = KeySample(1_000)
    new = [place for place, key in enumerate(keys) if sample.is_new(key)]
    assert 500 <= len(sample) < 1_000
    assert len(new) < 1_000 + 500 * 7
    assert sum(place >= 30_000 for place in new) > 100
    assert not any(map(sample.is_new, keys))


def written(folder, replica, records, step=0, num_outputs=2):
    file = RecordFile(folder, replica, step, num_outputs)
    for key, at, arm, outcome, observation in records:
        file.add(key, at, arm, outcome, observation)
    file.write(file.taken())
    return file


def test_records_of_all_replicas_come_in_the_order_of_time_and_of_each_key_the_first(tmp_path):
    late, soon = Observation(0.9, 2.0, 1, 2, [0.1, 0.9]), Observation(0.2, 1.0, 3, 4, [0.8, 0.2])
    written(tmp_path, "a", [(7, 20.0, CANARY, ANSWERED, late), (8, 21.0, STABLE, FAILED, Observation())])
    written(tmp_path, "b", [(7, 10.0, CANARY, ANSWERED, soon), (7, 11.0, CANARY, FAILED, Observation())])
    records = first_requests.read(tmp_path, 0)
    assert records["at"].tolist() == [10.0, 11.0, 21.0]
    assert records["outputs"][0].tolist() == [0.8, 0.2]
    assert (records["row"][0], records["entity"][0], records["latency"][0]) == (3, 4, 1.0)
    assert np.isnan(records["score"][1:]).all()
    assert first_requests.steps(tmp_path) == [0]
    assert len(first_requests.read(tmp_path, 1)) == 0


def test_files_of_other_widths_are_read_together(tmp_path):
    written(tmp_path, "a", [(1, 1.0, STABLE, ANSWERED, Observation(outputs=[0.5, 0.5, 0.0]))], num_outputs=3)
    written(tmp_path, "b", [(2, 2.0, CANARY, ANSWERED, Observation(outputs=[0.5, 0.5, 0.0]))], num_outputs=1)
    outputs = first_requests.read(tmp_path, 0)["outputs"]
    assert outputs[0].tolist() == [0.5, 0.5, 0.0]
    assert outputs[1].tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)


def test_a_record_that_was_cut_off_is_passed_over_and_written_again(tmp_path, monkeypatch):
    file = written(tmp_path, "a", [(1, 1.0, STABLE, ANSWERED, Observation())])
    (path,) = tmp_path.glob("*.records")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:10])
    assert first_requests.read(tmp_path, 0)["key"].tolist() == [1]
    file.add(2, 2.0, STABLE, ANSWERED, Observation())
    file.write(file.taken())
    assert first_requests.read(tmp_path, 0)["key"].tolist() == [1, 2]


def test_a_wide_model_remembers_fewer_keys(tmp_path):
    keys = np.random.default_rng(1).integers(0, 2**64, 1 << 10, dtype=np.uint64).tolist()
    wide, narrow = (RecordFile(tmp_path, "a", 0, num_outputs) for num_outputs in (1 << 12, 1))
    assert sum(map(narrow.answered.is_new, keys)) == 1 << 10
    assert sum(map(wide.answered.is_new, keys)) < 200
    assert len(wide.answered) <= first_requests.MOST_OUTPUTS >> 12
