"""Parameters of a fit whose score alone counts."""

from mlsys import models
from mlsys.train import training_job


def test_a_kernel_machine_is_compared_with_fewer_landmarks_than_it_is_fitted_with():
    params = models.params_of("kernel", {"width": 2})
    assert params.landmarks == 4_000
    assert training_job.params_to_compare(params) == models.params_of("kernel", {"width": 2, "landmarks": 2_000})
    assert training_job.stated_params(params) == [
        "kernel: scores are of fits with 2,000 landmarks; the final one has 4,000"
    ]


def test_what_is_cheap_is_compared_as_it_is():
    for params in (models.params_of("kernel", {"landmarks": 500}), models.params_of("linear", {})):
        assert training_job.params_to_compare(params) is params
        assert training_job.stated_params(params) == []
