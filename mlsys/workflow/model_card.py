"""Model cards: what a version predicts, what it was made of, how good it is and for whom, on one page.

The parts are those of Mitchell et al. (2019), Model cards for model reporting, FAT*, 220-229, as far as a run knows
them: details, data, metrics with intervals, slices, fairness, behaviours, caveats. What only people know (what the
model is meant for, and what not) belongs beside it. A card is made of the bundle and of its evaluation; it is stored
when the version is registered and never changes afterwards. Versions from before have one made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import bundle, registry
from mlsys.bundle import Bundle
from mlsys.evaluate.behaviours_report import sentence
from mlsys.evaluate.thresholds import RULES
from mlsys.registry import ledger
from mlsys.reports import formats
from mlsys.store import Store, write_atomic
from mlsys.workflow import watch

MOST_COLUMNS, MOST_SLICES = 12, 8
"""Columns and slices of a card: the most important, and the worst."""


@dataclass(frozen=True)
class ModelCard:
    """The card of a version: JSON values, and the same as Markdown."""

    values: dict[str, Any]

    @property
    def text(self) -> str:
        """The card as Markdown."""
        return "\n".join(_lines(self.values)) + "\n"


def build(opened: Bundle, evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect what is known of a model, as JSON values that depend on the bundle and its evaluation alone."""
    task, provenance = opened.task, opened.provenance
    model = opened.folder / "model"
    read = set(opened.needed)
    values: dict[str, Any] = {
        "model": {
            "bundle": opened.digest,
            "family": opened.family,
            "params": opened.params,
            "bytes": sum(file.stat().st_size for file in model.rglob("*") if file.is_file()),
            "threshold": opened.threshold,
            "threshold_rule": provenance.get("threshold_rule"),
            "versions": provenance.get("versions", {}),
        },
        "task": task.model_dump(mode="json"),
        "data": {
            "split": provenance.get("split"),
            "num_rows": provenance.get("num_rows", {}),
            "fitted_on": provenance.get("fitted_on", []),
            "columns": [
                {"name": each.name, "type": each.type, "kind": each.kind.value, "is_read": each.name in read}
                for each in opened.schema
            ],
        },
    }
    return values if evaluation is None else values | {"evaluation": _evaluated(evaluation)}


def _evaluated(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an evaluation that a card has; those that it lacks are left out."""
    explained, fairness = evaluation.get("explained", {}), evaluation.get("fairness", {})
    estimate = ("value", "low", "high", "dummy", "title")
    judged = {
        "num_rows": evaluation["num_rows"],
        "metric": evaluation["metric"],
        "metrics": {name: {key: each.get(key) for key in estimate} for name, each in evaluation["metrics"].items()},
        "resampling": evaluation["resampling"],
        "verdict": evaluation["verdict"],
        "openings": evaluation["openings"],
        "caveats": list(evaluation.get("suspects", ())),
        "slices": [row for row in evaluation["slices"]["rows"] if row["worse"]][:MOST_SLICES],
        "pairs": (evaluation["slices"].get("pairs") or {}).get("rows", [])[:MOST_SLICES],
        "importance": explained.get("permutation", [])[:MOST_COLUMNS],
        "behaviours": [
            {key: value for key, value in each.items() if key != "examples"}
            for each in evaluation.get("behaviours", ())
        ],
    }
    keys = ("measure", "title", "difference", "low", "high", "between", "least_rows", "reason")
    judged["fairness"] = [
        {"column": column["column"], **{key: measure[key] for key in keys}}
        for column in fairness.get("columns", ())
        for measure in column["measures"]
    ]
    return judged


def of_version(store: Store, target: str) -> ModelCard:
    """The card of ``NAME@WHICH``: the one that was stored with the version, and who registered it when.

    Raises
    ------
    RegistryError, BundleError
        There is no such version, or its bundle is not in the store.
    """
    name, _, which = target.partition("@")
    entry = registry.resolve(store, name, which or "champion")
    move = next(each for each in ledger.read(store) if each.kind == "register" and each.entry == entry)
    stored = move.facts.get("card")
    if stored is not None and store.has("card", str(stored)):
        values: dict[str, Any] = store.get_json("card", str(stored))
    else:
        values = build(bundle.open(store, entry.digest), watch.baseline(store, name, entry.digest))
    registered = {"at": move.at.isoformat(timespec="seconds"), "who": move.who}
    return ModelCard({"name": name, "version": entry.version, "registered": registered, **values})


def card(target: str, output: Path | str | None = None, *, store: Path | str | None = None) -> ModelCard:
    """Say what a version predicts, from what, how well and for whom; the Markdown is written to `output`, if given.

    Raises
    ------
    RegistryError, BundleError
        There is no such version, or its bundle is not in the store.
    """
    made = of_version(Store.open(store), target)
    if output is not None:
        write_atomic(Path(output), made.text.encode())
    return made


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    model, task, data = values["model"], values["task"], values["data"]
    # 1. What it is and what it was made of.
    yield f"# {values['name']}, version {values['version']}"
    yield ""
    classes = task.get("labels") or task.get("classes") or ()
    named = f" ({', '.join(map(str, classes))})" if classes else ""
    registered = f"Registered {values['registered']['at']} by {values['registered']['who'] or 'somebody'}."
    yield f"Predicts `{task['target']}`, a {task['kind']} task{named}. {registered}"
    yield ""
    yield "## Model"
    yield ""
    yield from _table(("", ""), [
        ("family", model["family"]), ("size", f"{model['bytes']:,} bytes"), ("bundle", f"`{model['bundle']}`"),
        ("decision threshold", _threshold(model)),
        ("libraries", ", ".join(f"{name} {version}" for name, version in model["versions"].items())),
    ])  # fmt: skip
    yield "## Data"
    yield ""
    parts = ", ".join(f"{part} {number:,}" for part, number in data["num_rows"].items())
    fitted = f", fitted on {' and '.join(data['fitted_on'])}" if data["fitted_on"] else ""
    yield f"Rows: {parts}{fitted}; split `{data['split']}`."
    yield ""
    unread = [column["name"] for column in data["columns"] if not column["is_read"]]
    rows = [(column["name"], column["type"], column["kind"]) for column in data["columns"] if column["is_read"]]
    yield from _table(("column", "type", "kind"), rows)
    if unread:
        yield f"In a request and not read by the model: {', '.join(unread)}."
        yield ""
    # 2. How good it is.
    if "evaluation" in values:
        yield from _judged(values["evaluation"])
    else:
        yield "## Evaluation"
        yield ""
        yield "None is in the store."


def _threshold(model: Mapping[str, Any]) -> str:
    """The threshold, and by which rule it was chosen, where the bundle says so."""
    rule = model.get("threshold_rule")
    return formats.label(model["threshold"]) + ("" if rule is None else f" ({RULES[rule]})")


def _judged(evaluation: Mapping[str, Any]) -> Iterator[str]:
    verdict, earlier = evaluation["verdict"], formats.count(evaluation["openings"]["earlier"], "time")
    passed = "passed" if verdict["passed"] else "**not passed**"
    yield "## Evaluation"
    yield ""
    yield f"On {evaluation['num_rows']:,} test rows, opened {earlier} before; gate {passed}."
    yield ""
    yield from _table(("metric", "value", "interval", "floor"), [
        (f"**{each['title']}**" if name == evaluation["metric"] else each["title"], formats.number(each["value"]),
         formats.interval(each["low"], each["high"]), formats.number(each["dummy"]))
        for name, each in evaluation["metrics"].items()
    ])  # fmt: skip
    marks = {True: "passed", False: "**failed**"}
    yield from _table(("gate", "", "reason"), [(c["name"], marks[c["passed"]], c["reason"]) for c in verdict["checks"]])
    yield from _section("Columns it goes by", ("column", f"loss in {evaluation['metric']} without it", "interval"), [
        (each["column"], formats.number(each["value"]), formats.interval(each["low"], each["high"]))
        for each in evaluation["importance"]
    ])  # fmt: skip
    yield from _section("Where it is worse", ("rows of", "value", "rows", evaluation["metric"], "interval"), [
        (each["column"], each["slice"], each["num_rows"], formats.number(each["value"]),
         formats.interval(each["low"], each["high"]))
        for each in [*evaluation["slices"], *evaluation["pairs"]]
    ])  # fmt: skip
    yield from _section("Fairness", ("column", "rate", "greatest difference", "interval", "between", "least rows"), [
        (each["column"], each["title"], formats.number(each["difference"]), formats.interval(each["low"], each["high"]),
         " and ".join(each["between"]), each["least_rows"])
        for each in evaluation["fairness"]
    ])  # fmt: skip
    yield from _section("Behaviours", ("name", "sentence", "rows", "break it"), [
        (each["name"], sentence(each), each["num_rows"], each["num_broken"]) for each in evaluation["behaviours"]
    ])  # fmt: skip
    if evaluation["caveats"]:
        yield "## Caveats"
        yield ""
        yield from (f"- The gate does not know: {line}" for line in evaluation["caveats"])


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A section with a table; none where there are no rows."""
    if rows:
        yield f"## {title}"
        yield ""
        yield from _table(columns, rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    yield from ("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)
    yield ""


def _cell(value: object) -> str:
    """A value as a cell of a Markdown table, in one line; bars are escaped.

    >>> _cell(1200), _cell(None), _cell("two lines".replace(" ", chr(10)))
    ('1,200', '–', 'two lines')
    """
    text = formats.number(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    shown = text if text is not None else formats.MISSING if value is None else str(value)
    return " ".join(shown.split()).replace("|", "\\|")
