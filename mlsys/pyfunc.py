"""The MLflow flavour: a bundle in an MLflow model folder, loaded by ``mlflow.pyfunc`` and ``mlflow models serve``.

MLflow reads ``loader_module: mlsys.pyfunc`` in the ``MLmodel`` file that `mlsys.registry.mlflow_model` writes, calls
`_load_pyfunc`, and hands every table to `BundleModel.predict`. No pickle is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys import bundle
from mlsys.predict import Predictor

if TYPE_CHECKING:
    import pandas as pd


class BundleModel:
    """A bundle with the `predict` that MLflow calls.

    Attributes
    ----------
    predictor
        The same predictor that batch prediction and the endpoint use.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the rows of a pandas table: ``prediction``, and ``probability_<class>`` of a classifier.

        Columns that the model does not know are passed over, as MLflow passes over columns outside a signature.

        Raises
        ------
        RequestError
            A column is missing or a value does not fit; `violations` lists each.
        """
        _ = params
        predicted: pd.DataFrame = self.predictor.predict(frame, extra="ignore")
        return predicted


def _load_pyfunc(path: str) -> BundleModel:
    """Load the bundle in `path`; every file is checked against its SHA-256."""
    return BundleModel(Predictor(bundle.open_folder(Path(path))))
