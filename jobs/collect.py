"""Step 1, collect, and what it needs, as a job: ``ray job submit --working-dir . -- python jobs/collect.py --recipe jobs/recipes/penguins.yaml``."""

from __future__ import annotations

from mlsys import cli

if __name__ == "__main__":
    cli.job("collect")
