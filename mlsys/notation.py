"""The notation of a column's values in texts: marks of its numbers, or the order of its dates.

A number is shown by 1234.56 as it would be written, with a sign of its unit if there is one: ``1.234,56``,
``1 234,56 €``, ``1234.56 %``. A date is shown in the directives of ``strptime``: ``%d/%m/%Y``, ``%d %b %Y``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

UNIT = r"[^\d\s.,'%]{1,12}"
NUMBER = re.compile(rf"(?P<before>{UNIT})?\s?1(?P<thousands>[., '’]?)234(?P<decimal>[.,])56\s?(?P<after>%|{UNIT})?")
DATE = re.compile(r"%[-#]?[dmYybBjHIMSfpzZTDF]")
EXAMPLES = '"1.234,56", "1 234,56 €", "1234.56 %" for numbers, "%d/%m/%Y" or "%d %b %Y" for dates'


@dataclass(frozen=True)
class NumberNotation:
    """Decimal mark, mark between thousands and unit of the numbers of a column; each unit but % may be left out."""

    decimal: str
    thousands: str = ""
    unit: str = ""

    def __str__(self) -> str:
        return f"1{self.thousands}234{self.decimal}56" + (f" {self.unit}" if self.unit else "")


def number_notation(text: str) -> NumberNotation | None:
    """The notation of numbers that a text shows; None for a notation of dates.

    >>> number_notation("€ 1.234,56")
    NumberNotation(decimal=',', thousands='.', unit='€')
    """
    parts = NUMBER.fullmatch(text.strip())
    if parts is None or parts["thousands"] == parts["decimal"] or (parts["before"] and parts["after"]):
        return None
    thousands = parts["thousands"].replace("’", "'")
    return NumberNotation(parts["decimal"], thousands, parts["before"] or parts["after"] or "")


def _checked(text: str) -> str:
    if number_notation(text) is None and not DATE.search(text):
        raise ValueError(f"a notation: {EXAMPLES}")
    return text


Notation = Annotated[str, AfterValidator(_checked)]
"""A notation as a recipe writes it."""
