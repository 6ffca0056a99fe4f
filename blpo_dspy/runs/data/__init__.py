"""The labelled examples of a run, and whether its test set was used before."""
