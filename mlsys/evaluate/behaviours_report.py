"""Behavioural tests, drawn: each sentence with the rows that break it, and some of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats
from mlsys.reports.page import Html, badge, details, paragraph, table

NOTE = (
    "Sentences of the recipe about what the model does (Ribeiro et al. 2020): of a change that must not matter, of one "
    "that must move the output in one direction, and of rows whose answer is known."
)


def blocks(judged: Sequence[Mapping[str, Any]]) -> list[Html]:
    """Draw the sentences in a table, then rows that break them."""
    passed, failed = badge("good", "passed"), badge("bad", "failed")
    rows = [
        [passed if each["passed"] else failed, each["name"], sentence(each), each["kind"], each["num_rows"],
         each["num_broken"], formats.percent(each["fraction"]), formats.percent(each["max_fraction"])]
        for each in judged
    ]  # fmt: skip
    columns = ["", "name", "sentence", "kind", "rows", "break it", "share", "allowed"]
    parts = [paragraph(NOTE), table(rows, columns, align="llwlrrrr")]
    return [*parts, *(_examples(each) for each in judged if each["examples"])]


def sentence(each: Mapping[str, Any]) -> str:
    """Say in words what a behavioural test asks.

    >>> sentence({"where": "delay > 60", "change": {"delay": "delay + 30"}, "expect": "increase", "of": None})
    'where delay > 60: with delay = delay + 30 the output does not decrease'
    """
    where = f"where {each['where']}: " if each["where"] else ""
    made = " and ".join(f"{name} = {sql}" for name, sql in each["change"].items())
    output = f"the probability of {each['of']}" if each["of"] else "the output"
    words = {"same": "stays the same", "increase": "does not decrease", "decrease": "does not increase"}
    claim = f"{output} {words[each['expect']]}" if each["expect"] in words else each["expect"]
    return f"{where}with {made} {claim}" if made else f"{where}{claim}"


def _examples(each: Mapping[str, Any]) -> Html:
    names = list(dict.fromkeys(name for example in each["examples"] for name in example["values"]))
    changed = list(each["change"])
    rows = [
        [*(formats.value(example["values"].get(name)) for name in names),
         *(formats.value(example["changed"].get(name)) for name in changed),
         *([example["before"]] if changed else []), example["after"], formats.value(example["prediction"])]
        for example in each["examples"]
    ]  # fmt: skip
    outputs = ["output before", "output after"] if changed else ["output"]
    columns = [*names, *(f"{name}, changed" for name in changed), *outputs, "prediction"]
    return details(f"Rows that break {each['name']}", table(rows, columns))
