"""The report of an evaluation: verdict first, then the numbers and drawings, then where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.evaluate import behaviours_report, explained_report, fairness_report
from mlsys.evaluate.metrics import METRICS
from mlsys.evaluate.thresholds import RULES
from mlsys.reports import charts, formats
from mlsys.reports.page import Html, Page, alert, badge, code, details, facts, figure, grid, heading, paragraph, table

Evaluation = Mapping[str, Any]

MOST_SLICES = 14
"""Slices in the drawing; the table has all."""


def page(evaluation: Evaluation) -> str:
    """Draw an evaluation, as `score` returned it or as it was read from JSON, as one self-contained HTML file."""
    mark = badge("good", "gate passed") if evaluation["verdict"]["passed"] else badge("bad", "gate not passed")
    document = Page(f"Evaluation of {evaluation['name']}", _subtitle(evaluation), mark=mark)
    document.section("Verdict", *_verdict(evaluation))
    document.section("Metrics", *_metrics(evaluation), note=_intervals_note(evaluation["resampling"]))
    if "ranking" in evaluation:
        document.section("Groups", *ranking_figures(evaluation["ranking"], evaluation["task"]["group"]))
    elif "regression" in evaluation:
        document.section("Predictions", regression_figures(evaluation["regression"], evaluation["task"]["target"]))
    elif "labels" in evaluation:
        document.section("Labels", *_labels(evaluation))
    else:
        document.section("Predictions", classification_figures(evaluation))
        document.section("Classes", _classes(evaluation))
    if "explained" in evaluation:
        document.section("What the model goes by", *explained_report.blocks(evaluation))
    if "utility" in evaluation:
        document.section("Utility", *_utility(evaluation))
    if "fairness" in evaluation:
        document.section("Fairness", *fairness_report.blocks(evaluation["fairness"]))
    if "behaviours" in evaluation:
        document.section("Behaviours", *behaviours_report.blocks(evaluation["behaviours"]))
    document.section("Slices", *_slices(evaluation), note=_slices_note(evaluation["slices"]))
    document.section("About this evaluation", *_about(evaluation))
    return document.html()


def _subtitle(evaluation: Evaluation) -> str:
    task = evaluation["task"]
    model = f"{evaluation['family']} · bundle {evaluation['bundle'][:12]}"
    return f"{evaluation['num_rows']:,} test rows · {task['kind']} · target {task['target']} · {model}"


def _verdict(evaluation: Evaluation) -> list[Html]:
    metric, gain = evaluation["metrics"][evaluation["metric"]], evaluation["dummy"]["gain"]
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        (metric["title"], formats.number(metric["value"]), interval_or_reason(metric)),
        (f"Gain over the {_floor(evaluation)}", formats.number(gain["value"]), interval_or_reason(gain)),
        ("Test rows", evaluation["num_rows"]),
    ]
    if evaluation["threshold"] is not None and "labels" not in evaluation:
        rule = RULES[evaluation["threshold_rule"]]
        tiles.append(("Decision threshold", formats.number(evaluation["threshold"]), rule))
    passed, failed = badge("good", "passed"), badge("bad", "failed")
    checks = evaluation["verdict"]["checks"]
    rows = [[passed if c["passed"] else failed, c["name"], c["bound"], c["reason"]] for c in checks]
    asked = table(rows, ["", "check", "bound", "reason"], align="lllw", caption="What the gate asked")
    suspects = [alert("warn", line, "The gate does not know") for line in evaluation.get("suspects", ())]
    return [facts(tiles), asked, *suspects, _opened(evaluation)]


def _opened(evaluation: Evaluation) -> Html:
    earlier, others = evaluation["openings"]["earlier"], evaluation["openings"]["other_bundles"]
    if not earlier:
        return alert("good", "These test rows were opened for the first time.")
    times = f"{earlier} time{'s' if earlier > 1 else ''}"
    if not others:
        return alert("info", f"These test rows were opened {times} before, for this same model.")
    models = f"{others} other model{'s' if others > 1 else ''}"
    return alert(
        "warn",
        f"They were opened {times} before, also for {models}. A model chosen by these numbers looks better than it is; "
        "rows that nothing has been chosen by do not have that fault.",
        "The test rows are no longer new",
    )


def _intervals_note(resampling: Mapping[str, Any]) -> str:
    if not resampling["num_resamples"]:
        return "Without intervals: the recipe asks for no resamples."
    means = "what other test rows of the same kind would give, not what another time would"
    level = formats.percent(resampling["confidence"], 0)
    return f"Intervals are {level} intervals by {how_resampled(resampling)}: {means}."


def how_resampled(resampling: Mapping[str, Any]) -> str:
    """Say what was resampled, and how often."""
    if resampling["unit"] == "rows":
        return f"the {resampling['method']}, {resampling['num_resamples']} resamples of rows"
    worth = f", worth {resampling['effective_units']:g} of equal size"
    number = resampling["num_units"]
    unequal = worth if resampling["effective_units"] < number - 1 else ""
    return (
        f"the {resampling['method']} with a t distribution, each of {number} {resampling['unit']} left out once"
        f"{unequal}, for rows that belong together are alike"
    )


def _metrics(evaluation: Evaluation) -> list[Html]:
    measured = evaluation["metrics"]
    floor = _floor(evaluation)
    columns = ["metric", "value", "interval", floor, "better"]
    rows = [
        [m["title"], m["value"], interval_or_reason(m), m["dummy"], _better(name, m)] for name, m in measured.items()
    ]
    says = "says the same for every row" if floor == "dummy" else "repeats the last season"
    caption = f"On the test rows, beside a {floor} that {says}"
    meanings = table([[m["title"], m["meaning"]] for m in measured.values()], ["metric", "definition"], align="lw")
    blocks = [table(rows, columns, align="lrrrl", caption=caption), details("How each metric is defined", meanings)]
    headlines = [name for name, metric in METRICS.items() if metric.is_headline and name in measured]
    dots = [_dot(measured[name], accent=name == evaluation["metric"]) for name in headlines]
    drawn = charts.intervals(dots, title=f"Model and {floor}") if dots else None
    legend = f"Dots are the model with its interval, rings the {floor}; greater is better for all."
    return [figure(drawn, legend), *blocks] if drawn else blocks


def _floor(evaluation: Evaluation) -> str:
    """Name the predictions that the model has to beat."""
    return str(evaluation["dummy"].get("named", "dummy"))


def interval_or_reason(estimate: Mapping[str, Any]) -> str:
    """Write an interval, or why there is none."""
    if estimate["low"] is None and estimate["reason"]:
        return f"none: {estimate['reason']}"
    return formats.interval(estimate["low"], estimate["high"])


def _dot(metric: Mapping[str, Any], *, accent: bool) -> charts.Interval:
    values = (metric["value"], metric["low"], metric["high"])
    return charts.Interval(metric["title"], *values, mark="accent" if accent else "plain", other=metric["dummy"])


def _better(name: str, metric: Mapping[str, Any]) -> str:
    if name in METRICS:
        return METRICS[name].better
    return "higher" if metric["greater_is_better"] else "lower"  # of a metric that is not registered here


def classification_figures(evaluation: Evaluation) -> Html:
    """Draw confusion matrix, calibration, ROC, precision and recall; for two classes also thresholds and scores."""
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
    return grid(*(figure(svg, caption) for svg, caption in zip(drawn, _captions(evaluation), strict=False) if svg))


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
    points: Mapping[str, Any], title: str, x: str, y: str, *, diagonal: bool = False, level: float | None = None
) -> Html:
    drawn = {name: (of[0], of[1]) for name, of in points.items() if of}
    return charts.curve(drawn, title=title, x_label=x, y_label=y, diagonal=diagonal, level=level) if drawn else Html("")


def _calibration(calibration: Mapping[str, Any]) -> Html:
    keys = ("predicted", "observed", "low", "high", "count")
    predicted, observed, low, high, counts = ([b[key] for b in calibration["bins"]] for key in keys)
    return charts.calibration(predicted, observed, low=low, high=high, counts=counts, title="Calibration")


def _thresholds(evaluation: Evaluation) -> Html:
    curve = evaluation["thresholds"]
    x = curve["threshold"]
    names = {"precision": "precision", "recall": "recall", "F1": "f1"}
    series = {name: (x, [float("nan") if v is None else v for v in curve[column]]) for name, column in names.items()}
    chosen = ("chosen", evaluation["threshold"])
    return charts.curve(series, title="By threshold", x_label="threshold", y_label="value", upright=chosen)


def _scores(evaluation: Evaluation) -> Html:
    scores, x_label = evaluation["scores"], f"predicted probability of {evaluation['calibration']['of']}"
    return charts.histogram_by_class(scores["edges"], scores["counts"], title="Scores by class", x_label=x_label)


def regression_figures(regression: Mapping[str, Any], target: str) -> Html:
    """Draw actual and residual against predicted, the residuals' histogram, and means by tenths."""
    actual, residual, spread, tenths = (regression[key] for key in ("actual", "residual", "histogram", "tenths"))
    x, y, gap = f"predicted {target}", f"actual {target}", "actual − predicted"
    drawn = [
        charts.density(*_grid_of(actual), title="Actual against predicted", x_label=x, y_label=y, diagonal=True),
        charts.density(*_grid_of(residual), title="Residual against predicted", x_label=x, y_label=gap),
        charts.histogram(spread["edges"], spread["counts"], title="Residuals", x_label=gap, marks={"0": 0.0}),
        _tenths(tenths, target),
    ]
    captions = [
        "The stronger the colour, the more rows; on the broken line they agree.",
        "A pattern here is something that the model has not learned.",
        "The outermost bins hold all that lies beyond the 0.1 and 99.9 percentiles.",
        "Ten equal parts of the rows, ordered by prediction.",
    ]
    return grid(*(figure(svg, caption) for svg, caption in zip(drawn, captions, strict=True)))


def ranking_figures(ranking: Mapping[str, Any], group: str) -> list[Html]:
    """Draw NDCG by rank beside that of chance, and how it is spread over the groups."""
    left_out = ranking["num_left_out"]
    without = f"; {left_out:,} have no grade above 0 and are left out" if left_out else ""
    text = f"{ranking['num_groups']:,} groups of {group}, {ranking['median_rows']:g} rows in the middle one{without}."
    cutoffs, spread = [float(k) for k in ranking["cutoffs"]], ranking["histogram"]
    series = {
        name: (cutoffs, [_known(v) for v in ranking[key]]) for name, key in (("model", "ndcg"), ("chance", "dummy"))
    }
    drawn = [
        charts.curve(series, title="NDCG by rank", x_label="first ranks", y_label="NDCG", dots=True,
                     x_range=(0.0, cutoffs[-1])),
        charts.histogram(spread["edges"], spread["counts"], title="NDCG of the groups", x_label="NDCG over all ranks"),
    ]  # fmt: skip
    captions = [
        "The mean over the groups of their first ranks; chance is the expected value of a random order.",
        "Groups by their own NDCG: those at the left are ordered worst.",
    ]
    return [paragraph(text), grid(*(figure(svg, caption) for svg, caption in zip(drawn, captions, strict=True)))]


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def _grid_of(density: Mapping[str, Any]) -> tuple[list[float], list[float], list[list[float]]]:
    return density["x_edges"], density["y_edges"], density["counts"]


def _tenths(tenths: list[Mapping[str, float]], target: str) -> Html:
    predicted, actual = [t["predicted"] for t in tenths], [t["actual"] for t in tenths]
    ends = (min(predicted + actual), max(predicted + actual))
    title, series = "Mean actual by predicted", {"tenths of the rows": (predicted, actual)}
    x, y = f"mean predicted {target}", f"mean actual {target}"
    return charts.curve(series, title=title, x_label=x, y_label=y, x_range=ends, y_range=ends, diagonal=True, dots=True)


def _classes(evaluation: Evaluation) -> Html:
    keys = ("class", "num_rows", "num_predicted", "precision", "recall", "f1")
    rows = [[of[key] for key in keys] for of in evaluation["classes"]]
    columns = ["class", "rows", "predicted", "precision", "recall", "F1"]
    caption = "A dash: not defined, the class was never predicted or does not occur"
    return table(rows, columns, align="lrrrrr", caption=caption, sortable=True)


def _labels(evaluation: Evaluation) -> list[Html]:
    """Draw the curves of the labels that most rows have, and list all labels."""
    drawn = [
        _curves(evaluation["roc"], "ROC curve", "false positive rate", "true positive rate", diagonal=True),
        _curves(evaluation["precision_recall"], "Precision and recall", "recall", "precision"),
    ]
    captions = ("Of each label. The broken line is guessing.", "Of each label.")
    keys = {
        "label": "label", "num_rows": "rows", "rate": "rate", "mean_probability": "mean probability",
        "log_loss": "log loss", "roc_auc": "ROC AUC", "pr_auc": "PR AUC", "threshold": "threshold",
        "num_predicted": "predicted", "precision": "precision", "recall": "recall", "f1": "F1",
    }  # fmt: skip
    rows = [[of[key] for key in keys] for of in evaluation["labels"]]
    rule = RULES[evaluation["threshold_rule"]]
    caption = f"Each label as a task of its own; thresholds: {rule}. A dash: not defined, no row has it or is said to"
    listed = table(rows, list(keys.values()), align="l" + "r" * (len(keys) - 1), caption=caption, sortable=True)
    return [grid(*(figure(svg, text) for svg, text in zip(drawn, captions, strict=True) if svg)), listed]


def _utility(evaluation: Mapping[str, Any]) -> list[Html]:
    """Draw the mean utility at each threshold, with the chosen one."""
    curve, own = evaluation["utility"], evaluation["metrics"]["utility"]
    known = [(t, v) for t, v in zip(curve["threshold"], curve["value"], strict=True) if v is not None]
    worth = code(curve["sql"])
    if not known:
        return [paragraph("A row has no number: the mean of ", worth, " is not defined.")]
    values = [v for _, v in known]
    drawn = charts.curve(
        {"mean utility": ([t for t, _ in known], values)},
        title="Utility by threshold", x_label="threshold", y_label="mean utility a row",
        upright=("chosen", evaluation["threshold"]), y_range=(min(values), max(values)),
    )  # fmt: skip
    best = curve["best"]
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        ("Mean utility a row", formats.number(own["value"]), interval_or_reason(own)),
        (f"Of the {_floor(evaluation)}", formats.number(own["dummy"])),
        ("No row called", formats.number(curve["none"])),
        ("Every row called", formats.number(curve["all"])),
    ]
    text = (
        f"On these rows the mean is greatest, {formats.number(best['value'])}, at a threshold of "
        f"{formats.number(best['threshold'])}; one that is chosen on them looks better than it is."
    )
    return [paragraph("The mean over the test rows of ", worth, "."), facts(tiles), figure(drawn, text)]


def _slices_note(slices: Mapping[str, Any]) -> str:
    left_out = f"; {slices['num_too_small']} with fewer than {slices['min_rows']} rows were left out"
    small = left_out if slices["num_too_small"] else ""
    level = formats.percent(slices["confidence"], 0)
    return (
        f"{slices['num_slices']} slices were looked at{small}. Among many, some look bad by chance: a slice is marked "
        f"only if it is worse than the middle one of the column's other slices at {level} confidence after "
        "Bonferroni's correction. The intervals drawn are not corrected."
    )


def _slices(evaluation: Evaluation) -> list[Html]:
    slices, metric = evaluation["slices"], evaluation["metrics"][evaluation["metric"]]
    if not slices["rows"]:
        return [paragraph("No slice has enough rows.")]
    pairs = _pairs(slices["pairs"], metric["title"], slices["confidence"]) if slices.get("pairs") else []
    dots = []
    for row in [row for row in slices["rows"] if row["value"] is not None][:MOST_SLICES]:
        name, text = f"{row['column']}: {row['slice']}", f"{formats.number(row['value'])} ({row['num_rows']:,})"
        values = (row["value"], row["low"], row["high"])
        dots.append(charts.Interval(name, *values, "bad" if row["worse"] else "plain", text))
    title = f"{metric['title']} of the worst slices"
    drawn = charts.intervals(dots, title=title, reference=slices["overall"], reference_label="all rows")
    return [figure(drawn, _slices_caption(evaluation)), _slices_table(evaluation, metric["title"]), *pairs]


def _pairs(pairs: Mapping[str, Any], title: str, confidence: float) -> list[Html]:
    """List the pairs of values that were found, or say that none was."""
    looked = f"{pairs['num_tested']:,} pairs of values of {formats.count(pairs['num_columns'], 'column')}"
    level = formats.percent(1 - confidence, 0)
    rule = (
        f"Searched were {looked} for rows with a greater {pairs['loss']} than the others of either value; a pair is "
        f"listed if that holds at a false discovery rate of {level} over all of them (Benjamini & Yekutieli 2001)."
    )
    if not pairs["rows"]:
        return [heading("Pairs of columns"), paragraph(f"No pair was found. {rule}")]
    rows = [
        [r["column"], r["slice"], r["num_rows"], r["value"], formats.interval(r["low"], r["high"]), r["mean_loss"],
         *r["others"], r["p_value"]]
        for r in pairs["rows"]
    ]  # fmt: skip
    loss = f"mean {pairs['loss']}"
    columns = ["columns", "values", "rows", title, "interval", loss, "rest of the first", "rest of the second", "p"]
    listed = table(rows, columns, align="ll" + "r" * 7, caption="The surest first; p is adjusted", sortable=True)
    return [heading("Pairs of columns"), paragraph(rule), listed]


def _slices_caption(evaluation: Evaluation) -> str:
    marked = sum(row["worse"] for row in evaluation["slices"]["rows"])
    caption = f"{marked} marked as worse, in the other colour." if marked else "None is marked as worse."
    if evaluation["metric"] in METRICS and METRICS[evaluation["metric"]].needs == "score":
        caption += " Within a slice, differences between slices do not help to rank rows: lower values are usual."
    return f"{caption} In brackets: rows."


def _slices_table(evaluation: Evaluation, title: str) -> Html:
    slices, task = evaluation["slices"], evaluation["task"]
    of_numbers = f"mean {task['target']}"
    means = {"binary": "rate of the positive class", "regression": of_numbers, "ranking": of_numbers}
    mean = means.get(task["kind"])
    columns = ["column", "slice", "rows", "share", *([mean] if mean else []), title, "interval", "others", ""]
    rows = [
        [r["column"], r["slice"], r["num_rows"], formats.percent(r["fraction"]), *([r["mean_target"]] if mean else []),
         r["value"],
         formats.interval(r["low"], r["high"]), r["peers"], badge("bad", "worse") if r["worse"] else ""]
        for r in slices["rows"]
    ]  # fmt: skip
    align = "llrr" + ("r" if mean else "") + "rrrl"
    caption = "Worst first; others: the middle one of the column's other slices"
    return details(f"All {len(rows)} slices", table(rows, columns, align=align, caption=caption, sortable=True))


def _about(evaluation: Evaluation) -> list[Html]:
    resampling = evaluation["resampling"]
    rows = [
        ["bundle", code(evaluation["bundle"])],
        ["split", code(evaluation["split"])],
        ["intervals", f"{how_resampled(resampling)}; seed {resampling['seed']}"],
        ["columns without slices", ", ".join(evaluation["slices"]["columns_left_out"]) or "none"],
    ]
    unseen, rare = evaluation["unseen"], evaluation["rare"]
    columns = sorted({*unseen, *rare}, key=lambda name: (-unseen.get(name, 0), -rare.get(name, 0), name))
    strange = [[name, unseen.get(name, 0), rare.get(name, 0)] for name in columns]
    blocks = [table(rows, ["", ""], align="lw")]
    if strange:
        caption = "Values in the test rows that training never saw, or too seldom to keep them apart"
        header = ["column", "never", "too seldom"]
        blocks.append(table(strange, header, caption=caption, sortable=len(strange) > 3))
    return blocks
