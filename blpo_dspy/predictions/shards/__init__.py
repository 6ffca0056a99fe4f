"""Predictions in shards, judged by several processes or on a cluster."""
