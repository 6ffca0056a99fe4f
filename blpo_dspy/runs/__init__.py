"""A whole run, from labelled data to a judge file and its record."""
