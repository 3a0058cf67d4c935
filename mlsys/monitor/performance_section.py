"""The report's section on performance: the metric, the rates and the labels, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import charts
from mlsys.reports import page as html

__all__ = ["section"]

Json = Mapping[str, Any]

_CAPTIONS = {
    "binary": "The gap between the lines is calibration. The band is where the prediction may lie: as near as is "
    "allowed, or with a gap that differs from that of the test rows by no more than noise. A window outside of it is "
    "flagged.",
    "regression": "The band is what noise allows between the two. It is no alarm: the metric judges.",
}


def section(report: html.Page, value: Json, times: Sequence[str]) -> None:
    """Metric with the test rows' band, rates, and label coverage; nothing where there are no labels.

    Parameters
    ----------
    times
        The windows as the charts name them.
    """
    if value["labels"] is None:
        report.section("Performance", "No labels were given, so performance is not known.")
        return
    windows, base = value["windows"], value["baseline"]
    blocks = [
        _metric_chart(windows, times, base),
        *_rate_charts(value, times),
        _coverage(windows, times, value["rules"]),
    ]
    report.section(
        "Performance",
        *blocks,
        note="Bands are intervals from leaving out one block of time after another: rows that are alike count as few.",
    )


def _metric_chart(windows: Sequence[Json], times: Sequence[str], base: Json) -> html.Html:
    found = [window["metrics"].get(base["metric"]) or {} for window in windows]
    series = {
        "production": charts.Series(
            [f.get("value") for f in found], [f.get("low") for f in found], [f.get("high") for f in found]
        )
    }
    test = base["metrics"].get(base["metric"])
    if test:
        many = len(windows)
        low, high = test["low"], test["high"]
        ends = ([low] * many, [high] * many) if low is not None and high is not None else (None, None)
        series["test rows"] = charts.Series([test["value"]] * many, *ends)
    alarms = [
        i for i, w in enumerate(windows) if any(x["degraded"] and x["what"] == base["metric"] for x in w["losses"])
    ]
    better = "higher" if base["greater_is_better"] else "lower"
    return html.figure(
        charts.lines(
            list(times),
            series,
            title=f"{base['title']} by window",
            y_label=f"{base['title']}, {better} is better",
            alarms=alarms,
        ),
        "Flags mark windows where it is worse than on the test rows by more than stated and more than noise.",
    )


def _rate_charts(value: Json, times: Sequence[str]) -> list[html.Html]:
    """Observed against predicted rate (or mean), for one number a row; a gap says what calibration lost."""
    kind = value["task"]["kind"]
    if kind == "multiclass":
        return []
    windows, base = value["windows"], value["baseline"]
    what = "rate" if kind == "binary" else "mean"
    found = [next((loss for loss in w["losses"] if loss["what"] == "calibration"), None) for w in windows]
    spans = [_kept(w, loss) if kind == "binary" else _noise(w) for w, loss in zip(windows, found, strict=True)]
    chart = charts.lines(
        list(times),
        {
            f"observed {what}": charts.Series([w["observed"] for w in windows], *zip(*spans, strict=True)),
            f"predicted {what}": [w["predicted"] for w in windows],
        },
        title=f"{'Rate' if kind == 'binary' else 'Mean'} of {value['task']['target']}: observed and predicted",
        limits={} if base["observed"] is None else {f"observed {what} of the test rows": base["observed"]},
        alarms=[i for i, loss in enumerate(found) if loss and loss["degraded"]],
    )
    return [html.figure(chart, _CAPTIONS[kind])]


def _kept(window: Json, loss: Json | None) -> tuple[float | None, float | None]:
    """Predicted rates that raise no flag."""
    if loss is None or loss["allowed"] is None or window["observed"] is None:
        return None, None
    low, high = loss["allowed"]
    return window["observed"] + low, window["observed"] + high


def _noise(window: Json) -> tuple[float | None, float | None]:
    """The interval of the observed mean, given the predicted one."""
    gap = window["gap"]
    if window["predicted"] is None or not gap or gap["low"] is None:
        return None, None
    return window["predicted"] - gap["high"], window["predicted"] - gap["low"]


def _coverage(windows: Sequence[Json], times: Sequence[str], rules: Json) -> html.Html:
    chart = charts.lines(
        list(times),
        {"labelled": [window["labels"]["coverage"] for window in windows]},
        title="Label coverage",
        y_label="fraction of predictions with a label",
        limits={"mature from": rules["min_label_coverage"]},
        y_range=(0, 1),
    )
    return html.figure(
        chart, "Below the line a window's metrics are not shown: early labels are seldom like the later ones."
    )
