"""The booster of `serve_peers.py` behind `mlflow models serve` and behind BentoML, each as its guide says.

`serve_online.py --peer-python PYTHON` starts this file with the Python of an environment that has both. MLflow is given
a model of Python code, which predicts from its frame with pandas; BentoML a service, which predicts by hand with NumPy.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import serve_peers

FOLDER = "MLSYS_PEER_FOLDER"
"""Environment variable that tells a service where the booster lies: BentoML imports this file again."""


def mlflow(folder: Path, port: int) -> list[str]:
    """Save the booster as a model of MLflow; the command that serves it."""
    from mlflow import pyfunc

    class Model(pyfunc.PythonModel):  # type: ignore[name-defined,misc]
        def load_context(self, context: Any) -> None:
            self.predict_records = serve_peers.ByPandas(Path(context.artifacts["booster"]))

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002 - as MLflow calls it
            return self.predict_records(model_input)

    kept = folder / "booster"
    kept.mkdir()
    for name in ("peer.ubj", "peer.json"):
        (kept / name).write_bytes((folder / name).read_bytes())
    path = folder / "mlflow"
    pyfunc.save_model(path, python_model=Model(), artifacts={"booster": str(kept)}, code_paths=[serve_peers.__file__])
    return [
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(path),
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]


def bento(folder: Path, port: int) -> list[str]:
    """The command that serves the service below."""
    os.environ |= {FOLDER: str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return ["-m", "bentoml", "serve", f"{Path(__file__).stem}:Booster", "--host", "127.0.0.1", "--port", str(port)]


if FOLDER in os.environ:
    import bentoml

    @bentoml.service(workers=1)
    class Booster:
        """The service of BentoML."""

        def __init__(self) -> None:
            self.predict = serve_peers.ByHand(Path(os.environ[FOLDER]))

        @bentoml.api(route="/invocations")  # type: ignore[untyped-decorator]
        def invocations(self, dataframe_records: list[dict[str, Any]]) -> dict[str, Any]:
            return self.predict(dataframe_records)


SERVERS = {"mlflow": mlflow, "bentoml": bento}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    wanted = parser.parse_args()
    command = SERVERS[wanted.server](wanted.folder, wanted.port)
    os.chdir(Path(__file__).parent)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
