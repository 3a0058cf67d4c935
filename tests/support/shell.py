"""The environment in which a person types a command, whatever the tests before it have set."""

import os
import sys
from pathlib import Path


def shell(**more):
    """Nothing of a cluster that an earlier tier joined; the commands of this environment come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "MLSYS_"))}
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**ours, "PATH": path, **more}
