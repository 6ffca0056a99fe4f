"""Commands for the labels of people."""
