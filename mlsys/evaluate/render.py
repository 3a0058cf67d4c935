"""The report of an evaluation: verdict first, then the numbers, then where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.evaluate import figures
from mlsys.reports import charts, formats
from mlsys.reports.page import Html, Page, alert, badge, code, details, facts, figure, paragraph, table

__all__ = ["page"]

Evaluation = Mapping[str, Any]

HEADLINES = ("roc_auc", "pr_auc", "accuracy", "balanced_accuracy", "f1", "f1_macro", "mcc", "r2")
"""Metrics that are drawn on one scale: 1 is perfect."""

RULES = {"f1": "best F1 on validation", "cost": "least cost on validation", "half": "fixed"}

MOST_SLICES = 14
"""Slices in the drawing; the table has all."""


def page(evaluation: Evaluation) -> str:
    """One self-contained HTML file; `evaluation` is what `score` returned, also after a trip through JSON."""
    mark = badge("good", "gate passed") if evaluation["verdict"]["passed"] else badge("bad", "gate not passed")
    document = Page(f"Evaluation of {evaluation['name']}", _subtitle(evaluation), mark=mark)
    document.section("Verdict", *_verdict(evaluation))
    document.section("Metrics", *_metrics(evaluation), note=_how(evaluation["bootstrap"]))
    if "regression" in evaluation:
        document.section("Predictions", figures.regression(evaluation["regression"], evaluation["task"]["target"]))
    else:
        document.section("Predictions", figures.classification(evaluation))
        document.section("Classes", _classes(evaluation))
    document.section("Slices", *_slices(evaluation), note=_slices_note(evaluation["slices"]))
    document.section("About this evaluation", *_about(evaluation))
    return document.html()


def _subtitle(evaluation: Evaluation) -> str:
    task = evaluation["task"]
    model = f"{evaluation['family']} · bundle {evaluation['bundle'][:12]}"
    return f"{evaluation['num_rows']:,} test rows · {task['kind']} · target {task['target']} · {model}"


def _verdict(evaluation: Evaluation) -> list[Html]:
    metric, dummy = evaluation["metrics"][evaluation["metric"]], evaluation["dummy"]
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        (metric["title"], formats.number(metric["value"]), formats.interval(metric["low"], metric["high"])),
        (
            "Gain over the dummy",
            formats.number(dummy["gain"]["value"]),
            formats.interval(dummy["gain"]["low"], dummy["gain"]["high"]),
        ),
        ("Test rows", evaluation["num_rows"]),
    ]
    if evaluation["threshold"] is not None:
        tiles.append(
            (
                "Decision threshold",
                formats.number(evaluation["threshold"]),
                RULES[evaluation["threshold_rule"]],
            )
        )
    checks = evaluation["verdict"]["checks"]
    rows = [
        [badge("good", "passed") if c["passed"] else badge("bad", "failed"), c["name"], c["bound"], c["reason"]]
        for c in checks
    ]
    return [
        facts(tiles),
        table(rows, ["", "check", "bound", "reason"], align="lllw", caption="What the gate asked"),
        _opened(evaluation),
    ]


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


def _how(bootstrap: Mapping[str, Any]) -> str:
    if not bootstrap["num_resamples"]:
        return "Without intervals: the recipe asks for no resamples."
    level = formats.percent(bootstrap["confidence"], 0)
    return (
        f"Intervals are {level} percentile bootstrap intervals over {bootstrap['num_resamples']} resamples "
        f"of {bootstrap['unit']}: what other test rows of the same kind would give, not what another time would."
    )


def _metrics(evaluation: Evaluation) -> list[Html]:
    found = evaluation["metrics"]
    columns = ["metric", "value", "interval", "dummy", "better"]
    rows = [
        [m["title"], m["value"], formats.interval(m["low"], m["high"]), m["dummy"], _better(name, m)]
        for name, m in found.items()
    ]
    caption = "On the test rows, beside a dummy that says the same for every row"
    meanings = table([[m["title"], m["meaning"]] for m in found.values()], ["metric", "definition"], align="lw")
    blocks = [
        table(rows, columns, align="lrrrl", caption=caption),
        details("How each metric is defined", meanings),
    ]
    dots = [_dot(found[name], accent=name == evaluation["metric"]) for name in HEADLINES if name in found]
    drawn = charts.intervals(dots, title="Model and dummy") if dots else None
    told = "Dots are the model with its interval, rings the dummy; greater is better for all."
    return [figure(drawn, told), *blocks] if drawn else blocks


def _dot(metric: Mapping[str, Any], *, accent: bool) -> charts.Interval:
    return charts.Interval(
        metric["title"],
        metric["value"],
        metric["low"],
        metric["high"],
        mark="accent" if accent else "plain",
        other=metric["dummy"],
    )


def _better(name: str, metric: Mapping[str, Any]) -> str:
    return "higher" if metric["greater_is_better"] else "nearer to 0" if name == "bias" else "lower"


def _classes(evaluation: Evaluation) -> Html:
    rows = [
        [c["class"], c["num_rows"], c["num_predicted"], c["precision"], c["recall"], c["f1"]]
        for c in evaluation["classes"]
    ]
    columns = ["class", "rows", "predicted", "precision", "recall", "F1"]
    return table(
        rows,
        columns,
        align="lrrrrr",
        caption="A dash: not defined, the class was never predicted or does not occur",
        sortable=True,
    )


def _slices_note(found: Mapping[str, Any]) -> str:
    small = (
        f"; {found['num_too_small']} with fewer than {found['min_rows']} rows were left out"
        if found["num_too_small"]
        else ""
    )
    level = formats.percent(found["confidence"], 0)
    return (
        f"{found['num_slices']} slices were looked at{small}. Among many, some look bad by chance: a slice is marked "
        f"only if it is worse than the middle one of the column's other slices at {level} confidence after "
        "Bonferroni's correction. The intervals drawn are not corrected."
    )


def _slices(evaluation: Evaluation) -> list[Html]:
    found, metric = evaluation["slices"], evaluation["metrics"][evaluation["metric"]]
    if not found["rows"]:
        return [paragraph("No slice has enough rows.")]
    known = [row for row in found["rows"] if row["value"] is not None]
    dots = [
        charts.Interval(
            f"{r['column']}: {r['slice']}",
            r["value"],
            r["low"],
            r["high"],
            "bad" if r["worse"] else "plain",
            f"{formats.number(r['value'])} ({r['num_rows']:,})",
        )
        for r in known[:MOST_SLICES]
    ]
    drawn = charts.intervals(
        dots, title=f"{metric['title']} of the worst slices", reference=found["overall"], reference_label="all rows"
    )
    return [figure(drawn, _slices_caption(evaluation)), _slices_table(evaluation, metric["title"])]


def _slices_caption(evaluation: Evaluation) -> str:
    marked = sum(row["worse"] for row in evaluation["slices"]["rows"])
    said = f"{marked} marked as worse, in the other colour." if marked else "None is marked as worse."
    if evaluation["metric"] in ("roc_auc", "pr_auc"):
        said += " Within a slice, differences between slices do not help to rank rows: lower values are usual."
    return f"{said} In brackets: rows."


def _slices_table(evaluation: Evaluation, title: str) -> Html:
    found, task = evaluation["slices"], evaluation["task"]
    mean = {"binary": "rate of the positive class", "regression": f"mean {task['target']}"}.get(task["kind"])
    columns = ["column", "slice", "rows", "share", *([mean] if mean else []), title, "interval", "others", ""]
    rows = [
        [r["column"], r["slice"], r["num_rows"], formats.percent(r["fraction"]), *([r["mean_target"]] if mean else []),
         r["value"],
         formats.interval(r["low"], r["high"]), r["peers"], badge("bad", "worse") if r["worse"] else ""]
        for r in found["rows"]
    ]  # fmt: skip
    align = "llrr" + ("r" if mean else "") + "rrrl"
    return details(
        f"All {len(rows)} slices",
        table(
            rows,
            columns,
            align=align,
            caption="Worst first; others: the middle one of the column's other slices",
            sortable=True,
        ),
    )


def _about(evaluation: Evaluation) -> list[Html]:
    bootstrap = evaluation["bootstrap"]
    rows = [
        ["bundle", code(evaluation["bundle"])],
        ["split", code(evaluation["split"])],
        [
            "resamples",
            f"{_resamples(bootstrap)}; for slices {evaluation['slices']['num_resamples']}",
        ],
        ["columns without slices", ", ".join(evaluation["slices"]["columns_left_out"]) or "none"],
    ]
    unseen, rare = evaluation["unseen"], evaluation["rare"]
    columns = sorted({*unseen, *rare}, key=lambda name: (-unseen.get(name, 0), -rare.get(name, 0), name))
    strange = [[name, unseen.get(name, 0), rare.get(name, 0)] for name in columns]
    blocks = [table(rows, ["", ""], align="lw")]
    if strange:
        blocks.append(
            table(
                strange,
                ["column", "never", "too seldom"],
                caption="Values in the test rows that training never saw, or too seldom to keep them apart",
                sortable=len(strange) > 3,
            )
        )
    return blocks


def _resamples(bootstrap: Mapping[str, Any]) -> str:
    return f"{bootstrap['num_resamples']} of {bootstrap['unit']}, seed {bootstrap['seed']}"
