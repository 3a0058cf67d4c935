"""Texts and pictures as features by default, beside what a person would write: accuracy on the same test rows.

Claim: the recipe that says no more than where the rows are and what is to be predicted is
not more than a point of accuracy below scikit-learn. Ours goes through all steps up to
`train`: it finds out that a column is prose or pictures, makes features of it, chooses a
family on folds of the training rows, tunes and fits it. The peer is fitted on the training
and the validation rows.

``docstrings`` (the first paragraphs of the docstrings of three installed packages, of which
the package is to be told) and ``digits`` (which come with scikit-learn) need no data.
``--data`` names a folder with the other sets, each a folder of Parquet files: ``sms_spam``
(``sms.parquet``: label, text), ``banking77`` (``train.parquet``, ``test.parquet``: text,
category; its official split), ``mnist_5k`` (``mnist.parquet``: p0 … p783, label; once more
drawn as PNG) and ``fashion_mnist_12k`` (``train.parquet``, ``test.parquet``: png, label; its
official split).
"""

from __future__ import annotations

import ast
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import mlsys
import multimodal_images as images
from measured import options
from mlsys import bundle, cluster
from mlsys.cli.endings import exit_codes
from mlsys.dataset import Split
from mlsys.predict import Predictor
from mlsys.store import Store, read_json

CLAIM = "accuracy of the default recipe on test rows, beside scikit-learn as a person would write it"
PART = "part"
VALIDATION = 0.1
"""Fraction of an official training part that is set aside, for ours to stop and tune on."""

Peer = Callable[[pa.Table, pa.Table], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A data set: the table, what the recipe says beside its name and source, and the peer."""

    table: Callable[[Path], pa.Table]
    target: str
    peer: Peer
    peer_name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    is_stored: bool = True
    folder: str | None = None


@dataclass(frozen=True)
class Score:
    """Accuracies on the test rows of a set."""

    rows: int
    family: str
    features: int
    seconds: float
    ours: float
    theirs: float

    @property
    def error(self) -> float:
        """Standard error of our accuracy."""
        return math.sqrt(self.ours * (1 - self.ours) / self.rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, help="folder of the sets; without it, those that need none are run")
    parser.add_argument("--only", choices=CASES, action="append", help="a set; all by default")
    wanted = parser.parse_args()
    names = wanted.only or [name for name in CASES if wanted.data or not CASES[name].is_stored]
    if any(CASES[name].is_stored for name in names) and not wanted.data:
        parser.error("--data: the folder of the sets is needed")
    scores = {name: score(name, CASES[name], wanted.data) for name in names}
    print(f"  {'':<16} {'mlsys':>7} {'peer':>7} {'ratio':>7} {'rows':>7}  family, features, peer")
    for name, found in scores.items():
        print(
            f"  {name:<16} {found.ours:>7.4f} {found.theirs:>7.4f} {found.ours / found.theirs:>7.4f} {found.rows:>7,}"
            f"  {found.family}, {found.features}, {CASES[name].peer_name} ({found.seconds:.0f} s for ours)"
        )
    if wanted.json:
        print(
            json.dumps(
                {
                    "claim": CLAIM,
                    "ratios": {f"{name}: {CASES[name].peer_name}": s.ours / s.theirs for name, s in scores.items()},
                    "spread": max(s.error for s in scores.values()),
                    "rows": sum(s.rows for s in scores.values()),
                    "scores": {name: {"mlsys": s.ours, "peer": s.theirs} for name, s in scores.items()},
                }
            )
        )


def score(name: str, case: Case, data: Path | None) -> Score:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder, "store"))
        try:
            began = time.perf_counter()
            mlsys.run(_recipe(name, case, data, Path(folder)), "train", store=store.root, quiet=True)
            return _compared(name, case, store, time.perf_counter() - began)
        finally:
            cluster.down(store)


def _compared(name: str, case: Case, store: Store, seconds: float) -> Score:
    records = read_json(store.root / "runs" / name / "result.json")
    split, served = Split.open(store, records["collect"]["split"]), bundle.open(store, records["train"]["bundle"])
    test = split.table("test")
    known = pa.concat_tables([split.table("train"), split.table("validation")])
    truth = np.array(test[case.target].to_pylist())
    ours = float((np.array(Predictor(served).table(test).prediction.tolist()) == truth).mean())
    theirs = float((case.peer(known, test) == truth).mean())
    return Score(len(truth), served.family, served.program.width, seconds, ours, theirs)


def _recipe(name: str, case: Case, data: Path | None, folder: Path) -> Path:
    """Table and recipe as files."""
    pq.write_table(case.table(Path(data or "", case.folder or name)), folder / "rows.parquet")
    text = {"name": name, "target": case.target, "data": {"source": str(folder / "rows.parquet")}, **case.recipe}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(text))
    return path


def docstrings(_: Path) -> pa.Table:
    """First paragraphs of five words and more that only one of the packages has; nothing is imported."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for text in _first_paragraphs(package):
            found.setdefault(text, set()).add(package)
    known = {text: packages.pop() for text, packages in found.items() if len(packages) == 1 and len(text.split()) >= 5}
    return pa.table({"text": list(known), "package": list(known.values())})


def _first_paragraphs(package: str) -> Iterator[str]:
    spec = find_spec(package)
    root = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
    for file in sorted(root.rglob("*.py")):
        if "tests" not in file.parts:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the packages' own escape sequences
                tree = ast.parse(file.read_bytes())
            nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            yield from (" ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()) for node in nodes)


def sms_spam(folder: Path) -> pa.Table:
    return pq.read_table(folder / "sms.parquet")


def official(folder: Path) -> pa.Table:
    """Both parts of a set as one table whose column `PART` says which; some training rows are for validation."""
    train, test = (pq.read_table(folder / f"{part}.parquet") for part in ("train", "test"))
    drawn = np.random.default_rng(0).random(train.num_rows) < VALIDATION
    parts = np.where(drawn, "validation", "train").tolist() + ["test"] * test.num_rows
    return pa.concat_tables([train, test]).append_column(PART, pa.array(parts))


def fashion(folder: Path) -> pa.Table:
    """PNG and label; the number of a row is no feature."""
    return official(folder).select(["png", "label", PART])


def words(text: str, target: str) -> Peer:
    """TF-IDF of words and logistic regression, with scikit-learn's defaults."""

    def predict(known: pa.Table, test: pa.Table) -> np.ndarray:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1_000))
        model.fit(known[text].to_pylist(), known[target].to_pylist())
        return np.asarray(model.predict(test[text].to_pylist()))

    return predict


PACKAGES = ("numpy", "polars", "sklearn")
WORDS = "TF-IDF + LogisticRegression"
OFFICIAL = {"split": {"by": "column", "column": PART}}

CASES = {
    "docstrings": Case(docstrings, "package", words("text", "package"), WORDS, is_stored=False),
    "sms_spam": Case(sms_spam, "label", words("text", "label"), WORDS),
    "banking77": Case(official, "category", words("text", "category"), WORDS, OFFICIAL),
    "digits": Case(images.digits, "label", images.components, images.PEER, is_stored=False),
    "mnist_5k": Case(images.pixels, "label", images.components, images.PEER),
    "mnist_5k_png": Case(images.drawn, "label", images.components, images.PEER, folder="mnist_5k"),
    "fashion_mnist_12k": Case(fashion, "label", images.components, images.PEER, OFFICIAL),
}


if __name__ == "__main__":
    with exit_codes():
        main()
    sys.exit(0)
