"""Published sets of labelled images."""
