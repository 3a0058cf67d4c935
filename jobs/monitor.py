"""Step 9, monitor, as a job: the predictions of a registered model, by its name or that of a recipe.

Submit it from the repository; it ends with 3 to watch the model, 4 to train it again::

    ray job submit --working-dir . -- python jobs/monitor.py --name penguins
"""

from __future__ import annotations

from mlsys import cli

if __name__ == "__main__":
    cli.job("monitor")
