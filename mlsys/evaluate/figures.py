"""The drawings of an evaluation: what predictions look like against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.reports import charts
from mlsys.reports.page import Html, figure, grid

__all__ = ["classification", "regression"]

Evaluation = Mapping[str, Any]


def classification(evaluation: Evaluation) -> Html:
    """Confusion matrix, calibration, ROC, precision and recall; for two classes also thresholds and scores."""
    level = next(iter(evaluation["base_rates"].values())) if len(evaluation["base_rates"]) == 1 else None
    shape = evaluation["confusion"]
    drawn = [
        charts.confusion(shape["counts"], shape["labels"], title="Confusion matrix"),
        _calibration(evaluation["calibration"]),
        _curves(evaluation["roc"], "ROC curve", "false positive rate", "true positive rate", diagonal=True),
        _curves(evaluation["precision_recall"], "Precision and recall", "recall", "precision", level=level),
    ]
    if evaluation["thresholds"]:
        drawn += [_thresholds(evaluation), _scores(evaluation)]
    figures = [figure(svg, caption) for svg, caption in zip(drawn, _captions(evaluation), strict=False) if svg]
    return grid(*figures)


def _captions(evaluation: Evaluation) -> list[str]:
    of, is_binary = evaluation["calibration"]["of"], len(evaluation["base_rates"]) == 1
    calibrated = f"Predicted probability of {of} against how often it came true, in bins of equal size."
    return [
        "Rows are the truth, columns the prediction; percentages are shares of the row.",
        f"{calibrated} Whiskers are Wilson intervals.",
        "The broken line is guessing." if is_binary else "One class against the rest. The broken line is guessing.",
        "The broken line is the rate among all rows." if is_binary else "One class against the rest.",
        "What each threshold does on the test rows; the upright line is the one chosen on validation.",
        "Predicted probability by true class, each class scaled to the same area.",
    ]


def _curves(
    found: Mapping[str, Any], title: str, x: str, y: str, *, diagonal: bool = False, level: float | None = None
) -> Html:
    known = {name: (points[0], points[1]) for name, points in found.items() if points}
    return charts.curve(known, title=title, x_label=x, y_label=y, diagonal=diagonal, level=level) if known else Html("")


def _calibration(found: Mapping[str, Any]) -> Html:
    bins = found["bins"]
    columns = {key: [b[key] for b in bins] for key in ("predicted", "observed", "low", "high", "count")}
    return charts.calibration(
        columns["predicted"],
        columns["observed"],
        low=columns["low"],
        high=columns["high"],
        counts=columns["count"],
        title="Calibration",
    )


def _thresholds(evaluation: Evaluation) -> Html:
    found = evaluation["thresholds"]
    x = found["threshold"]
    names = {"precision": "precision", "recall": "recall", "F1": "f1"}
    series = {name: (x, [float("nan") if v is None else v for v in found[column]]) for name, column in names.items()}
    return charts.curve(
        series, title="By threshold", x_label="threshold", y_label="value", upright=("chosen", evaluation["threshold"])
    )


def _scores(evaluation: Evaluation) -> Html:
    found = evaluation["scores"]
    return charts.histogram_by_class(
        found["edges"],
        found["counts"],
        title="Scores by class",
        x_label=f"predicted probability of {evaluation['calibration']['of']}",
    )


def regression(found: Mapping[str, Any], target: str) -> Html:
    """Actual and residual against predicted, the residuals' histogram, and means by tenths."""
    actual, residual, spread, tenths = found["actual"], found["residual"], found["histogram"], found["tenths"]
    x_label = f"predicted {target}"
    drawn = [
        charts.density(
            *_grid_of(actual),
            title="Actual against predicted",
            x_label=x_label,
            y_label=f"actual {target}",
            diagonal=True,
        ),
        charts.density(
            *_grid_of(residual), title="Residual against predicted", x_label=x_label, y_label="actual − predicted"
        ),
        charts.histogram(
            spread["edges"], spread["counts"], title="Residuals", x_label="actual − predicted", marks={"0": 0.0}
        ),
        _tenths(tenths, target),
    ]
    captions = [
        "The stronger the colour, the more rows; on the broken line they agree.",
        "A pattern here is something that the model has not learned.",
        "The outermost bins hold all that lies beyond the 0.1 and 99.9 percentiles.",
        "Ten equal parts of the rows, ordered by prediction.",
    ]
    return grid(*(figure(svg, caption) for svg, caption in zip(drawn, captions, strict=True)))


def _grid_of(found: Mapping[str, Any]) -> tuple[list[float], list[float], list[list[float]]]:
    return found["x_edges"], found["y_edges"], found["counts"]


def _tenths(tenths: list[Mapping[str, float]], target: str) -> Html:
    predicted, actual = [t["predicted"] for t in tenths], [t["actual"] for t in tenths]
    ends = (min(predicted + actual), max(predicted + actual))
    return charts.curve(
        {"tenths of the rows": (predicted, actual)},
        title="Mean actual by predicted",
        x_label=f"mean predicted {target}",
        y_label=f"mean actual {target}",
        diagonal=True,
        dots=True,
        x_range=ends,
        y_range=ends,
    )
