import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlsys.statistics.values import ordered

WHOLE = st.builds(lambda low, steps: [low + float(step) for step in steps],
                  st.sampled_from([0.0, -7.0, 2.0**52, -(2.0**53), 1e300]),
                  st.lists(st.integers(0, 40), min_size=1))  # fmt: skip
ANY = st.lists(st.floats(allow_nan=False, allow_infinity=False))


@given(WHOLE | ANY)
def test_numbers_are_in_the_order_of_numpy_whichever_way_they_are_sorted(values):
    array = np.array(values, float) + 0.0
    assert ordered(array).tobytes() == np.sort(array).tobytes()
