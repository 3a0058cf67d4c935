"""JSON by msgspec where it says what `json` would, and None where the strict reader has to look.

It reads ten times as fast as the checks of `mlsys.deploy.requests`, which stay the rule: what `decode` returns is what
they return, and what they would refuse, or name, makes it return None. Source: msgspec, "JSON" and "Constraints".

Of two members of one name msgspec keeps the last, in silence. So members are counted. Every name in an object ends with
a quotation mark, and unless a blank stands before some colon of the text, the colon follows at once: there are at least
as many ``":`` as members. Decoded members are no more than there were, so equal numbers mean that none was lost.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

MAX_LISTS = 100
"""Lists within the lists of a request: below it nothing is nested so deeply that a parser would refuse it."""

LONG_BODY = 16_384
"""Bytes of a body from which on it is searched for colons alone, in one pass."""

_IS_BLANK = np.isin(np.arange(256), list(b" \t\n\r"))

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def decode(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object of the shape that requests have; None if it is none, or not for certain."""
    try:
        tree = _DECODER.decode(body)
    except (ValueError, RecursionError):
        return None
    if type(tree) is not dict:
        return None
    members, lists = _counted(tree)
    if num_members(body) != members or body.count(b"[") > lists + MAX_LISTS:
        return None
    return tree


def num_members(body: bytes) -> int | None:
    """Count the ``":`` of a body, which are at least as many as its members; None if a blank is before some colon."""
    if len(body) < LONG_BODY:
        is_blank_before_colon = b" :" in body or b"\t:" in body or b"\n:" in body or b"\r:" in body
        return None if is_blank_before_colon else body.count(b'":')
    letters = np.frombuffer(body, np.uint8)
    before = letters.take(np.flatnonzero(letters == ord(":")) - 1)  # no JSON begins with a colon
    return None if _IS_BLANK.take(before).any() else int(np.count_nonzero(before == ord('"')))


def _counted(tree: dict[str, Any]) -> tuple[int, int]:
    """Members of the objects and number of the lists in the upper three levels; deeper ones are left out."""
    members, lists = len(tree), 0
    for value in tree.values():
        if type(value) is list:
            lists += 1
            for row in value:
                if type(row) is dict:
                    members += len(row)
                    lists += list(map(type, row.values())).count(list)
                elif type(row) is list:
                    lists += 1
        elif type(value) is dict:
            members += len(value)
            for item in value.values():
                if type(item) is list:
                    lists += 1 + sum(type(row) is list for row in item)
    return members, lists


def encode(value: Any) -> bytes | None:
    """Write a value with every float in a form that reads back as the same bits; None if JSON or UTF-8 cannot say it.

    >>> encode({"a": [0.1, 1e22, None]})
    b'{"a":[0.1,1e22,null]}'
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError):
        return None
