"""A text set: which library does a docstring come from? A folder of text files, a folder a class.

python jobs/examples/text_set.py [FOLDER]
"""

import importlib
import inspect
import sys
from pathlib import Path

import mlsys

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "text_set")
MODULES = {
    "arrays": ["numpy", "numpy.linalg", "numpy.fft", "numpy.random"],
    "tables": ["pandas", "pyarrow.compute"],
    "science": ["scipy.stats", "scipy.signal", "scipy.special", "scipy.ndimage"],
}
MOST = 150

# The first paragraph of each public function's docstring, one file each: texts/<class>/<name>.txt
for label, modules in MODULES.items():
    texts = {}
    for name in modules:
        module = importlib.import_module(name)
        for function in sorted(dir(module)):
            doc = "" if function.startswith("_") else inspect.getdoc(getattr(module, function)) or ""
            paragraphs = [part for part in doc.split("\n\n") if len(part.split()) > 5 and ">>>" not in part]
            if paragraphs:
                texts[f"{name}.{function}"] = paragraphs[0]
    (folder / "texts" / label).mkdir(parents=True, exist_ok=True)
    for name, text in list(texts.items())[:MOST]:
        (folder / "texts" / label / f"{name}.txt").write_text(text, encoding="utf-8")

recipe = {
    "name": "docstrings",
    "target": "label",
    "data": {"source": str(folder / "texts"), "reading": {"format": "text"}, "ignore": ["file"]},
    "selection": {"families": ["linear", "kernel"]},
    "tune": {"trials": 0},
    "split": {"folds": 3},
}
done = mlsys.run(recipe, until="evaluate", store=folder / "store", cluster=False)
print(f"\n{done.family}: accuracy {done.metrics['accuracy']:.3f} of three classes")

import polars as pl  # noqa: E402  (where it is used)

asked = pl.DataFrame({"text": ["Compute the inverse of a matrix.", "Join two data frames on a column."]})
print(done.predictor().predict(asked))
