"""A recipe of several labels through all nine steps: its endpoint, its files, labels that come later."""

import json
import urllib.request

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from mlsys.store import read_json

NAMES = ["toxic", "spam"]
FEATURES = ["id", "p", "q", "city"]


def frame(num_rows, seed):
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=(2, num_rows))
    table = pd.DataFrame(
        {"id": np.arange(num_rows) + 10_000 * seed, "p": p, "q": q, "city": rng.choice(["a", "b"], num_rows)}
    )
    table["toxic"] = (p + 0.3 * rng.normal(size=num_rows) > 0).astype(int)
    table["spam"] = np.where(q + 0.3 * rng.normal(size=num_rows) > 1, "yes", "no")
    return table


def posted(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_labels_go_from_the_recipe_to_the_monitor(command, store_root, tmp_path):
    frame(500, 0).to_csv(tmp_path / "rows.csv", index=False)
    recipe = {
        "name": "tags",
        "target": NAMES,
        "data": {"source": str(tmp_path / "rows.csv"), "id": "id"},
        "selection": {"families": ["lightgbm"]},
        "split": {"folds": 2},
        "tune": {"trials": 1},
        "evaluate": {"bootstrap": 40},
        "deploy": {"port": 0},
        "monitor": {"min_rows": 50},
    }
    (tmp_path / "tags.yaml").write_text(yaml.safe_dump(recipe))
    command("mlsys", "run", tmp_path / "tags.yaml")
    result = read_json(store_root / "runs" / "tags" / "result.json")
    assert result["collect"]["task"]["labels"] == NAMES
    metrics = result["evaluate"]["metrics"]
    assert metrics["macro_roc_auc"]["value"] > 0.9
    assert metrics["macro_f1"]["low"] > metrics["macro_f1"]["dummy"]
    # 1. The endpoint answers as its document says.
    later = frame(200, 1)
    url = result["deploy"]["endpoint"]["url"]
    answer = posted(f"{url}/invocations", {"dataframe_records": json.loads(later[FEATURES].to_json(orient="records"))})
    decisions, probabilities = np.array(answer["decisions"]), np.array(answer["probabilities"])
    assert answer["labels"] == NAMES
    assert decisions.shape == probabilities.shape == (200, 2)
    assert answer["predictions"] == [
        [n for n, has in zip(NAMES, row, strict=True) if has] for row in decisions.tolist()
    ]
    assert (decisions[:, 0] == later["toxic"]).mean() > 0.8
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=30) as document:
        stated = json.load(document)["paths"]["/tags/invocations"]["post"]["responses"]["200"]
    assert stated["content"]["application/json"]["schema"]["properties"]["labels"] == {"type": "array", "const": NAMES}
    # 2. A file of predictions has the same probabilities and decisions.
    later[FEATURES].to_csv(tmp_path / "new.csv", index=False)
    command("mlsys", "predict", "tags", tmp_path / "new.csv", tmp_path / "out")
    written = pq.read_table(tmp_path / "out").to_pandas()
    assert written["probability_spam"].tolist() == probabilities[:, 1].tolist()
    assert written["prediction_toxic"].tolist() == decisions[:, 0].tolist()
    # 3. Labels come as columns, and the monitor measures each.
    later[["id", *NAMES]].to_csv(tmp_path / "labels.csv", index=False)
    assert "200 of 200 belong to predictions" in command("mlsys", "labels", "tags", tmp_path / "labels.csv").stdout
    command("mlsys", "monitor", "tags")
    assert "probability_spam" in (store_root / "runs" / "tags" / "reports" / "monitor.html").read_text()
