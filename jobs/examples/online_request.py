"""An online request, from Python and with curl: serve a model, ask it for one row, read an error.

python jobs/examples/online_request.py [FOLDER]
"""

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlsys

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "online_request")
recipe = {
    "name": "wine",
    "target": "target",
    "data": {"source": "sklearn://wine"},
    "selection": {"families": ["linear"]},
    "tune": {"trials": 0},
    "deploy": {"port": 0},  # a free one
}
done = mlsys.run(recipe, until="deploy", store=folder / "store")  # starts a Ray cluster if none is up
row = done.predictor().bundle.example
print(f"\none row: {json.dumps(row)[:90]}…")


def ask(record: dict[str, object]) -> dict[str, object]:
    """Send one row and return the answer, or the reasons why it does not fit."""
    body = json.dumps({"dataframe_records": [record]}).encode()
    request = urllib.request.Request(f"{done.url}/invocations", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


print("Python:", ask(row))
print("a row that does not fit:", ask({**row, "alcohol": "strong"}))

curl = ["curl", "-s", f"{done.url}/invocations", "-H", "Content-Type: application/json"]
curl += ["-d", json.dumps({"dataframe_records": [row]})]
print("curl:", shlex.join(curl)[:90], "…")
print(subprocess.run(curl, capture_output=True, text=True, check=True).stdout)
print(f"mlsys down --store {folder / 'store'}   stops the endpoint and its cluster")
