"""The closed set of labels, and how an answer is read as one of them."""
