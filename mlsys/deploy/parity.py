"""The parity certificate of a version: the same rows give the same numbers on every path, and at which cost.

==========  =======================================================================================
path        the way of the rows
==========  =======================================================================================
training    typed columns → feature program → matrix → the family's prediction, as training scores
batch       a Parquet file → readers, conversion, checks → tables, as ``mlsys predict``
http        JSON → the endpoint's ASGI app: single rows, small requests, and a large one
==========  =======================================================================================

The rows (`mlsys.deploy.parity_rows`), half of them validation rows, have nulls, categories that training never saw, and
extremes. Numbers may differ by `MAX_ULPS` units in the last place, and decisions not at all. The certificate lies
beside the version, in ``registry/certificates/<digest>.json``, and holds for its digest and the versions of the
libraries that compute; it is made again when one of them is another. A version that has none that says "equal" gets no
traffic.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.metadata
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import mlsys
from mlsys import errors, models
from mlsys.bundle import Bundle
from mlsys.deploy import asgi, fast_json, parity_rows
from mlsys.deploy.batch_job import BatchJob, NumberedFragment
from mlsys.deploy.batch_runs import BatchRun
from mlsys.deploy.batch_staging import StagedFolder
from mlsys.deploy.batch_worker import BatchPredictor
from mlsys.deploy.dispatch import Dispatch
from mlsys.deploy.service import LoadedModel, Service
from mlsys.predict import Predictions, decide, probability_of
from mlsys.readers import registry as readers
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.schema import Task
from mlsys.statistics.arrays import numbers_of
from mlsys.store import Store, read_json, write_json

ROWS = 1_000
"""Rows of a certificate."""

MAX_ULPS = 1
"""Units in the last place by which two paths may differ."""

SINGLE, SMALL = 100, 16
"""Rows that are sent one by one, whose time is taken; and rows of a small request, of which the next hundred go."""

NUM_BINS, PROBABILITY_BINS = 32, 20
"""Bins in which a canary counts scores: of numbers, and of probabilities."""

LIBRARIES = (
    "numpy", "pyarrow", "polars", "scipy", "scikit-learn", "xgboost", "lightgbm", "catboost", "torch", "msgspec",
)  # fmt: skip
"""Libraries that compute predictions, or read the numbers that they are computed from."""


@dataclass(frozen=True)
class PathResult:
    """Scores of the rows on one path, float64 of shape (rows, outputs), and what was decided."""

    scores: NDArray[np.float64]
    decisions: Sequence[Any]


@dataclass(frozen=True)
class Certificate:
    """The findings about a version.

    Attributes
    ----------
    ulps, differences, decisions
        Path → units in the last place, largest absolute difference, and decisions that differ from training's.
    latency_ms
        Quantiles of single rows through the app, without a network.
    memory_mb
        The largest memory of the process that made it.
    edges
        Edges of the bins in which a canary counts scores, as `score_edges`.
    num_real
        Rows with values of validation rows.
    """

    digest: str
    num_rows: int
    ulps: Mapping[str, int]
    differences: Mapping[str, float]
    decisions: Mapping[str, int]
    latency_ms: Mapping[str, float]
    memory_mb: float
    libraries: Mapping[str, str]
    edges: tuple[float, ...] = ()
    num_real: int = 0
    at: str = field(default="", compare=False)

    @property
    def is_equal(self) -> bool:
        return max(self.ulps.values(), default=0) <= MAX_ULPS and not any(self.decisions.values())

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "edges": list(self.edges), "equal": self.is_equal}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Certificate:
        fields = {name: item for name, item in value.items() if name != "equal"}
        return cls(**{**fields, "edges": tuple(fields["edges"])})


def file_of(store: Store, digest: str) -> Path:
    """The file of the certificate of a bundle."""
    return store.root / "registry" / "certificates" / f"{digest}.json"


def known(store: Store, digest: str, num_rows: int = ROWS) -> Certificate | None:
    """The certificate of a bundle that holds here and now: by these libraries, of as many rows; None without one."""
    file = file_of(store, digest)
    try:
        certificate = Certificate.from_json(read_json(file)) if file.is_file() else None
    except (errors.StoreError, TypeError, KeyError):  # damaged, or of another version of mlsys: it is made again
        return None
    holds = certificate is not None and certificate.libraries == libraries() and certificate.num_rows >= num_rows
    return certificate if holds else None


def certify(store: Store, model: LoadedModel, num_rows: int = ROWS) -> Certificate:
    """Return the certificate of a loaded version, after making it if none holds.

    Raises
    ------
    ParityError
        Two paths give other numbers for the same rows; the certificate that says so is kept beside the version.
    """
    digest = model.entry.digest
    certificate = known(store, digest, num_rows)
    if certificate is None:
        certificate = make(store, model, num_rows)
        write_json(file_of(store, digest), certificate.to_json())
    check(certificate, model.entry)
    return certificate


def make(store: Store, model: LoadedModel, num_rows: int = ROWS) -> Certificate:
    """Run rows through all paths and compare."""
    opened = model.predictor.bundle
    real = parity_rows.validation_rows(store, opened, num_rows // 2)
    table = parity_rows.generate(opened, num_rows, real)
    truth = of_training(opened, table)
    http, latencies = of_http(model, table)
    paths = {"batch": of_batch(store, model.entry, opened, table), "http": http}
    quantiles = np.quantile(latencies, [0.5, 0.99]) if latencies else (0.0, 0.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Certificate(
        digest=model.entry.digest,
        num_rows=num_rows,
        num_real=0 if real is None else min(real.num_rows, num_rows // 2),
        ulps={name: ulps(truth.scores, path.scores) for name, path in paths.items()},
        differences={name: largest_difference(truth.scores, path.scores) for name, path in paths.items()},
        decisions={name: _num_unequal(truth.decisions, path.decisions) for name, path in paths.items()},
        latency_ms={"p50": round(float(quantiles[0]), 3), "p99": round(float(quantiles[1]), 3)},
        memory_mb=round(peak, 1),
        libraries=libraries(),
        edges=score_edges(model.predictor.conformed_table(model.predictor.contract.table(table))),
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def check(certificate: Certificate, entry: LedgerEntry) -> None:
    """Refuse a version whose paths give other numbers.

    Raises
    ------
    ParityError
        They do.
    """
    if certificate.is_equal:
        return
    path = max(certificate.ulps, key=lambda name: (certificate.decisions[name], certificate.ulps[name]))
    raise errors.ParityError.build(
        f"deploy: {entry.name} version {entry.version}, path '{path}'",
        got=f"scores up to {certificate.differences[path]:.3g} from those of training, and "
        f"{certificate.decisions[path]:,} other decisions, in {certificate.num_rows:,} rows",
        expected=f"the same numbers on every path, to {MAX_ULPS} unit in the last place",
        hint=f"registry/certificates/{entry.digest[:12]}…: train again with the libraries of this place",
    )


def libraries() -> dict[str, str]:
    """Versions of everything that computes: Python, the machine's kind, this package and the libraries."""
    versions = {"python": platform.python_version(), "machine": platform.machine(), "mlsys": mlsys.__version__}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def of_training(opened: Bundle, table: pa.Table) -> PathResult:
    """Scores as training computes them: columns → matrix → the family's prediction."""
    raw = models.predict(opened.family, opened.model(), opened.program.transform(table))
    if opened.task.exposure is not None:
        raw = raw * numbers_of(table[opened.task.exposure])
    return _result(decide(opened.task, raw, opened.threshold))


def _result(predictions: Predictions) -> PathResult:
    of = predictions.probabilities
    scores = predictions.prediction[:, None] if of is None else of
    decisions = [] if of is None else _decisions(predictions.task, predictions.prediction.tolist())
    return PathResult(np.asarray(scores, np.float64), decisions)


def _decisions(task: Task, decisions: Sequence[Any]) -> Sequence[Any]:
    """Decisions as an answer has them: of several labels the list of those that a row has."""
    return [json.loads(text) for text in decisions] if task.labels else decisions


def of_batch(store: Store, entry: LedgerEntry, opened: Bundle, table: pa.Table) -> PathResult:
    """Scores as ``mlsys predict`` writes them for a Parquet file of the rows."""
    reading = opened.read_options.reading.model_copy(update={"format": "auto"})
    options = opened.read_options.model_copy(update={"reading": reading})
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.parquet"
        pq.write_table(table, source)
        (fragment,) = readers.find(str(source), reading)
        run = BatchRun("parity", "parity", "parity", ("parity",), dt.datetime.now(dt.UTC))
        job = BatchJob(store.root, StagedFolder(folder), entry, (), options, run)
        finished = BatchPredictor(job).predict_fragment(NumberedFragment(0, fragment, "parity"))
        predicted = pq.read_table(Path(folder) / finished.files[0])
    if finished.counts.num_rejected:
        reason = f"{finished.counts.num_rejected:,} rows rejected: {finished.counts.first_reasons}"
        where = f"deploy: {entry.name} version {entry.version}, path 'batch'"
        raise errors.ParityError.build(where, got=reason, expected="the rows that the endpoint takes")
    if not opened.task.is_classification:
        return PathResult(predicted["prediction"].to_numpy()[:, None], [])
    names = [probability_of(name) for name in opened.task.output_names]
    scores = np.column_stack([predicted[name].to_numpy() for name in names])
    return PathResult(scores, _decisions(opened.task, predicted["prediction"].to_pylist()))


def of_http(model: LoadedModel, table: pa.Table) -> tuple[PathResult, list[float]]:
    """Scores that the endpoint's app answers, and milliseconds of each single row."""
    service = Service(model.entry.name, None)
    service.model = model
    limits = LimitsSection(rows=max(1, table.num_rows), body_bytes=1 << 30, columns=100_000, pixels=1 << 40)
    app, rows = asgi.app(asgi.RequestHandler(service, limits)), parity_rows.as_json(table)
    answers, latencies = asyncio.run(_answered(app, rows))
    scores: list[Any] = []
    decisions: list[Any] = []
    for answer in answers:
        predictions = answer["predictions"]
        has_classes = "probabilities" in answer
        scores += answer["probabilities"] if has_classes else [[value] for value in predictions]
        decisions += predictions if has_classes else []
    return PathResult(np.array(scores, np.float64), decisions), latencies


async def _answered(app: Dispatch, rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[float]]:
    """Answers to the rows: some one by one, some in small requests, the others in one; times of the first."""
    spans = [(at, at + 1) for at in range(min(SINGLE, len(rows)))]
    spans += [(at, min(at + SMALL, 2 * SINGLE, len(rows))) for at in range(SINGLE, min(2 * SINGLE, len(rows)), SMALL)]
    spans += [(2 * SINGLE, len(rows))] if len(rows) > 2 * SINGLE else []
    answers, latencies = [], []
    for start, stop in spans:
        body = fast_json.encode({"dataframe_records": rows[start:stop]})
        began = time.perf_counter()
        answers.append(await _post(app, body or b""))
        if stop - start == 1:
            latencies.append((time.perf_counter() - began) * 1e3)
    return answers, latencies


async def _post(app: Dispatch, body: bytes) -> dict[str, Any]:
    """The answer of the app to a body, by its ASGI interface."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "root_path": "", "headers": headers}
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != 200:
        got = f"status {sent[0]['status']}: {answer[:300].decode(errors='replace')}"
        raise errors.ParityError.build("deploy: path 'http'", got=got, expected="an answer to rows that training takes")
    return dict(fast_json.decode(answer) or {})


def ulps(first: NDArray[np.float64], second: NDArray[np.float64]) -> int:
    """Largest distance of two arrays in units in the last place; NaN is equal to NaN alone.

    >>> ulps(np.array([1.0, np.nan]), np.array([np.nextafter(1.0, 2), np.nan]))
    1
    >>> ulps(np.array([0.0]), np.array([-0.0]))
    0
    """
    if first.shape != second.shape:
        return 1 << 62
    a, b = _ordered(first), _ordered(second)
    distance = (np.maximum(a, b) - np.minimum(a, b)).view(np.uint64)
    return int(distance.max(initial=0))


def _ordered(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integers in the order of the doubles, a step for each next one; both zeros are 0, all NaN one number."""
    bits = np.where(np.isnan(values), np.nan, np.ascontiguousarray(values, np.float64)).view(np.int64)
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def largest_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Largest absolute difference; infinite where the shapes or the places of NaN are others."""
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.nan_to_num(np.abs(first - second), nan=0.0).max(initial=0.0))


def _num_unequal(first: Sequence[Any], second: Sequence[Any]) -> int:
    return max(len(first), len(second)) if len(first) != len(second) else sum(map(_is_other, first, second))


def _is_other(first: Any, second: Any) -> bool:
    return bool(first != second)


def score_edges(predictions: Predictions) -> tuple[float, ...]:
    """Edges between bins of scores: equal steps of probabilities, else different quantiles of the finite scores.

    A sure model is as good when it is a little surer, which quantiles would take for another distribution.
    """
    if predictions.probabilities is not None:
        return tuple(step / PROBABILITY_BINS for step in range(1, PROBABILITY_BINS))
    scores = predictions.score[np.isfinite(predictions.score)]
    if not len(scores):
        return ()
    inner = np.quantile(scores, np.linspace(0, 1, NUM_BINS + 1)[1:-1], method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(inner))
