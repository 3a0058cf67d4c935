import math

import pytest

from mlsys.statistics.ranking import Z_95_LOWER, auc_standard_error, wilson_interval


def test_one_repeat_of_thirty_rows_may_be_an_accident_and_one_in_thirty_of_a_thousand_is_not():
    low = [wilson_interval(count, rows, Z_95_LOWER)[0] for count, rows in ((1, 30), (33, 1_000), (0, 30))]
    assert low == pytest.approx([0.0075, 0.0249, 0.0], abs=5e-5)


def test_without_trials_there_is_no_interval():
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


def test_the_error_of_an_auc_is_that_of_the_paper():
    # Hanley & McNeil 1982: an area of 0.893 from 51 abnormal and 58 normal images has a standard error of 0.032
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)
