"""The words of an expression: those that may stand in it, and how its text is made safe before it is parsed."""

from __future__ import annotations

import re

from mlsys import errors

__all__ = ["FUNCTIONS", "check", "widen"]

FUNCTIONS = frozenset(
    """
    abs ceil ceiling exp floor ln log log10 log1p log2 mod pow power round sign sqrt cbrt div
    sin cos tan asin acos atan atan2 degrees radians pi
    coalesce greatest least if ifnull nullif
    concat concat_ws starts_with ends_with initcap left right length char_length octet_length lower upper
    lpad rpad ltrim rtrim trim replace regexp_like reverse strpos substr substring split_part
    strptime strftime extract date_part date datetime timestamp
    """.split()
)
"""Functions that may be called; each gives one value a row from that row's values."""

KEYWORDS = frozenset(
    """
    and or not in is like ilike between case when then else end as from for interval at time zone on
    cast try_cast decimal numeric varchar char float timestamp
    """.split()
)
"""Words that a parenthesis may follow and that are no function."""

REFUSED = {
    "over": "a window over other rows",
    "select": "a sub-query",
    "now": "the current time",
    "current_timestamp": "the current time",
    "current_date": "the current time",
    "current_time": "the current time",
}

COUNTS = frozenset("extract date_part length char_length octet_length strpos".split())
"""Functions whose narrow integers would overflow in the next multiplication: ``EXTRACT(hour FROM t) * 60``."""

FLOAT_PARTS = re.compile(r"\w+\s*\(\s*'?(epoch|millisecond|microsecond|nanosecond|time)\b", re.IGNORECASE)
"""Parts of a time that are no integers."""

PADS = frozenset({"lpad", "rpad"})
PADDED = re.compile(r",\s*\d{1,4}\s*(,\s*)?\)$")
"""End of a call that pads to a length written out: a value of a row must not decide how much memory it takes."""

QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
CALL = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)\s*\(")


def check(name: str, sql: str, where: str) -> None:
    """Refuse what is not computed from one row: only known functions may be called.

    Raises
    ------
    RecipeError
        Names the word.
    """
    bare = _masked(sql)
    for word in WORD.findall(bare):
        if word.lower() in REFUSED:
            raise _not_row_wise(name, f"{REFUSED[word.lower()]} in {sql}", None, where)
    for word in CALL.findall(bare):
        if word.lower() not in FUNCTIONS | KEYWORDS:
            hint = errors.did_you_mean(word.lower(), FUNCTIONS)
            raise _not_row_wise(name, f"function '{word.lower()}' in {sql}", hint, where)
    for call in CALL.finditer(bare):
        start, end = call.start(), _closing(bare, call.end())
        if call[1].lower() in PADS and not PADDED.search(bare[start:end]):
            expected = "a length of at most 9999 characters, written as a number"
            raise errors.RecipeError.build(f"{where}: '{name}'", got=sql[start:end], expected=expected, field=name)


def widen(sql: str) -> str:
    """The text with each narrow integer function cast to 64 bits.

    >>> widen("EXTRACT(hour FROM t) * 60 + LENGTH('(')")
    "CAST(EXTRACT(hour FROM t) AS BIGINT) * 60 + CAST(LENGTH('(') AS BIGINT)"
    """
    for call in reversed(list(CALL.finditer(_masked(sql)))):
        end = _closing(_masked(sql), call.end())
        text = sql[call.start() : end]
        if call[1].lower() in COUNTS and not FLOAT_PARTS.match(text):
            sql = f"{sql[: call.start()]}CAST({text} AS BIGINT){sql[end:]}"
    return sql


def _masked(sql: str) -> str:
    """The text with what is in quotes replaced by blanks, so that positions stay."""
    return QUOTED.sub(lambda quoted: " " * len(quoted[0]), sql)


def _closing(text: str, start: int) -> int:
    """Position after the parenthesis that closes the one opened just before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return at + 1
    return len(text)


def _not_row_wise(name: str, got: str, hint: str | None, where: str) -> errors.RecipeError:
    return errors.RecipeError.build(
        f"{where}: '{name}'", got=got, expected="one value a row, computed from that row alone", hint=hint, field=name
    )
