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

MAX_LISTS = 100
"""Lists within the lists of a request: below it nothing is nested so deeply that a parser would refuse it."""

BLANKS_BEFORE_COLON = (b" :", b"\t:", b"\n:", b"\r:")

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
    if body.count(b'":') != members or body.count(b"[") > lists + MAX_LISTS:
        return None
    return None if any(blank in body for blank in BLANKS_BEFORE_COLON) else tree


def _counted(tree: dict[str, Any]) -> tuple[int, int]:
    """Members of the objects and number of the lists in the upper three levels; deeper ones are left out."""
    members, lists = len(tree), 0
    for value in tree.values():
        if type(value) is list:
            lists += 1
            for row in value:
                if type(row) is dict:
                    members += len(row)
                    lists += sum(type(item) is list for item in row.values())
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
