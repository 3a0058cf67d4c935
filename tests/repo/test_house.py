"""The source tree keeps to its bounds: no circle of imports, no file that is too long."""

from __future__ import annotations

import house

SIZE = house.measure()


def test_no_modules_import_each_other_in_a_circle():
    assert SIZE.circles == []


def test_no_file_is_longer_than_500_lines():
    assert SIZE.longest[1] <= 500, SIZE.longest


def test_functions_are_short():
    assert SIZE.p95_function <= 25
