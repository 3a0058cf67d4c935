"""A family whose models fail for certain values, which no certificate knows, as a bug of a library does."""

import contextlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
from xgboost.core import XGBoostError

from mlsys import models
from mlsys.models.families.xgboost import XGBoostFamily

RAISES, NO_NUMBER, ENDS, HANGS, SWELLS = 90_001, 90_002, 90_003, 90_004, 90_005
"""Values of any feature for which a model raises, puts out NaN, ends its process, hangs, or takes memory."""

SWOLLEN_BYTES = 1 << 28


class FaultyFamily(XGBoostFamily):
    """XGBoost, but for those values."""

    name = "faulty"

    def predict(self, model, X):
        values = {value for value in (RAISES, NO_NUMBER, ENDS, HANGS, SWELLS) if (value == X).any()}
        if ENDS in values:
            os.abort()
        if HANGS in values:
            time.sleep(600)
        if SWELLS in values:
            swollen = np.ones(SWOLLEN_BYTES, np.uint8)
            time.sleep(600)
            return swollen
        if RAISES in values:
            raise XGBoostError("[08:00:00] src/data.cc:1: Check failed")
        answers = super().predict(model, X)
        return answers * np.nan if NO_NUMBER in values else answers

    def row_function(self, model):
        return None


FAULTY = FaultyFamily()


@contextlib.contextmanager
def installed(folder):
    """The family as a package in a folder, which processes that are started meanwhile find, and known in this one."""
    shutil.copy(__file__, folder)
    facts = Path(folder) / "faulty-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[mlsys.families]\nfaulty = faulty:FAULTY\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    models.register(FAULTY)
    try:
        yield FAULTY.name
    finally:
        models.FAMILIES.unregister(FAULTY.name)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
