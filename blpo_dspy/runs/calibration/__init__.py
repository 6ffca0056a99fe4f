"""The confidence from which on a judge can be trusted."""
