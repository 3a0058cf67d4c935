"""Numbers as text."""

import pytest

from mlsys.reports import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-3, "-3"), (1234567, "1,234,567"), (0.5, "0.5000"), (0.73456, "0.7346"), (12.3456, "12.35"),
        (99999.6, "100,000"), (0.001234, "0.001234"), (1e-9, "1.000e-09"), (-0.25, "-0.2500"), (1e300, "1e+300"),
        (float("nan"), "–"), (float("inf"), "–"), (None, "–"),
    ],
)  # fmt: skip
def test_a_number_has_four_significant_digits(value, text):
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "(empty)"), (" ", "' '"), ("a ", "'a '"), ("a b", "a b"), ("a\x00\n", "a\\x00\\n"),
        ("\u202eabc", "\\u202eabc"), ("\ufeffid", "\\ufeffid"), ("e\u0301", "e\u0301"), ("👩\u200d👧", "👩\u200d👧"),
    ],
)  # fmt: skip
def test_a_text_shows_what_a_reader_would_not_see(text, shown):
    assert formats.value(text) == shown


@pytest.mark.parametrize(("low", "high"), [(None, 1.0), (0.0, None), (float("nan"), 1.0)])
def test_an_interval_without_an_end_is_a_dash(low, high):
    assert formats.interval(low, high) == "–"
