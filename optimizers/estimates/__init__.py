"""Calls, tokens, dollars and time of a run before it starts."""
