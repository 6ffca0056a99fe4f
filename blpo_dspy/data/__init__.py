"""Labelled examples: tables, splits, labels, images, sources."""
