"""Fairness, drawn: the greatest difference of each rate between the groups of a column, and every group's rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports.page import Html, badge, details, figure, grid, heading, paragraph, table

MOST_GROUPS = 12
"""Groups in a drawing; the table has all."""


def blocks(judged: Mapping[str, Any]) -> list[Html]:
    """Draw each column's rates, after a table of the greatest differences."""
    level = formats.percent(judged["confidence"], 0)
    note = (
        f"Rates of the decisions at the model's threshold, in groups with at least {judged['min_rows']} rows that the "
        f"rate is of. Intervals of differences hold at {level} for all pairs of groups together (Bonferroni)."
    )
    meanings = [[each["title"], each["meaning"], each["of"]] for each in judged["columns"][0]["measures"]]
    means = table(meanings, ["rate", "definition", "of"], align="lwl")
    parts = [paragraph(note), _differences(judged), details("How each rate is defined", means)]
    for column in judged["columns"]:
        drawn = [figure(_rates(measure), _caption(measure)) for measure in column["measures"] if measure["rates"]]
        parts += [heading(column["column"]), grid(*drawn), details("All groups", _groups(column))]
    return parts


def _differences(judged: Mapping[str, Any]) -> Html:
    rows = [
        [column["column"], measure["title"], measure["difference"], _interval(measure),
         " and ".join(measure["between"]), measure["least_rows"], _verdict(measure, judged)]
        for column in judged["columns"]
        for measure in column["measures"]
    ]  # fmt: skip
    columns = ["column", "rate", "greatest difference", "interval", "between", "least rows", "gate"]
    caption = "Least rows: those that the rate of the smallest judged group is of"
    return table(rows, columns, align="llrrlrl", caption=caption, sortable=True)


def _interval(measure: Mapping[str, Any]) -> str:
    known = formats.interval(measure["low"], measure["high"])
    return f"none: {measure['reason']}" if known == formats.MISSING and measure["reason"] else known


def _verdict(measure: Mapping[str, Any], judged: Mapping[str, Any]) -> Html | str:
    limit = judged["max_difference"].get(measure["measure"])
    if limit is None:
        return "no bound"
    compared = measure["high"] if judged["strict"] else measure["difference"]
    passes = compared is not None and compared <= limit
    return badge("good" if passes else "bad", f"at most {limit:g}")


def _rates(measure: Mapping[str, Any]) -> Html:
    dots = [
        charts.Interval(rate["group"], rate["value"], rate["low"], rate["high"], _mark(rate, measure),
                        f"{formats.number(rate['value'])} ({rate['num_rows']:,})")
        for rate in measure["rates"][:MOST_GROUPS]
    ]  # fmt: skip
    return charts.intervals(dots, title=measure["title"])


def _mark(rate: Mapping[str, Any], measure: Mapping[str, Any]) -> Any:
    return "accent" if rate["group"] in measure["between"] else "plain"


def _caption(measure: Mapping[str, Any]) -> str:
    small = measure["too_small"]
    without = f" Too few rows: {', '.join(small[:6])}{' …' if len(small) > 6 else ''}." if small else ""
    return f"{measure['meaning']}; in brackets the rows.{without}"


def _groups(column: Mapping[str, Any]) -> Html:
    rates = [{rate["group"]: rate for rate in measure["rates"]} for measure in column["measures"]]
    rows = []
    for group, num_rows in column["groups"].items():
        own = [each.get(group) for each in rates]
        rows.append([group, num_rows, *(None if rate is None else rate["value"] for rate in own)])
    titles = [measure["title"] for measure in column["measures"]]
    return table(rows, ["group", "rows", *titles], align="lr" + "r" * len(titles), sortable=True)
