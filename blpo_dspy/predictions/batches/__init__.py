"""Predictions through a provider's batch endpoint."""
