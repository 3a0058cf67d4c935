"""The journal of a search survives what kills the search."""

import json

import numpy as np

from mlsys.tune.journal import Journal, Trial


def trial(number, score=0.5):
    return Trial(number, "xgboost", {"max_depth": 3 + number}, score, 40, True, 0.25, 10.0 * number)


def test_what_was_appended_is_read_again(tmp_path):
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    for number in range(3):
        journal.append(trial(number))
    again = Journal(journal.file)
    assert again.trials == journal.trials == [trial(0), trial(1), trial(2)]
    assert again.elapsed_s == 20.0


def test_no_file_is_no_trials(tmp_path):
    assert Journal(tmp_path / "journal.jsonl").trials == []
    assert Journal(tmp_path / "journal.jsonl").elapsed_s == 0.0


def test_a_torn_last_line_is_cut_off_and_the_next_trial_follows_whole_ones(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(trial(0))
    journal.append(trial(1))
    whole = journal.file.read_bytes()
    for kept in range(len(whole)):
        journal.file.write_bytes(whole[:kept])
        again = Journal(journal.file)
        assert again.trials == [trial(n) for n in range(whole[:kept].count(b"\n"))]
        again.append(trial(7))
        assert [json.loads(line)["number"] for line in journal.file.read_text().splitlines()][-1] == 7
        assert Journal(journal.file).trials == again.trials


def test_predictions_lie_beside_the_trials_and_go_with_the_worse_ones(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.folder.mkdir()
    for number in range(3):
        np.save(journal.folder / f"{trial(number).key}.npy", np.full(4, number, np.float32))
    assert journal.predictions(trial(2)).tolist() == [2.0, 2.0, 2.0, 2.0]
    journal.keep([trial(0), trial(1)])
    assert [journal.has_predictions(trial(number)) for number in range(3)] == [True, True, False]


def test_a_point_has_one_name_in_whatever_order_its_parameters_are():
    one = Trial(0, "xgboost", {"a": 1, "b": 2.0}, 0.5, 40, True, 0.25, 0.0)
    two = Trial(5, "xgboost", {"b": 2.0, "a": 1}, 0.7, 10, True, 0.25, 9.0)
    assert one.key == two.key != Trial(0, "lightgbm", {"a": 1, "b": 2.0}, 0.5, 40, True, 0.25, 0.0).key
