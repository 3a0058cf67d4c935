"""A picture set: handwritten digits as PNG files, a folder a class.

python jobs/examples/picture_set.py [FOLDER]
"""

import sys
from pathlib import Path

import polars as pl
from PIL import Image
from sklearn.datasets import load_digits

import mlsys

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "picture_set")
digits = load_digits()
NUM_PICTURES = 600

for number, (pixels, label) in enumerate(zip(digits.images[:NUM_PICTURES], digits.target[:NUM_PICTURES], strict=True)):
    (folder / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15.9).astype("uint8")).save(folder / "digits" / str(label) / f"{number:04}.png")

recipe = {
    "name": "digits",
    "target": "label",
    "data": {"source": str(folder / "digits"), "ignore": ["file"]},
    "selection": {"families": ["linear", "kernel"]},
    "tune": {"trials": 0},
    "split": {"folds": 3},
}
done = mlsys.run(recipe, until="evaluate", store=folder / "store", cluster=False)
print(f"\n{done.family}: accuracy {done.metrics['accuracy']:.3f} of ten classes")

files = sorted((folder / "digits").rglob("*.png"))[:3]
answers = done.predictor().predict(pl.DataFrame({"image": [file.read_bytes() for file in files]}))
print(answers.select("prediction").with_columns(file=pl.Series([str(file.relative_to(folder)) for file in files])))
