"""A number for a whole collection from a judge's verdicts and some labels, and signs that a collection has changed."""
