from mlsys import errors as errors
from mlsys import operate as operate
from mlsys.api import FinishedRun as FinishedRun
from mlsys.api import init as init
from mlsys.api import load as load
from mlsys.api import run as run
from mlsys.predict import Predictor as Predictor
from mlsys.recipe import Recipe as Recipe

__version__: str
__all__ = ["FinishedRun", "Predictor", "Recipe", "__version__", "errors", "init", "load", "operate", "run"]
