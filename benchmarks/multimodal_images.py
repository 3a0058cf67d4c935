"""Sets of pictures for `multimodal`, and the peer that a person would write.

The peer is what scikit-learn's own examples do with faces and digits: pixels from 0 to 1,
their 100 leading principal components, a support vector machine with an RBF kernel.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

__all__ = ["PEER", "components", "digits", "drawn", "pixels"]

PEER = "PCA + SVM"
COMPONENTS, PENALTY = 100, 10.0

Levels = npt.NDArray[np.uint8]


def digits(_: Path) -> pa.Table:
    """The digits that come with scikit-learn, 8 × 8 pixels of 17 levels, as PNG."""
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    return _table(np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels)


def pixels(folder: Path) -> pa.Table:
    """MNIST as it is: a table of 784 columns."""
    table = pq.read_table(folder / "mnist.parquet")
    return table.set_column(table.schema.get_field_index("label"), "label", table["label"].cast(pa.int64()))


def drawn(folder: Path) -> pa.Table:
    """The same rows as PNG."""
    table = pixels(folder)
    return _table(_levels(table).reshape(-1, 28, 28), table["label"].to_numpy())


def components(known: pa.Table, test: pa.Table) -> np.ndarray:
    """Labels of the test rows as the peer says them."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    known_X, test_X = _levels(known) / 255, _levels(test) / 255
    leading = PCA(min(COMPONENTS, known_X.shape[1]), random_state=0)
    model = make_pipeline(leading, SVC(C=PENALTY)).fit(known_X, known["label"].to_numpy())
    return np.asarray(model.predict(test_X))


def _table(levels: Levels, labels: npt.NDArray[np.int64]) -> pa.Table:
    return pa.table({"png": [_png(one) for one in levels], "label": labels})


def _png(levels: Levels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG")
    return stream.getvalue()


def _levels(table: pa.Table) -> Levels:
    """``(rows, pixels)`` of a column of PNG, or of the columns that are pixels themselves."""
    if "png" in table.column_names:
        pictures = (Image.open(io.BytesIO(data)) for data in table["png"].to_pylist())
        return np.stack([np.asarray(picture).ravel() for picture in pictures])
    names = [name for name in table.column_names if re.fullmatch(r"p\d+", name)]
    return np.asarray(table.select(names).to_pandas(), np.uint8)
