"""The complete machine-learning workflow on one Ray cluster."""

__version__ = "0.1.0"
