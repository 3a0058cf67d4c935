"""A ranking by the commands: a recipe through all steps, scores over HTTP and of files, and labels that give NDCG."""

import json
import urllib.request

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import ndcg_score

from mlsys.store import read_json

RECIPE = {
    "name": "results",
    "target": "relevance",
    "task": "ranking",
    "data": {"source": "results.csv", "group": "query", "id": "result"},
    "split": {"folds": 2},
    "selection": {"families": ["linear", "lightgbm"]},
    "tune": {"trials": 1},
    "evaluate": {"bootstrap": 50},
    "deploy": {"port": 0},
    "monitor": {"min_rows": 50, "granularity": "1 month"},
}


def results(num_queries, seed, prefix="q"):
    """Results of queries, graded 0 to 3, in the order of their grades as many files have them."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 15, num_queries)
    query = np.repeat(np.arange(num_queries), sizes)
    match, age = rng.normal(size=len(query)), rng.uniform(0, 10, len(query))
    signal = match - 0.3 * np.abs(age - 4) + np.repeat(rng.normal(size=num_queries), sizes)
    frame = pd.DataFrame({"result": [f"{prefix}{seed}-{i}" for i in range(len(query))], "query": query})
    frame["query"] = prefix + frame["query"].astype(str)
    frame["match"], frame["age"] = match, age
    frame["relevance"] = np.digitize(signal + 0.5 * rng.normal(size=len(query)), [-0.5, 0.5, 1.5])
    return frame.sort_values(["query", "relevance"], ascending=[True, False])


def mean_ndcg(frame, scores):
    """NDCG@10 by scikit-learn, over the queries with a grade above 0."""
    of_queries = [
        ndcg_score([2.0 ** own["relevance"] - 1], [scores.loc[own.index]], k=10)
        for _, own in frame.groupby("query")
        if own["relevance"].any()
    ]
    return np.mean(of_queries)


def test_a_ranking_runs_to_its_endpoint_and_its_labels(command, store_root, tmp_path):
    results(250, 0).to_csv(tmp_path / "results.csv", index=False)
    values = RECIPE | {"data": RECIPE["data"] | {"source": str(tmp_path / "results.csv")}}
    (tmp_path / "results.yaml").write_text(yaml.safe_dump(values))
    done = command("mlsys", "run", tmp_path / "results.yaml")
    assert "Traceback" not in done.stderr
    assert "ranking within 250 groups of 'query'" in done.stdout
    made = read_json(store_root / "runs" / "results" / "result.json")
    assert made["collect"]["task"] == {"kind": "ranking", "target": "relevance", "classes": [], "group": "query"}
    evaluated = made["evaluate"]
    assert evaluated["metric"] == "ndcg@10"
    assert evaluated["passed"]
    assert set(evaluated["metrics"]) == {"ndcg@10", "ndcg", "mrr"}
    for name in ("evaluate", "selection", "tune"):
        page = (store_root / "runs" / "results" / "reports" / f"{name}.html").read_text()
        assert "ndcg" in page.lower(), name

    # New queries over HTTP, with their groups: the same scores as of a file
    new = results(60, 1, "n")
    url = made["deploy"]["endpoint"]["url"]
    features = new.drop(columns="relevance")
    body = json.dumps({"dataframe_records": features.to_dict("records")}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        scores = pd.Series(json.load(answer)["predictions"], index=new.index, dtype=float)
    features.to_csv(tmp_path / "new.csv", index=False)
    command("mlsys", "predict", "results", tmp_path / "new.csv", tmp_path / "scored", "--key", "result")
    of_file = pd.read_parquet(tmp_path / "scored").set_index("result")["prediction"]
    np.testing.assert_array_equal(of_file.loc[new["result"]], scores)

    # Labels of all rows but one: its group is left out, the others are measured
    labels = new[["result", "relevance"]]
    first = new.loc[new["result"] != new.iloc[0]["result"]]
    labels[labels["result"] != new.iloc[0]["result"]].to_csv(tmp_path / "labels.csv", index=False)
    asked = ("mlsys", "monitor", "results", "--labels", tmp_path / "labels.csv", "--json")
    judged = json.loads(command(*asked, "--set", "monitor.min_label_coverage=0.9").stdout)
    (window,) = judged["windows"] if "windows" in judged else windows(store_root, judged)
    whole = first[first["query"] != new.iloc[0]["query"]]
    assert window["metrics"]["ndcg@10"]["value"] == pytest.approx(mean_ndcg(whole, scores), rel=1e-9)
    assert any("labels are left out" in reason for reason in window["reasons"])


def windows(store_root, judged):
    (folder,) = {path.parent for path in (store_root / "objects" / "monitor").glob("*/data/judgement.json")}
    return read_json(folder / "judgement.json")["windows"]
