"""The parts of a script in their order: rows, features, target, fits, what predictions go through, and the check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsys import errors, models
from mlsys.bundle import Bundle
from mlsys.features.training import TrainingProgram
from mlsys.models.calibration import Calibrated, Temperature
from mlsys.models.families.ensemble import Ensemble, EnsembleParams
from mlsys.models.target_transform import Transformed
from mlsys.schema import TaskKind
from mlsys.script import features, fits
from mlsys.script import source_lines as text
from mlsys.script.fits import Fitted

TOLERANCE = 1e-9
"""Difference of a prediction, as a part of its size or of 1, up to which it counts as the same."""

METRICS = {
    "roc_auc": ("roc_auc_score", "y, p[:, 1], sample_weight=weight"),
    "log_loss": ("log_loss", "y, p, sample_weight=weight, labels=range(len(CLASSES))"),
    "rmse": ("root_mean_squared_error", "y, p, sample_weight=weight"),
    "mae": ("mean_absolute_error", "y, p, sample_weight=weight"),
    "r2": ("r2_score", "y, p, sample_weight=weight"),
}
"""Metrics that scikit-learn computes: function and arguments; others are computed by mlsys."""


@dataclass(frozen=True)
class Facts:
    """All that a script is written from.

    Attributes
    ----------
    training
        The features of the rows that are fitted on; its program is that of the bundle.
    joins_first
        The parts are joined before rows are weighted, sampled and fitted; else each is prepared by itself.
    num_rows, max_rows
        Rows that the fit had, and rows of a sample of them that it took, if it did.
    threads
        Threads of the fit.
    predictions
        What the stored model predicts for the test rows: values, or probabilities.
    """

    title: str
    store: Path
    bundle: Bundle
    split: str
    training: TrainingProgram
    parts: tuple[str, ...]
    joins_first: bool
    num_rows: dict[str, int]
    max_rows: int | None
    threads: int
    predictions: np.ndarray


@dataclass(frozen=True)
class Script:
    """The source of a script, and the values that it reads from the file beside it."""

    source: str
    beside: dict[str, Any]


def check(opened: Bundle) -> None:
    """Refuse a model that a script cannot repeat; nothing of the rows is read for that.

    Raises
    ------
    BundleError
        It ranks or forecasts, its family fits pixels, or it was fitted by workers, on streamed rows or on a GPU.
    """
    reason = _unrepeatable(opened)
    if reason is not None:
        got, expected, hint = reason
        raise errors.BundleError.build(f"code: bundle '{opened.digest[:12]}'", got=got, expected=expected, hint=hint)


def _unrepeatable(opened: Bundle) -> tuple[str, str, str] | None:
    """Name a part of a model that no script repeats, what one does repeat, and a hint; None where it can be written."""
    plan, device = str(opened.provenance.get("plan", "")), opened.provenance.get("device", "cpu")
    again = "mlsys replay NAME, which fits the last run again"
    if opened.task.is_ranking:
        return (
            "a ranking",
            "values or classes of single rows: a script has no groups, in which a ranking is fitted",
            again,
        )
    if opened.task.kind is TaskKind.MULTILABEL:
        return "several labels", "one target: a script has one fit, and several labels are a model for each", again
    if opened.task.forecast is not None:
        usual = "rows without a past: of a forecast trees fit the difference from the naive one, which a script lacks"
        return "a forecast", usual, again
    if models.family(opened.family).encoding == "pixels":
        shown = "features and a fit that a script can show: mlsys reads the pictures and trains on their pixels"
        return f"the family {opened.family}", shown, again
    if plan.startswith("task") and device == "cpu":
        return None
    got = f"a fit on {device}" if plan.startswith("task") else f"a fit with the plan {plan.partition(':')[0]}"
    usual = "one of one task on the CPU: sums of workers, streamed rows or a GPU are not repeated by a script"
    return got, usual, "train.plan: task and train.device: cpu"


def write(facts: Facts) -> Script:
    """Write the script of a model that `check` does not refuse."""
    made = features.written(facts.training)
    written = [fits.written(fitted, f"fit_{number}") for number, fitted in enumerate(_fitted(facts), 1)]
    called = set(made.called).union(*(each.called for each in written))
    preparation, transformed = _preparation(facts, called), _transformed(facts, called)
    checks, metric_imports = _check(facts)
    imported = list(
        dict.fromkeys([*made.imports, *(line for each in written for line in each.imports), *metric_imports])
    )
    parts = [
        _head(facts, called, imported),
        _rows(facts),
        ["", "", *text.functions(called)] if called else [],
        *_features(facts, made),
        ["", "", "# 3. The target, and how rows count.", *preparation],
        *(["", "", *(["# 4. The fits.", "", ""] if n == 0 else []), *each.lines] for n, each in enumerate(written)),
        ["", "", "# 5. The model, and what its predictions go through.", *transformed],
        ["", "", "# 6. The test rows: the predictions of the stored model, and the metric.", *checks],
    ]
    source = "\n".join(line for part in parts for line in part) + "\n"
    beside = {"learned": made.learned, "means": made.means, "predictions": facts.predictions.tolist()}
    return Script(source, beside)


def _head(facts: Facts, called: set[str], imported: Sequence[str]) -> list[str]:
    standard = {"import json", "import sys", "from pathlib import Path"}
    needed = text.modules(called)
    standard |= {"import math"} if "math" in needed else set()
    standard |= {"from typing import Any"} if "Any" in "\n".join(text.functions(called)) else set()
    outer = {
        "import numpy as np",
        "import polars as pl",
        *(["from scipy.special import expit"] if "scipy" in needed else []),
    }
    others = [line for line in imported if not _is_of_mlsys(line)]
    own = [each for line in imported if _is_of_mlsys(line) for each in (["", line] if line[0] == "#" else [line])]
    provenance = facts.bundle.provenance
    versions = ", ".join(f"{name} {version}" for name, version in sorted(provenance["versions"].items()))
    return [
        f'"""{facts.title}',
        "",
        "It fits the model again from the stored rows and compares its predictions of the test rows with those of the",
        f"stored model, bundle {facts.bundle.digest[:12]}. Fitted with {versions}.",
        "",
        "usage: python THIS_FILE [STORE]",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        *sorted(standard, key=lambda line: (line.startswith("from"), line)),
        "",
        *sorted(outer | set(others), key=lambda line: (line.startswith("from"), line)),
        *own,
    ]


def _is_of_mlsys(line: str) -> bool:
    return line.startswith(("#", "from mlsys"))


def _rows(facts: Facts) -> list[str]:
    lines = [
        "",
        "# 1. The rows: the split as it is stored, a folder for each part, and what was learned from them.",
        f"STORE = Path(sys.argv[1] if len(sys.argv) > 1 else {text.inline(str(facts.store))})",
        f'SPLIT = STORE / "objects" / "split" / "{facts.split}"',
        'BESIDE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))',
        'LEARNED, MEANS = BESIDE["learned"], BESIDE["means"]',
    ]
    return [*lines, "", "", *READ.splitlines()]


READ = '''def read(part):
    """All rows of a part."""
    return pl.concat([pl.read_parquet(file) for file in sorted((SPLIT / part).glob("part-*.parquet"))])'''


def _features(facts: Facts, made: features.FeatureLines) -> list[list[str]]:
    names, width = facts.training.program.names, facts.training.program.width
    function = [
        "def features(rows, means):",
        '    """The features of rows, in the order of NAMES."""',
        f"    X = np.empty((rows.height, {width}), np.float32)",
        *made.lines,
        "    return X",
    ]
    head = ["", "", "# 2. The features.", *text.assigned("NAMES", names), "", ""]
    return [head, function, ["", "", *(BY_FOLD if any(made.means.values()) else WITHOUT_FOLDS).splitlines()]]


BY_FOLD = '''def features_to_fit(rows):
    """The features of rows to fit on: the rows of a fold get the means of the target over the other folds."""
    fold = rows["__fold"].to_numpy()
    means = np.array([str(each) if str(each) in MEANS else "" for each in fold])
    X = np.empty((rows.height, len(NAMES)), np.float32)
    for each in np.unique(means):
        X[means == each] = features(rows.filter(pl.Series(means == each)), MEANS[each])
    return X'''

WITHOUT_FOLDS = '''def features_to_fit(rows):
    """The features of rows to fit on."""
    return features(rows, MEANS[""])'''


def _preparation(facts: Facts, called: set[str]) -> list[str]:
    """Lines of the target, of weights, and of the rows to fit on."""
    task, provenance = facts.bundle.task, facts.bundle.provenance
    lines: list[str] = []
    if task.is_classification:
        lines += text.assigned("CLASSES", list(task.classes))
    target = _target_facts(facts)
    if target is not None:
        called |= {"forward", "inverse"}
        lines += text.assigned("TARGET", target)
    balance = provenance.get("balance")
    if balance:
        lines += text.assigned("FACTORS", balance["factors"])
    lines += ["", "", "def target(rows):", '    """The target as a number."""']
    column = text.inline(task.target)
    if task.is_classification:
        lines.append(f"    return np.array([CLASSES.index(value) for value in rows[{column}].to_list()], np.float64)")
    else:
        lines.append(f"    return rows[{column}].cast(pl.Float64).to_numpy()")
    lines += ["", "", "def prepared(rows):", '    """Features, target and weights of rows as they are fitted."""']
    lines += ["    X, y, weight = features_to_fit(rows), target(rows), None"]
    if task.weight is not None:
        lines.append(f"    weight = rows[{text.inline(task.weight)}].cast(pl.Float64).to_numpy()")
    if task.exposure is not None:
        power = 2.0 - ((task.loss.power if task.loss else None) or 0.0)
        lines.append(f"    exposure = rows[{text.inline(task.exposure)}].cast(pl.Float64).to_numpy()")
        own = f"exposure**{power!r}"
        lines.append(f"    weight = {own if task.weight is None else f'weight * {own}'}")
        lines.append("    y = y / exposure")
    if task.beside:
        lines += ["    counts = weight > 0", "    X, y, weight = X[counts], y[counts], weight[counts]"]
    lines += _balanced(facts, balance, called)
    if target is not None:
        lines.append("    y = forward(y, TARGET)")
    return [*lines, "    return X, y, weight"]


def _balanced(facts: Facts, balance: dict[str, Any] | None, called: set[str]) -> list[str]:
    """Lines that let rows count by their class."""
    if not balance:
        return []
    called.add("corrected")
    if balance["kind"] == "weights":
        of_class = "np.array(FACTORS)[y.astype(np.int64)]"
        return [f"    weight = {of_class if facts.bundle.task.weight is None else f'weight * {of_class}'}"]
    called.add("sampled")
    lines = [
        f"    retained = sampled(y, FACTORS, {facts.bundle.provenance['seed']})",
        "    X, y = X[retained], y[retained]",
    ]
    return [*lines, *(["    weight = weight[retained]"] if facts.bundle.task.weight is not None else [])]


def _target_facts(facts: Facts) -> dict[str, Any] | None:
    model = _stored(facts)
    return model.target.model_dump(mode="json") if isinstance(model, Transformed) else None


def _stored(facts: Facts) -> Any:
    return facts.bundle.model()


def _fitted(facts: Facts) -> list[Fitted]:
    """The models that were fitted: one, or the members of a mean."""
    opened, program = facts.bundle, facts.training.program
    own = models.bare(_stored(facts))
    num_rows = facts.max_rows or sum(facts.num_rows[part] for part in facts.parts)
    rows = (opened.task, tuple(program.names), tuple(program.types), facts.training.signs)
    how = (opened.provenance["seed"], facts.threads, num_rows, len(facts.parts) > 1)
    params = models.params_of(opened.family, opened.params)
    if isinstance(params, EnsembleParams) and isinstance(own, Ensemble):
        pairs = zip(params.members, own.members, strict=True)
        return [
            Fitted(member.family, member.fitted, models.rounds(member.family, fitted), *rows, *how)
            for member, fitted in pairs
        ]
    return [Fitted(opened.family, params, models.rounds(opened.family, own), *rows, *how)]


def _transformed(facts: Facts, called: set[str]) -> list[str]:
    """Lines that fit the model and predict with it."""
    model, lines = _stored(facts), list[str]()
    reading = ", ".join(f'read("{part}")' for part in facts.parts)
    if facts.joins_first or len(facts.parts) == 1:
        lines.append(f"rows = pl.concat([{reading}])" if len(facts.parts) > 1 else f"rows = {reading}")
        if facts.max_rows is not None:
            lines.append(f"rng = np.random.default_rng({facts.bundle.provenance['seed']})")
            lines.append(f"rows = rows[np.sort(rng.choice(rows.height, {facts.max_rows}, replace=False))]")
        lines.append("X, y, weight = prepared(rows)")
    else:
        lines += [
            f"parts = [prepared(rows) for rows in ({reading})]",
            "X, y = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])",
            "weight = None if parts[0][2] is None else np.concatenate([part[2] for part in parts])",
        ]
    inner = models.bare(model)
    shares = inner.facts.weights if isinstance(inner, Ensemble) else (1.0,)
    calls = [f"fit_{number}(X, y, weight)" for number in range(1, len(shares) + 1)]
    lines += [f"model_{number} = {call}" for number, call in enumerate(calls, 1)]
    lines += ["", "", "def predict(rows):", '    """Values, or probabilities of the classes, of rows."""']
    lines.append('    X = features(rows, MEANS[""])')
    is_corrected = "balance" in facts.bundle.provenance
    outputs = [f"model_{number}(X)" for number in range(1, len(shares) + 1)]
    outputs = [f"corrected({each}, FACTORS)" if is_corrected else each for each in outputs]
    if len(shares) > 1:
        lines.append(f"    p = {shares[0]!r} * {outputs[0]}")
        lines += [f"    p = p + {share!r} * {each}" for share, each in zip(shares[1:], outputs[1:], strict=True)]
    else:
        lines.append(f"    p = {outputs[0]}")
    if isinstance(model, Transformed):
        lines.append("    p = inverse(p, TARGET)")
    if isinstance(model, Calibrated) and isinstance(model.temperature, Temperature):
        called.add("at_temperature")
        lines.append(f"    p = at_temperature(p, {model.temperature.temperature!r})")
    if facts.bundle.task.exposure is not None:
        lines.append(f"    p = p * rows[{text.inline(facts.bundle.task.exposure)}].cast(pl.Float64).to_numpy()")
    return [*lines, "    return p"]


def _check(facts: Facts) -> tuple[list[str], list[str]]:
    """Lines that compare predictions and print the metric, and what they import."""
    task = facts.bundle.task
    name = facts.bundle.provenance["validation"]["metric"]
    threshold = facts.bundle.threshold
    weight = "None" if task.weight is None else f"test[{text.inline(task.weight)}].cast(pl.Float64).to_numpy()"
    lines = [
        'test = read("test")',
        'p, stored = predict(test), np.array(BESIDE["predictions"])',
        "difference = float((np.abs(p - stored) / np.maximum(1.0, np.abs(stored))).max())",
        'same = "bit by bit" if p.tobytes() == stored.tobytes() else f"within {difference:.1g}"',
        f"if difference > {TOLERANCE!r}:",
        '    raise SystemExit(f"the predictions differ from those of the stored model by {difference:.3g}")',
        'print(f"{len(p):,} test rows are predicted as by the stored model: {same}")',
        f"y, weight = target(test), {weight}",
    ]
    if task.kind is TaskKind.BINARY:
        lines.append(
            f"called = np.array(CLASSES)[(p[:, 1] >= {0.5 if threshold is None else threshold!r}).astype(int)]"
        )
    elif task.is_classification:
        lines.append("called = np.array(CLASSES)[p.argmax(axis=1)]")
    if task.is_classification:
        lines.append('print({str(name): int((called == name).sum()) for name in CLASSES}, "of them called")')
    if name in METRICS:
        function, arguments = METRICS[name]
        return [*lines, f'print(f"{name} {{{function}({arguments}):.6f}}")'], [
            f"from sklearn.metrics import {function}"
        ]
    cut = 0.5 if threshold is None else threshold
    lines += [f"metric = measure({text.inline(name)}, y, p, {cut!r}, weight)", f'print(f"{name} {{metric:.6f}}")']
    return lines, ["# The metric is one that mlsys defines.", "from mlsys.evaluate.metrics import measure"]
