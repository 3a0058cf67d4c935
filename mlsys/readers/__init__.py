"""Read sources: one protocol for collection, batch prediction, labels and feature tables."""
