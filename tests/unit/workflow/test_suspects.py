"""A guess of ours never stops a run: what is suspected of knowing the answer is told where the verdict is."""

import html

import numpy as np
import pandas as pd

import mlsys

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}


def table(path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1_000)
    paid = np.where(y, 100.0, 0) + rng.normal(size=1_000)
    alive = np.where(y, "yes", "no")
    mail = [f"user{i % 300}@example.org" for i in range(1_000)]
    frame = pd.DataFrame({"x": rng.normal(size=1_000) + y, "paid": paid, "alive": alive, "mail": mail, "y": y})
    frame.to_csv(path, index=False)
    return {"name": "suspects", "target": "y", "data": {"source": str(path)}}


def test_a_run_goes_on_with_a_suspect_without_a_copy_and_says_so_beside_the_verdict(tmp_path, capsys):
    recipe = table(tmp_path / "t.csv")
    done = mlsys.run(recipe, "evaluate", set=QUICK, store=tmp_path / "store", cluster=False)
    assert done.passed
    output = capsys.readouterr().out
    told = "'paid' alone predicts the target with an AUC of 1.000: it may be known only with the answer."
    assert [line.strip().startswith(told) for line in output.splitlines()].count(True) == 1
    assert f"the gate does not know: {told}" in output
    assert "column 'alive' names the classes of the target 'y'" in output
    assert "column 'mail' holds e-mail addresses: 100% of 300 different values: not used as a feature" in output
    verdict = html.unescape(done.reports["evaluate"].read_text())
    assert "The gate does not know" in verdict
    assert told in verdict
    page = done.reports["explore"].read_text()
    assert "data.allow_personal: [mail] uses it" in page
    assert "@example" not in page + output
    assert done.predictor().predict(pd.DataFrame({"x": [0.0], "paid": [0.0]}))["prediction"].tolist() == [0]

    checked = mlsys.run(
        recipe, "evaluate", set={**QUICK, "explore.allow": ["paid"]}, store=tmp_path / "store", cluster=False
    )
    assert checked.bundle == done.bundle
    assert "the gate does not know" not in capsys.readouterr().out
    assert "The gate does not know" not in checked.reports["evaluate"].read_text()
