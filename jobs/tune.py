"""Step 7, tune, and what it needs, as a job: ``ray job submit --working-dir . -- python jobs/tune.py --recipe jobs/recipes/penguins.yaml``."""

from __future__ import annotations

from mlsys import cli

if __name__ == "__main__":
    cli.job("tune")
