"""Your own CSV: draft a recipe, run it, and predict rows; everything in this process, without a cluster.

python jobs/examples/own_csv.py [FOLDER]
"""

import sys
from pathlib import Path

import pandas as pd
import yaml
from sklearn.datasets import load_wine

import mlsys

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "own_csv")
folder.mkdir(parents=True, exist_ok=True)

# A table as you may have one: 178 wines, 13 measurements, the cultivar as target.
wines = load_wine(as_frame=True).frame.rename(columns={"target": "cultivar"})
wines.to_csv(folder / "wines.csv", index=False)

# The recipe that `mlsys init` would write. It runs as it is; here one line is added.
recipe = yaml.safe_load(mlsys.init(str(folder / "wines.csv"), "cultivar"))
recipe["evaluate"] = {"gate": {"accuracy": {"min": 0.8}}}

done = mlsys.run(recipe, until="evaluate", set={"tune.trials": 0}, store=folder / "store", cluster=False)
print(f"\n{done.family}: accuracy {done.metrics['accuracy']:.3f}, interval {done.intervals['accuracy']}")
print(f"report: {done.reports['evaluate']}")

new = pd.read_csv(folder / "wines.csv").drop(columns="cultivar").sample(3, random_state=0)
print(done.predictor().predict(new))
