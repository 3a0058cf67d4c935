"""Step 4, selection, and the steps before it, as a job.

Submit it from the repository::

    ray job submit --working-dir . -- python jobs/selection.py --recipe jobs/recipes/penguins.yaml
"""

from __future__ import annotations

from mlsys import cli

if __name__ == "__main__":
    cli.job("selection")
