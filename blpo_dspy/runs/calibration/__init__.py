"""The confidence above which a judge can be trusted."""
